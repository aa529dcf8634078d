"""The order of the mix: which row stands at which position, as pure arithmetic.

The sequence is cut into windows of ratio + 1 rows. Each window holds exactly one downstream
row, at a seeded offset, so every prefix of N positions holds floor or ceil of
N / (ratio + 1) downstream rows: they come evenly, where a random shuffle would leave long
stretches without any and crowd others. Position i is a function of (seed, ratio, sizes, i)
alone: nothing is stored, any worker can compute any part, and a resumed run goes on at
exactly the next row.

A fractional ratio has windows of floor or ceil of ratio + 1 rows, whose borders are
floor(k (ratio + 1)). A ratio that changes over the training is a list of phases: each has
windows of its own, and goes on with the rows where the phase before it ended. Which row the
n-th downstream or diverse one is, the draws say (``draws``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from delia_ray.mix.draws import Draw, Ints, mix64


class Picks(NamedTuple):
    """What stands at some positions; arrays of one length."""

    downstream: npt.NDArray[np.bool_]
    """Whether it is a downstream row."""
    row: Ints
    """Which one: of the downstream rows, or of the pool in pool order."""
    round: Ints
    """How many whole rounds of its kind came before."""


class Phase(NamedTuple):
    """A stretch of one ratio."""

    start: int
    """Its first position."""
    ratio: Fraction
    """Diverse rows per downstream row."""


@dataclass(frozen=True)
class Windows:
    """Where downstream rows stand: the part of the order that knows no rows.

    Raises:
        ValueError: a negative ratio, no phases, or phases that do not start at 0 and rise.
    """

    seed: int
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        starts = [p.start for p in self.phases]
        if not starts or starts[0] != 0 or sorted(set(starts)) != starts:
            raise ValueError(f"phases must start at 0 and rise, got {starts}")
        if (least := min(p.ratio for p in self.phases)) < 0:
            raise ValueError(f"the ratio must not be negative, got {float(least):g}")

    @cached_property
    def _before(self) -> list[int]:
        """Downstream rows before each phase."""
        found = [0]
        for number, phase in enumerate(self.phases[1:]):
            length = np.array([phase.start - self.phases[number].start])
            found.append(found[-1] + int(self._count(number, length)[0]))
        return found

    def at(self, positions: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], Ints]:
        """(whether a downstream row stands there, how many rows of that kind came before)."""
        position = np.asarray(positions, dtype=np.int64)
        downstream, nth = np.zeros(len(position), bool), np.empty_like(position)
        starts = np.array([p.start for p in self.phases])
        for number in np.unique(np.searchsorted(starts, position, side="right") - 1):
            phase = self.phases[number]
            end = self.phases[number + 1].start if number + 1 < len(self.phases) else None
            own = (position >= phase.start) & (True if end is None else position < end)
            local = position[own] - phase.start
            here = self._count(number, local)
            is_down = self._count(number, local + 1) > here
            came = here + self._before[number]
            downstream[own] = is_down
            nth[own] = np.where(is_down, came, position[own] - came)
        return downstream, nth

    def count(self, length: int) -> int:
        """Downstream rows among the first ``length`` positions."""
        number = max(n for n, p in enumerate(self.phases) if p.start <= length)
        local = np.array([length - self.phases[number].start])
        return self._before[number] + int(self._count(number, local)[0])

    def length(self, rows: int) -> int:
        """Positions up to the end of the window that holds the ``rows``-th downstream row."""
        number = max(n for n, before in enumerate(self._before) if before < rows or n == 0)
        phase = self.phases[number]
        end = phase.start + int(_border(phase.ratio, np.array([rows - self._before[number]]))[0])
        if number + 1 < len(self.phases):  # its last window may be cut off by the next phase
            end = min(end, self.phases[number + 1].start)
        return end

    def _count(self, number: int, length: Ints) -> Ints:
        """Downstream rows among the first ``length`` positions of a phase."""
        width = self.phases[number].ratio + 1
        # The last window whose border is <= length: ceil((length + 1) / width) - 1.
        window = -(-(length + 1) * width.denominator // width.numerator) - 1
        start = _border(width - 1, window)
        size = _border(width - 1, window + 1) - start
        hashed = mix64(window, self.seed + 0x9E37 * number, 1)
        offset = (hashed % size.astype(np.uint64)).astype(np.int64)
        return window + (length > start + offset)


@dataclass(frozen=True)
class Order:
    """The sequence of one arm: the windows, and what is drawn into them."""

    windows: Windows
    downstream: Draw
    diverse: Draw | None
    """None where no position is diverse (ratio 0)."""

    @property
    def epoch(self) -> int:
        """Positions in which every downstream row comes once."""
        return self.windows.length(self.downstream.size)

    def at(self, positions: npt.ArrayLike) -> Picks:
        """What stands at ``positions`` (any int array, any order)."""
        downstream, nth = self.windows.at(positions)
        row, turn = np.empty_like(nth), np.empty_like(nth)
        for kind, draw in ((downstream, self.downstream), (~downstream, self.diverse)):
            if draw is not None and kind.any():
                row[kind], turn[kind] = draw.at(nth[kind])
        return Picks(downstream, row, turn)


def needed(windows: Windows, rows: int) -> int:
    """Diverse rows in the first epoch of ``rows`` downstream rows: ceil(ratio * rows) where
    the ratio is constant. The prefix of the pool that an arm uses."""
    length = windows.length(rows)
    if len(windows.phases) == 1:
        return int(-((-windows.phases[0].ratio * rows) // 1))
    return length - windows.count(length)


def phases(ratio: float, schedule: Sequence[Any], batch_size: int) -> tuple[Phase, ...]:
    """The phases of a constant ratio, or of a schedule of (from_step, ratio) pairs."""
    if not schedule:
        return (Phase(0, exact(ratio)),)
    return tuple(Phase(p.from_step * batch_size, exact(p.ratio)) for p in schedule)


def exact(ratio: float) -> Fraction:
    """The ratio that people mean by a decimal number: 0.1 is one tenth."""
    return Fraction(str(ratio)).limit_denominator(10**6)


def _border(ratio: Fraction, window: Ints) -> Ints:
    """First position of each window of a phase."""
    width = ratio + 1
    return window * width.numerator // width.denominator
