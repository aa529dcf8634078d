"""Ends a command when it is asked to: SIGINT (Ctrl-C), SIGTERM (Kubernetes, Slurm, Ray jobs) and
SIGHUP (a closed terminal).

The command's work runs in a thread, and the main thread does nothing but listen. So a signal is
heard whatever the work is doing, also inside C code, and no library comes between: Ray, Ray Train
and Ray Tune put handlers of their own in place where they run in the main thread, and Ray's C++
core does so in any case, which is why ours are put back over and over.

What happens at a signal: a training that runs is asked for a checkpoint (``gently``); the work is
interrupted; whatever processes this one has started, directly or not, are killed; the process
ends with 128 + the signal's number. Each step has its limit of seconds, and a second signal ends
the waiting.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn, TypeVar

import psutil

from delia_ray import shared_memory

Result = TypeVar("Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNWIND = 3.0
"""Seconds that interrupted work has to leave (files closed, the cluster given back)."""
_TICK = 0.05
"""Seconds between two looks of the main thread."""
_KILL = 3.0
"""Seconds within which killed processes must be gone."""
_PR_SET_CHILD_SUBREAPER = 36
"""Of prctl(2)."""


class Stopped(KeyboardInterrupt):
    """Raised in the work when a signal has come. No ``Exception``: nothing is to be mended."""


class _State:
    """Of this process: there is one set of signal handlers, too."""

    def __init__(self) -> None:
        self.received: list[int] = []
        """Signals, in their order."""
        self.worker: threading.Thread | None = None
        self.asks: list[tuple[Callable[[], bool], float]] = []
        """What to ask for before the end, and for how many seconds to wait for it."""
        self.at_end: list[Callable[[], None]] = []
        self.leaving = False
        """Whether the work is on its way out, and must not be interrupted once more."""
        self.stderr = 2


_state = _State()


def run(work: Callable[[], Result]) -> Result:
    """What ``work`` returns; runs it in a thread and ends the process when a signal asks for it.

    Raises:
        BaseException: what ``work`` raised.
    """
    _arm(_note)
    _adopt_orphans()
    outcome: list[Result] = []
    raised: list[BaseException] = []

    def do() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            raised.append(error)

    _state.stderr = os.dup(2)  # what the work does to descriptor 2 is its own affair
    _state.worker = threading.Thread(target=do, name="work", daemon=True)
    _state.worker.start()
    while _state.worker.is_alive():
        _state.worker.join(_TICK)
        _arm(_note)
        if _state.received:
            _stop(_state.worker)
    if _state.received:  # at the very end
        _end_now()
    if raised:
        raise raised[0]
    return outcome[0]


def run_here(work: Callable[[], Result]) -> Result:
    """What ``work`` returns; for work that needs the main thread (a terminal, or handlers of its
    own). SIGTERM interrupts it as Ctrl-C does.

    Raises:
        Stopped: a signal interrupted the work.
    """
    _arm(_raise)
    _state.stderr = os.dup(2)
    _adopt_orphans()
    try:
        result = work()
    except KeyboardInterrupt:
        kill_descendants()
        raise Stopped from None
    return result


def exit_code() -> int:
    """128 + the number of the first signal; 130 where none was seen."""
    return 128 + (_state.received[0] if _state.received else signal.SIGINT)


def message() -> str:
    """What to say at the end."""
    first = _state.received[0] if _state.received else signal.SIGINT
    name = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}.get(
        signal.Signals(first), f"Ended by {signal.Signals(first).name}"
    )
    return f"{name}. Run the same command again to resume."


def asked() -> bool:
    """Whether a signal has come."""
    return bool(_state.received)


def check() -> None:
    """Leave the work if a signal has come; for long loops, and before a result is published.

    A library may have taken the interruption for an end of its input.

    Raises:
        Stopped: it has. Only in the work's own thread, which can leave it.
    """
    if _state.received and threading.current_thread() in (
        _state.worker, threading.main_thread()
    ):  # fmt: skip
        _state.leaving = True
        raise Stopped


@contextlib.contextmanager
def gently(ask: Callable[[], bool], seconds: float) -> Iterator[None]:
    """While this lasts, a signal does not interrupt the work at once: ``ask`` is called, and the
    work has ``seconds`` to end by itself.

    Args:
        ask: tells the work to end; returns False where waiting is of no use.
        seconds: how long.

    Raises:
        Stopped: in the end, where a signal came.
    """
    entry = (ask, seconds)
    _state.asks.append(entry)
    try:
        yield
    finally:
        _state.leaving = asked()
        _state.asks.remove(entry)
    check()


def at_end(clean: Callable[[], None]) -> None:
    """``clean`` is called where the work does not leave in time, after all processes were
    killed; work that leaves cleans up by itself."""
    _state.at_end.append(clean)


def kill_descendants(seconds: float = _KILL) -> list[int]:
    """SIGKILL every process that this one has started, directly or not; ids of those that did
    not go within ``seconds``."""
    until = time.monotonic() + seconds
    while left := _descendants():
        shared_memory.note(process.pid for process in left)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        _reap()
        if time.monotonic() > until:
            return [p.pid for p in left]
        time.sleep(0.02)  # whose parent is dead becomes a child of this process
    _reap()
    shared_memory.remove_noted()
    return []


# --- pieces ---------------------------------------------------------------------------


def _arm(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in SIGNALS:
        # Under nohup SIGHUP is ignored, and stays so. A shell's background jobs begin with SIGINT
        # ignored, but then whoever sends it means it.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _note(number: int, frame: FrameType | None) -> None:
    _state.received.append(number)
    if len(_state.received) > 1:
        _end_now()


def _raise(number: int, frame: FrameType | None) -> None:
    _state.received.append(number)
    if len(_state.received) > 2:  # one may have been answered by a question
        _end_now()
    raise Stopped


def _stop(worker: threading.Thread) -> NoReturn:
    """Let the work leave, then see to it that nothing is left."""
    for ask, seconds in list(_state.asks):
        if _answers(ask, seconds):
            _wait(lambda: not _state.asks or not worker.is_alive(), seconds)
    if not _state.leaving:  # raised as soon as the thread runs Python code again
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(worker.ident or 0), ctypes.py_object(Stopped)
        )
    _wait(lambda: not worker.is_alive(), UNWIND)
    # Not by way of Python's own end: what libraries do there may take its time, or crash now that
    # what they had started is gone.
    _end_now()


def _answers(ask: Callable[[], bool], seconds: float) -> bool:
    """What ``ask`` says; False where it says nothing in time, as of a storage that hangs."""
    said: list[bool] = []

    def call() -> None:
        with contextlib.suppress(Exception):
            said.append(ask())

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(said and said[0])


def _wait(until: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            return False
        time.sleep(_TICK)
        _arm(_note)
    return True


def _end_now() -> NoReturn:
    kill_descendants()
    for stream in (sys.stdout, sys.stderr):
        _answers(lambda stream=stream: stream.flush() is None, 1.0)  # type: ignore[misc]
    for clean in reversed(_state.at_end):
        _answers(lambda clean=clean: clean() is None, 1.0)  # type: ignore[misc]
    with contextlib.suppress(OSError):
        shown = "\x1b[?25h\r\x1b[K" if os.isatty(_state.stderr) else ""  # a bar hides the cursor
        os.write(_state.stderr, f"{shown}{message()}\n".encode())
    os._exit(exit_code())


def _descendants() -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [
            p for p in psutil.Process().children(recursive=True)
            if p.is_running() and p.status() != psutil.STATUS_ZOMBIE
        ]  # fmt: skip
    return []


def _adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent dies (Linux), so that they
    can be found: a daemon's, or a worker's whose Ray is gone."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
