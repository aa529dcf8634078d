"""One run, one driver."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from delia_ray import lock
from delia_ray.artifacts import Folder, open_storage
from delia_ray.errors import DeliaError, UserError
from delia_ray.lock import LIMIT, Lock, held

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(lock, "_SETTLE", 0.05)
    local = request.param == "local"
    return open_storage(f"{tmp_path}/run" if local else f"memory://{tmp_path.name}/run")


def holder(run: Folder, **changes: Any) -> None:
    """Somebody holds ``run``: this process, but for ``changes``."""
    other = replace(Lock(run).holder, **changes)
    (run / lock.PLACE).write_json("00000004.json", asdict(other))


def test_the_second_is_told_who_runs_it(run: Folder) -> None:
    first = Lock(run)
    first.acquire()
    said = rf"process {os.getpid()} on \S+, since \d{{4}}-\d\d-\d\d .* UTC.*name="
    with pytest.raises(UserError, match=said):
        Lock(run).acquire()
    first.release()
    second = Lock(run)
    second.acquire()
    assert second.number == 2, "a number is never given back"
    assert (run / lock.PLACE).names() == ["00000002.json"]
    second.release()


def _nobody() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


DEAD = {
    "its process is gone": lambda: {"pid": _nobody()},
    "another process has its number": lambda: {"process_started": time.time() - 1e6},
    "it has left": lambda: {"ended": True, "machine": "another"},
    "no sign of life from another machine": lambda: {
        "machine": "another", "beat": time.time() - LIMIT - 1,
    },
    "the machine was started anew": lambda: {
        "machine": "this one before", "pid": os.getpid(), "beat": time.time() - LIMIT - 1,
    },
}  # fmt: skip
ALIVE = {
    "this process": dict,
    "its parent, though it said nothing for long": lambda: {
        "pid": os.getppid(), "process_started": lock._started(os.getppid()), "beat": 0.0,
    },
    "another machine, whose process is not seen": lambda: {"machine": "b", "pid": _nobody()},
    "another machine, some seconds ago": lambda: {"machine": "b", "beat": time.time() - LIMIT / 2},
}  # fmt: skip


@pytest.mark.parametrize("case", DEAD)
def test_the_lock_of_a_dead_holder_is_taken_over(case: str, run: Folder) -> None:
    holder(run, **DEAD[case]())
    own = Lock(run)
    own.acquire()
    assert own.number == 5
    own.release()


@pytest.mark.parametrize("case", ALIVE)
def test_the_lock_of_a_living_one_is_not(case: str, run: Folder) -> None:
    holder(run, **ALIVE[case]())
    with pytest.raises(UserError, match="another command works in this run") as raised:
        Lock(run).acquire()
    far = "another machine" in case
    assert ("sign of life" in str(raised.value)) is far
    assert (f"after {LIMIT:g} s" in str(raised.value)) is far


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "\x00\xff"])
def test_what_is_no_drivers_word_is_taken_over(text: str, run: Folder) -> None:
    (run / lock.PLACE).write_text("00000001.json", text)
    own = Lock(run)
    own.acquire()
    assert own.number == 2
    own.release()


def _try(url: str, go: Event, end: Event, told: Any) -> None:
    own = Lock(Folder(url))
    go.wait()
    try:
        own.acquire()
    except UserError:
        told.put(0)
    else:
        told.put(own.number)
        end.wait()
        own.release()


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    """Also when they take it from a dead one."""
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        run = Folder(str(tmp_path / f"{turn}"))
        if turn % 2:
            holder(run, pid=_nobody())
        go, end, told = context.Event(), context.Event(), context.Queue()
        tries = [
            context.Process(target=_try, args=(run.url, go, end, told), daemon=True)
            for _ in range(6)
        ]
        for one in tries:
            one.start()
        go.set()
        numbers = [told.get(timeout=30) for _ in tries]
        end.set()
        for one in tries:
            one.join()
        assert sorted(numbers) == [0] * 5 + [5 if turn % 2 else 1]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3-compatible storage."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1",
               "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}  # fmt: skip
    for name, value in options.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
    yield "s3://bucket"
    server.stop()


def test_an_object_store_creates_on_condition(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_SETTLE", 0.2)
    run = Folder(f"{bucket}/run")
    first, second = Lock(run), Lock(run)
    first.acquire()
    second.number = first.number
    assert not second._create(), "the storage itself refuses it"
    with pytest.raises(UserError, match="another command works"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_who_was_taken_for_dead_ends(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine that was suspended, and goes on."""
    monkeypatch.setattr(lock, "BEAT", 0.05)
    first = Lock(run)
    first.acquire()
    taker = replace(first.holder, machine="another", token="other", beat=time.time())
    (run / lock.PLACE).write_json("00000002.json", asdict(taker))
    until = time.monotonic() + 10
    while first.lost is None and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(DeliaError, match="was taken over by another driver"):
        first.check()
    first.release()
    left = json.loads((run / lock.PLACE).read_bytes("00000002.json"))
    assert not left["ended"], "what another wrote stays"


def test_a_sign_of_life_is_given(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with held(run) as own:
        until = time.monotonic() + 10
        while own._last()[1].beat == own.holder.beat and time.monotonic() < until:
            time.sleep(0.02)
        assert own._last()[1].beat > own.holder.beat
    assert own._last()[1].ended


def test_inside_a_lock_the_same_process_may_go_on(run: Folder) -> None:
    with held(run) as outer:
        with held(run) as inner:
            assert inner is outer
        assert not outer._last()[1].ended
        with pytest.raises(UserError):
            Lock(run).acquire()
    with held(run):
        pass


def _delia(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "delia_ray.cli", *words], cwd=cwd, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [("run", "name=a"), ("report", "runs/a"), ("synthesize", "--plan", "name=a"),
     ("study", "claims", "name=a"), ("sweep", "name=a", "--over", "mix.ratio=0,32")],
    ids=lambda words: words[0] + ("-plan" if "--plan" in words else ""),
)  # fmt: skip
def test_every_command_that_writes_asks_for_it(words: tuple[str, ...], tmp_path: Path) -> None:
    run = Folder(str(tmp_path / "runs" / ("a-sweep" if words[0] == "sweep" else "a")))
    run.write_json("config.json", {})
    if words[0] == "report":
        from delia_ray.config import RunConfig

        run.write_json("config.json", RunConfig(name="a").model_dump(mode="json"))
        needs = ("ingest", "synthesize", "mix", "finetune", "evaluate")
        run.write_json("stages.json", dict.fromkeys(needs, "0" * 16))
    before = run.read_bytes("config.json")
    with held(run):
        done = _delia(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"process {os.getpid()} on" in done.stderr
    assert "Traceback" not in done.stderr
    assert run.read_bytes("config.json") == before
    assert not run.exists("report.html")
