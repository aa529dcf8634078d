"""What killed processes leave in /dev/shm goes, and nothing of others."""

import contextlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil
import pytest

from delia_ray import shared_memory, stopping
from delia_ray.runtime import local

OWNER = """
import sys, time
from multiprocessing.shared_memory import SharedMemory
kept = SharedMemory(create=True, size=4096, track=False) if sys.version_info >= (3, 13) else None
if kept is None:
    from multiprocessing import resource_tracker
    kept = SharedMemory(create=True, size=4096)
    resource_tracker.unregister(kept._name, "shared_memory")  # as where the tracker is killed
print(kept.name, flush=True)
time.sleep(600)
"""


@pytest.fixture
def start() -> Iterator:
    begun: list[tuple[subprocess.Popen, Path]] = []

    def one(**environment: str) -> tuple[subprocess.Popen, Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True,
            env={"PATH": "", **environment},
        )  # fmt: skip
        path = shared_memory.FOLDER / process.stdout.readline().strip()
        begun.append((process, path))
        return begun[-1]

    yield one
    for process, path in begun:
        process.kill()
        process.wait()
        path.unlink(missing_ok=True)
    shared_memory._noted.clear()


def test_a_killed_process_leaves_its_memory(start) -> None:
    """Or there would be nothing to clean up."""
    process, path = start()
    process.kill()
    process.wait()
    assert path.exists()


def test_it_is_removed_once_the_process_is_dead(start) -> None:
    process, path = start()
    shared_memory.note([process.pid])
    assert shared_memory.remove_noted() == []
    assert path.exists()
    process.kill()
    process.wait()
    assert shared_memory.remove_noted() == [path]
    assert not path.exists()


def test_what_another_process_still_has_mapped_stays(start) -> None:
    process, path = start()
    here = SharedMemory(name=path.name)
    shared_memory.note([process.pid])
    process.kill()
    process.wait()
    assert shared_memory.remove_noted() == []
    assert path.exists()
    here.close()
    with contextlib.suppress(FileNotFoundError):
        here.unlink()


def test_other_runs_dead_or_alive_are_let_be(start) -> None:
    ours, path = start()
    theirs, alive = start()
    dead, left = start()
    dead.kill()
    dead.wait()
    shared_memory.note([ours.pid])
    ours.kill()
    ours.wait()
    assert shared_memory.remove_noted() == [path]
    assert alive.exists()
    assert left.exists()
    assert theirs.poll() is None


def test_a_process_that_is_gone_has_none() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert shared_memory.mapped(done.pid) == set()


def test_the_end_of_a_cluster_removes_its_own(start, tmp_path) -> None:
    folder = str(tmp_path / uuid.uuid4().hex)
    process, path = start(**{local.FOLDER: folder})
    other, kept = start(**{local.FOLDER: folder[:-1] + "x"})
    local.end_processes(Path(folder))
    process.wait(5)
    assert not path.exists()
    assert kept.exists()
    assert other.poll() is None


def test_a_stopped_command_removes_its_own(start, monkeypatch) -> None:
    process, path = start()
    kept = psutil.Process(process.pid)
    monkeypatch.setattr(stopping, "_descendants", lambda: [kept] if kept.is_running() and
                        kept.status() != psutil.STATUS_ZOMBIE else [])  # fmt: skip
    assert stopping.kill_descendants() == []
    assert not path.exists()
