"""A command ends when it is asked to, whatever it is doing, with nothing of it left."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

HEAD = """
import ctypes, os, subprocess, sys, threading, time
from delia_ray import stopping

def ready(*pids):
    print("ready", *pids, flush=True)

def say(text):
    print(text, flush=True)
"""
TAIL = """
try:
    code = stopping.{run}(work)
except KeyboardInterrupt:
    print(stopping.message(), file=sys.stderr)
    code = stopping.exit_code()
sys.exit(code)
"""


class Command:
    """A process that runs ``work`` as the command line does."""

    def __init__(self, work: str, run: str = "run", before: str = "") -> None:
        text = before + HEAD + textwrap.dedent(work) + TAIL.format(run=run)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
            start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        first = self.process.stdout.readline().split()
        assert first[:1] == ["ready"], self.process.communicate()
        self.started = [int(pid) for pid in first[1:]]

    def send(self, *numbers: int, group: bool = False, apart: float = 0.3) -> tuple[int, float]:
        """(exit code, seconds) after the signals."""
        began = time.monotonic()
        for number in numbers:
            (os.killpg if group else os.kill)(self.process.pid, number)
            if number is not numbers[-1]:
                time.sleep(apart)
        self.out, self.err = self.process.communicate(timeout=30)
        return self.process.returncode, time.monotonic() - began

    def left(self) -> list[int]:
        return [pid for pid in self.started if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def command(work: str, run: str = "run", before: str = "") -> Iterator[Command]:
    made = Command(work, run, before)
    try:
        yield made
    finally:
        for pid in (made.process.pid, *made.started):
            if _runs(pid):
                os.kill(pid, signal.SIGKILL)


CHILDREN = """
def work():
    # One of its own session that outlives its parent, as a daemon does; one that hears no signal.
    daemon = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; "
    daemon += "time.sleep(60)'], start_new_session=True, stdout=subprocess.DEVNULL); print(p.pid)"
    first = int(subprocess.run([sys.executable, "-c", daemon], stdout=subprocess.PIPE).stdout)
    deaf = "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); "
    second = subprocess.Popen([sys.executable, "-c", deaf + "time.sleep(60)"]).pid
    ready(first, second)
    while True:
        time.sleep(0.01)
"""
SAID = {
    signal.SIGINT: "Interrupted. Run the same command again to resume.\n",
    signal.SIGTERM: "Terminated. Run the same command again to resume.\n",
    signal.SIGHUP: "Ended by SIGHUP. Run the same command again to resume.\n",
}


@pytest.mark.parametrize("number", SAID)
@pytest.mark.parametrize("group", [False, True])
def test_a_signal_ends_it_and_all_that_it_started(number: int, group: bool) -> None:
    with command(CHILDREN) as own:
        assert len(own.left()) == 2
        code, seconds = own.send(number, group=group)
        assert (code, own.err, own.left()) == (128 + number, SAID[number], [])
        assert seconds < 5


DEAF = {
    "waits for a lock": "threading.Lock().acquire() and None or (l := threading.Lock()).acquire()"
    " and l.acquire()",
    "sleeps in C": "ctypes.CDLL(None).sleep(60)",
    "swallows": """
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
    """,
    "never ends its cleaning up": """
    try:
        time.sleep(60) if False else [time.sleep(0.01) for _ in range(6000)]
    finally:
        time.sleep(60)
    """,
}


@pytest.mark.parametrize("case", DEAF)
def test_work_that_does_not_listen_is_ended_all_the_same(case: str) -> None:
    body = textwrap.indent(textwrap.dedent(DEAF[case]).strip(), "    ")
    with command(f"def work():\n    ready()\n{body}\n") as own:
        code, seconds = own.send(signal.SIGTERM)
        assert (code, own.err) == (143, SAID[signal.SIGTERM])
        assert seconds < 8


THIEVES = {
    "C code ignores it": "ctypes.CDLL(None).signal(15, ctypes.c_void_p(1))",
    "C code dies of it": "ctypes.CDLL(None).signal(15, ctypes.c_void_p(0))",
}


@pytest.mark.parametrize("case", THIEVES)
def test_a_library_that_takes_the_signal_over_does_not_keep_it(case: str) -> None:
    """As Ray's core does with SIGTERM when it connects."""
    work = f"def work():\n    {THIEVES[case]}\n    time.sleep(0.5)\n    ready()\n    time.sleep(60)"
    with command(work) as own:
        assert own.send(signal.SIGTERM)[0] == 143
        assert own.err == SAID[signal.SIGTERM]


def test_a_second_signal_ends_it_at_once() -> None:
    work = """
    def work():
        child = subprocess.Popen(["sleep", "60"])
        ready(child.pid)
        with stopping.gently(lambda: True, 50):
            time.sleep(60)
    """
    with command(work) as own:
        code, seconds = own.send(signal.SIGINT, signal.SIGTERM)
        assert (code, own.err, own.left()) == (130, SAID[signal.SIGINT], [])
        assert seconds < 3


GENTLY = """
asked = threading.Event()
def ask():
    asked.set()
    return {useful}
def work():
    try:
        with stopping.gently(ask, 20):
            ready()
            asked.wait()
            time.sleep(0.5)
            say("saved")
        say("never")
    finally:
        say("left")
"""


def test_work_that_is_asked_may_end_by_itself() -> None:
    with command(GENTLY.format(useful=True)) as own:
        code, seconds = own.send(signal.SIGTERM)
        assert (code, own.out, own.err) == (143, "saved\nleft\n", SAID[signal.SIGTERM])
        assert seconds < 5


def test_where_asking_is_of_no_use_nobody_waits() -> None:
    work = GENTLY.format(useful=False).replace("time.sleep(0.5)", "time.sleep(0.5); time.sleep(60)")
    with command(work) as own:
        assert own.send(signal.SIGTERM)[0] == 143
        assert "saved" not in own.out


def test_a_request_that_hangs_has_its_time() -> None:
    work = """
    def work():
        with stopping.gently(lambda: time.sleep(60), 0.5):
            ready()
            while True:
                time.sleep(0.01)
    """
    with command(work) as own:
        code, seconds = own.send(signal.SIGINT)
        assert code == 130
        assert seconds < 4


def test_a_result_is_not_published_after_a_signal() -> None:
    """A library that takes the interruption for the end of its input returns half of it."""
    work = """
    def work():
        try:
            ready()
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            pass
        stopping.check()
        say("published")
    """
    with command(work) as own:
        assert own.send(signal.SIGINT)[0] == 130
        assert "published" not in own.out


def test_what_the_work_has_no_time_to_clean_up_is_cleaned_for_it(tmp_path: Path) -> None:
    (tmp_path / "session").mkdir()
    work = f"""
    import shutil
    def work():
        stopping.at_end(lambda: shutil.rmtree({str(tmp_path / "session")!r}))
        ready()
        ctypes.CDLL(None).sleep(60)
    """
    with command(work) as own:
        assert own.send(signal.SIGTERM)[0] == 143
    assert not (tmp_path / "session").exists()


def test_what_a_library_does_at_exit_is_not_waited_for() -> None:
    work = """
    import atexit
    def work():
        atexit.register(time.sleep, 60)
        ready()
        while True:
            time.sleep(0.01)
    """
    with command(work) as own:
        code, seconds = own.send(signal.SIGTERM)
        assert (code, own.err) == (143, SAID[signal.SIGTERM])
        assert seconds < 8


def test_nohup_keeps_it_from_hanging_up_and_a_background_job_hears_sigint() -> None:
    work = "def work():\n    ready()\n    time.sleep(1.5)\n    return 7"
    ignored = "import signal; signal.signal(signal.{0}, signal.SIG_IGN)\n"
    with command(work, before=ignored.format("SIGHUP")) as own:
        assert own.send(signal.SIGHUP)[0] == 7
    with command(work, before=ignored.format("SIGINT")) as own:
        assert own.send(signal.SIGINT)[0] == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_work_in_the_main_thread_is_interrupted_too(number: int, code: int) -> None:
    with command(CHILDREN, run="run_here") as own:
        assert own.send(number)[0] == code
        assert (own.err, own.left()) == (SAID[signal.Signals(number)], [])


def test_without_a_signal_the_result_and_the_error_come_through() -> None:
    with command("def work():\n    ready()\n    return 5") as own:
        own.process.wait()
        assert own.process.returncode == 5
    with command("def work():\n    ready()\n    raise ValueError('mine')") as own:
        _, said = own.process.communicate()
        assert "ValueError: mine" in said
