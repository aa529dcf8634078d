"""A limit on the CPU time of a piece of code, whatever else the machine does."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TooLong(AssertionError):
    """The code took longer than it may."""


@contextmanager
def cpu_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise ``TooLong`` within the block after so many seconds of this process's CPU time; also
    in the middle of a regular expression, which looks for signals while it searches."""

    def stop(*_: object) -> None:
        raise TooLong(f"more than {seconds:g} s of CPU: {what}")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def assert_linear(run: Callable[[str], object], text: Callable[[int], str], what: str) -> None:
    """``run`` on a text of 100,000 characters takes at most a second of CPU, and at most twelve
    times what it takes on a quarter of it (four, were a clock exact; the second time, when what is
    allocated once is there). 50 ms need no comparison."""
    long = _seconds(run, text(100_000), what)
    if long > 0.05:
        short = _seconds(run, text(25_000), what)
        long = min(long, _seconds(run, text(100_000), what))
        assert long < max(0.1, 12 * short), f"{short:.3f} s, then {long:.3f} s: {what}"


def _seconds(run: Callable[[str], object], text: str, what: str) -> float:
    with cpu_limit(1.0, what):
        begin = time.process_time()
        run(text)
        return time.process_time() - begin
