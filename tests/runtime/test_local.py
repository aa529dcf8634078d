"""Starting a cluster of this machine, and what is left of it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from delia_ray.runtime import local

START = """
import json, os, signal, sys, tempfile, threading, time
from pathlib import Path
import psutil
from delia_ray import runtime
from delia_ray.config import RunConfig

struck = []

def strike():
    # Fast: a GCS that anybody has connected to takes its whole driver along.
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    while not struck:
        for pid in map(int, children.read_text().split()):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "gcs_server":
                os.kill(pid, signal.SIGKILL)
                struck.append(pid)
        time.sleep(0.002)

os.environ.update(RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="another", RAY_REDIS_ADDRESS="x:1")
names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_REDIS_ADDRESS", "TMPDIR")
before = {name: os.environ.get(name) for name in names}
threading.Thread(target=strike, daemon=True).start()
runtime.join(RunConfig(cluster={"num_cpus": 1}))
import ray

@ray.remote(num_cpus=0)
def seen():
    return {"path": sys.path, "flag": sys.flags.safe_path, "folder": os.getcwd(),
            "temporary": tempfile.gettempdir(), "private": runtime.private_folder(),
            "umask": os.umask(0o077)}

told = {"struck": len(struck), "cpus": ray.cluster_resources()["CPU"],
        "worker": ray.get(seen.remote()),
        "folders": [str(p) for p in Path(before["TMPDIR"]).glob("delia-*")]}
runtime.disconnect()
told["restored"] = {name: os.environ.get(name) for name in names} == before
told["left"] = [str(p) for p in Path(before["TMPDIR"]).glob("delia-*")]
told["running"] = [p.name() for p in psutil.Process().children(recursive=True)]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """On a disk from which nothing may be executed, where one can be mounted."""
    with tempfile.TemporaryDirectory(prefix="l", dir="/tmp") as name:
        mount = ["mount", "-t", "tmpfs", "-o", "noexec,size=512m", "tmpfs", name]
        mounted = os.getuid() == 0 and not subprocess.run(mount, capture_output=True).returncode
        yield Path(name)
        if mounted:
            subprocess.run(["umount", "-l", name], check=True)


@pytest.fixture(scope="module")
def told(temporary: Path) -> dict[str, Any]:
    """What a process saw whose first GCS was killed as soon as it came up.

    On a busy machine the strike may come too late, and Ray ends the whole process: again then.
    """
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-P", "-c", START], env={**os.environ, "TMPDIR": str(temporary)},
            cwd=temporary, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        if "Failed to connect to GCS" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.ray
def test_a_cluster_that_does_not_start_is_started_again(told: dict[str, Any]) -> None:
    assert told["struck"] == 1
    assert told["cpus"] == 1
    assert len(told["folders"]) == 1, "that of the first start is gone"


@pytest.mark.ray
def test_workers_import_nothing_from_the_drivers_folder(
    told: dict[str, Any], temporary: Path
) -> None:
    worker = told["worker"]
    assert worker["folder"] == str(temporary)
    assert worker["flag"]
    assert str(temporary) not in worker["path"]
    assert "" not in worker["path"]


@pytest.mark.ray
def test_what_workers_write_is_private(told: dict[str, Any]) -> None:
    assert told["worker"]["umask"] == 0o077
    assert [told["worker"]["private"]] == told["folders"]
    assert told["worker"]["temporary"].startswith(told["worker"]["private"] + "/")


@pytest.mark.ray
def test_the_end_leaves_nothing_and_restores_the_environment(told: dict[str, Any]) -> None:
    assert told["left"] == []
    assert told["running"] == []
    assert told["restored"]


def test_what_was_started_for_a_cluster_is_ended_with_it(tmp_path: Path) -> None:
    code = "import os, sys, time; print(1, flush=True); time.sleep(100)"
    mine, another, named = (
        subprocess.Popen(
            [sys.executable, "-c", code, word], env={**os.environ, local.FOLDER: folder},
            stdout=subprocess.PIPE, start_new_session=True,
        )
        for word, folder in (("x", str(tmp_path)), ("x", "/another"), (str(tmp_path / "r"), ""))
    )  # fmt: skip
    for one in (mine, another, named):
        assert one.stdout is not None
        one.stdout.readline()
    local.end_processes(tmp_path)
    for one in (mine, named):
        one.wait(10)  # long before it would have ended by itself
    assert another.poll() is None
    another.kill()
    another.wait()


def test_what_a_cluster_wrote_before_it_died_is_told(tmp_path: Path) -> None:
    logs = tmp_path / "r" / "session_2026" / "logs"
    logs.mkdir(parents=True)
    (logs / "gcs_server.err").write_text("one\ntwo\nthree\nfour\n")
    (logs / "old").mkdir()
    said = local.last_words(tmp_path)
    assert said.splitlines() == [f"gcs_server.err: {n}" for n in ("two", "three", "four")]
