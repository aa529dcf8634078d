"""A run while another user of the machine looks for ways in; see ``stranger``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from delia_ray.runtime import private
from tests.runtime import stranger

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else"),
]
UID = 12345
METHOD = "InternalKVGcsService/InternalKVKeys"
SECRET = "planted-secret-value"
RECIPE = [
    "name=mine", "downstream.rows=16", "mix.ratio=0", "arms=[common]", "cluster.num_cpus=2",
    "corpus=[{path: corpus, format: miniature, rows: 20}]", "synthesize.reword.per_row=0",
    "synthesize.engine={type: transformers}", "evaluate.engine={type: transformers}",
    "evaluate.suites=[{name: plain, path: plain, format: miniature, rows: 8}]",
    "evaluate.summary=[]", "evaluate.probes=0", "finetune.workers=2", "finetune.steps=4000",
    "finetune.batch_size=4", "finetune.micro_batch_size=2", "finetune.checkpoint_every=4000",
]  # fmt: skip


@dataclass
class Run:
    """A run whose workers are training."""

    temporary: Path
    """Everybody may write there."""
    storage: Path
    private: Path
    listened: set[str] = field(default_factory=set)
    """Addresses that its processes listened on, up to now."""
    got: dict[str, Any] = field(default_factory=dict)
    """What the stranger brought home."""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    temporary = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    os.chmod(temporary, 0o1777)
    _plant(temporary)
    storage = temporary / "runs"
    with open(temporary / "screen.txt", "wb") as log:
        driver = subprocess.Popen(
            [sys.executable, "-P", "-m", "delia_ray.cli", "run", *RECIPE, f"storage={storage}"],
            stdout=log, stderr=log, cwd=temporary,
            env={**os.environ, "TMPDIR": str(temporary), "HF_TOKEN": SECRET},
        )  # fmt: skip
    made = Run(temporary, storage, Path())
    stop = threading.Event()
    watcher = threading.Thread(target=_listen, args=(driver.pid, made.listened, stop))
    watcher.start()
    try:
        _wait_for_training(driver, storage, temporary / "screen.txt")
        made.private = next(f for f in temporary.glob("delia-????????") if (f / "token").exists())
        made.got = _send(made, driver.pid)
        yield made
    finally:
        stop.set()
        watcher.join()
        every = _family(driver.pid)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        psutil.wait_procs(every, timeout=10)
        for one in every:
            if one.is_running():
                one.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def _plant(temporary: Path) -> None:
    """Names that could be guessed, taken by the other user."""
    for name in (f"delia-{os.getuid()}", "ray", "delia-0"):
        (temporary / name).mkdir(exist_ok=True)
        os.chown(temporary / name, UID, UID)
        os.chmod(temporary / name, 0o777)
    (temporary / "delia-planted1").symlink_to(temporary / "ray")
    os.lchown(temporary / "delia-planted1", UID, UID)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _listen(pid: int, found: set[str], stop: threading.Event) -> None:
    while not stop.wait(0.3):
        for one in _family(pid):
            try:
                found |= {
                    k.laddr.ip
                    for k in one.net_connections("inet")
                    if k.status == psutil.CONN_LISTEN
                }
            except psutil.Error:
                continue


def _wait_for_training(driver: "subprocess.Popen[bytes]", storage: Path, screen: Path) -> None:
    until = time.monotonic() + 500
    while not list(storage.glob("mine/finetune/*/progress.json")):
        assert driver.poll() is None, screen.read_text()
        assert time.monotonic() < until, screen.read_text()
        time.sleep(0.2)


def _send(run: Run, pid: int) -> dict[str, Any]:
    """Let the other user try everything, once."""
    told = {"pids": [p.pid for p in _family(pid)],
            "folders": [str(run.private), str(run.storage)]}  # fmt: skip
    done = subprocess.run(
        [sys.executable, stranger.__file__, str(UID)], input=json.dumps(told), text=True,
        capture_output=True, timeout=200, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def test_everything_listens_on_loopback_alone(run: Run) -> None:
    assert run.listened
    assert run.listened <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_no_file_can_be_read_and_no_link_planted(run: Run) -> None:
    assert (run.private / "token").stat().st_mode & 0o777 == 0o600
    assert len((run.private / "token").read_text()) == 64
    assert run.got["files"] == []
    assert run.got["memory"] == []
    assert list(run.storage.rglob("*.parquet"))


def test_nothing_can_be_replaced_and_what_was_planted_is_not_used(run: Run) -> None:
    assert run.got["replaced"] == []
    for name in (f"delia-{os.getuid()}", "ray", "delia-0"):
        assert list((run.temporary / name).iterdir()) == []


def test_no_process_can_be_looked_into(run: Run) -> None:
    assert run.got["processes"] == []
    shown = json.dumps(run.got["command lines"])
    assert "raylet" in shown
    assert (run.private / "token").read_text() not in shown
    assert SECRET not in shown


def test_no_socket_lets_strangers_in(run: Run) -> None:
    assert run.got["sockets"] > 0
    assert run.got["let in"] == []


def test_without_the_token_no_method_can_be_called(run: Run) -> None:
    """Nothing is read, no pickled function replaced, no task pushed, nothing ended."""
    calls = {port: made for port, made in run.got["calls"].items() if made is not None}
    assert len(calls) > 5
    for port, made in calls.items():
        assert set(made) <= {"UNAUTHENTICATED", "UNIMPLEMENTED"}, (port, made)
    refused = {method for made in calls.values() for method in made.get("UNAUTHENTICATED", [])}
    assert refused >= {
        METHOD, "InternalKVGcsService/InternalKVPut", "CoreWorkerService/PushTask",
        "NodeManagerService/RequestWorkerLease", "ObjectManagerService/Pull",
    }  # fmt: skip
    gcs = next(port for port, made in calls.items() if METHOD in made.get("UNAUTHENTICATED", []))
    with_token = stranger.call(int(gcs), (run.private / "token").read_text())
    assert METHOD in (with_token or {})["OK"], "the call is one that the token opens"


def test_pages_show_no_more_than_counts(run: Run) -> None:
    for pages in run.got["pages"].values():
        for status, text in pages.values():
            assert status in (0, 200, 401, 404)
            if status == 200:
                assert text.startswith("# HELP")
                for word in ("mine", SECRET, str(run.storage), "sep"):
                    assert f'"{word}"' not in text


def test_what_the_killed_run_leaves_is_removed_by_the_next(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.private not in private.remove_left(run.temporary), "it is still running"
    owner = psutil.Process(
        int(next(iter((run.private / "r").glob("session_2*"))).name.split("_")[-1])
    )
    owner.kill()
    psutil.wait_procs([owner], timeout=10)
    until = time.monotonic() + 10
    while run.private not in private.remove_left(run.temporary):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert not (run.private / "token").exists()
