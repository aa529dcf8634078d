"""How fast it goes now, and how long it will take, once that can be said.

What began a minute ago says little of now, and the first results less: an engine's first answers
are its shortest, and a first step loads and warms what later ones find warm. So a rate is of the
last ``WINDOW`` seconds, and an estimate is given only when all of this holds:

- results have come for at least ``SETTLED`` seconds after the first,
- ``warm`` things are done: as many as are worked on at once, or half of all where those are fewer,
- the rate of the window's later half is within a factor of ``STEADY`` of the whole window's.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW, SETTLED, STEADY = 60.0, 20.0, 1.5


class Pace:
    """Counts that grow, looked at now and then, by several threads.

    Args:
        warm: things that are worked on at the same time.
        clock: seconds from any moment on.
    """

    def __init__(self, warm: float = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.warm, self.clock = warm, clock
        self.lock = threading.RLock()
        self.points: deque[tuple[float, float, float]] = deque()
        """(when, things done, units done), the oldest first; one is older than the window."""
        self.first: float | None = None
        """When the first thing was seen done."""
        self.began: tuple[float, float] = (0.0, 0.0)

    def see(self, done: float, units: float = 0) -> None:
        """So much is done by now; less than before means that it began anew."""
        with self.lock:
            self._see(self.clock(), done, units)

    def _see(self, now: float, done: float, units: float) -> None:
        if self.points and (done, units) < self.points[-1][1:]:
            self.points.clear()
            self.first = None
        if not self.points:
            self.began = (done, units)
        if self.first is None and self.points and done > self.began[0]:
            self.first = now
        self.points.append((now, done, units))
        while len(self.points) > 2 and self.points[1][0] <= now - WINDOW:
            self.points.popleft()

    @property
    def started(self) -> bool:
        """Whether anything was done."""
        return self.first is not None

    def rates(self) -> tuple[float, float]:
        """(things, units) per second in the window that ends now; zeros while nothing is done."""
        with self.lock:
            return (0.0, 0.0) if self.first is None else self._between(self.points[0])

    def left(self, things: float, total: float) -> float | None:
        """Seconds that ``things`` more of ``total`` will take; None while nobody can say."""
        with self.lock:
            return self._left(self.clock(), things, total)

    def _left(self, now: float, things: float, total: float) -> float | None:
        if self.first is None or now - self.first < SETTLED:
            return None
        done = self.points[-1][1] - self.began[0]
        if done < min(self.warm, total / 2):
            return None
        middle = now - (now - self.points[0][0]) / 2
        half = max((p for p in self.points if p[0] <= middle), default=self.points[0])
        whole, late = self._between(self.points[0])[0], self._between(half)[0]
        if whole <= 0 or not 1 / STEADY < late / whole < STEADY:
            return None
        return things / whole

    def _between(self, since: tuple[float, float, float]) -> tuple[float, float]:
        then, done, units = since
        seconds = self.clock() - then
        last = self.points[-1]
        if seconds <= 0:
            return 0.0, 0.0
        return (last[1] - done) / seconds, (last[2] - units) / seconds


def span(seconds: float) -> str:
    """``3725`` -> ``1:02:05``; ``65`` -> ``1:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
