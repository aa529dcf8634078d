"""The order of the mix: which row stands at which position, as pure arithmetic.

The sequence is cut into windows of ratio + 1 rows. Each window holds exactly one downstream
row, at a seeded offset, so every prefix of N positions holds floor or ceil of
N / (ratio + 1) downstream rows: they come evenly, where a random shuffle would leave long
stretches without any and crowd others. Position i is a function of (seed, ratio, sizes, i)
alone: nothing is stored, any worker can compute any part, and a resumed run goes on at
exactly the next row.

A fractional ratio has windows of floor or ceil of ratio + 1 rows, whose borders are
floor(k (ratio + 1)). Both kinds of rows are drawn by seeded permutations: one pass over the
downstream rows, and one over the prefix of the pool that the ratio uses, before any row
comes again in another order.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_ROUNDS = 4


class Picks(NamedTuple):
    """What stands at some positions; arrays of one length."""

    downstream: npt.NDArray[np.bool_]
    """Whether it is a downstream row."""
    row: Ints
    """Which one: of the downstream rows, or of the pool in pool order."""
    cycle: Ints
    """How many whole passes over its kind came before."""


@dataclass(frozen=True)
class Order:
    """The sequence for ``rows`` downstream rows and a pool of ``pool`` diverse rows.

    Raises:
        ValueError: no downstream rows, a negative ratio, or a pool smaller than the ratio
            needs while ``repeat`` is off.
    """

    seed: int
    ratio: Fraction
    rows: int
    pool: int
    repeat: bool = False

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError("the mix needs at least one downstream row")
        if self.ratio < 0:
            raise ValueError(f"the ratio must not be negative, got {self.ratio}")
        if self.needed > self.pool and not (self.repeat and self.pool):
            raise ValueError(
                f"ratio {float(self.ratio):g} needs {self.needed} diverse rows, "
                f"the pool has {self.pool}"
            )

    @property
    def needed(self) -> int:
        """Length of the pool's prefix that the ratio asks for."""
        return -((-self.ratio * self.rows) // 1)

    @property
    def used(self) -> int:
        """Length of the pool's prefix that is there; smaller only with ``repeat``."""
        return min(self.needed, self.pool)

    @property
    def epoch(self) -> int:
        """Positions in which every downstream row comes once."""
        return int(self.border(np.array([self.rows]))[0])

    def border(self, window: Ints) -> Ints:
        """First position of each window."""
        width = self.ratio + 1
        return window * width.numerator // width.denominator

    def at(self, positions: npt.ArrayLike) -> Picks:
        """What stands at ``positions`` (any int array, any order)."""
        position = np.asarray(positions, dtype=np.int64)
        width = self.ratio + 1
        # The last window whose border is <= position: ceil((position + 1) / width) - 1.
        window = -(-(position + 1) * width.denominator // width.numerator) - 1
        start = self.border(window)
        size = self.border(window + 1) - start
        offset = (_mix64(window, self.seed, 1) % size.astype(np.uint64)).astype(np.int64)
        downstream = position == start + offset
        before = window + (position > start + offset)  # downstream rows at smaller positions
        occurrence = np.where(downstream, window, position - before)
        length = np.where(downstream, self.rows, max(self.used, 1))
        cycle = occurrence // length
        index = np.empty_like(position)
        for kind, size_, salt in ((True, self.rows, 2), (False, max(self.used, 1), 3)):
            chosen = downstream == kind
            index[chosen] = permute(
                occurrence[chosen] % size_, size_, _mix64(cycle[chosen], self.seed, salt)
            )
        return Picks(downstream, index, cycle)


def exact(ratio: float) -> Fraction:
    """The ratio that people mean by a decimal number: 0.1 is one tenth."""
    return Fraction(str(ratio)).limit_denominator(10**6)


def permute(index: Ints, size: int, key: npt.NDArray[np.uint64]) -> Ints:
    """Images of ``index`` (each in 0 .. size - 1) under the permutations that ``key`` names.

    A Feistel network over the next even number of bits, walked until the value falls below
    ``size`` (cycle walking; Black and Rogaway, CT-RSA 2002): a bijection, without a table.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    value = index.astype(np.uint64)
    todo = np.arange(len(value))
    while len(todo):
        left, right = value[todo] >> np.uint64(half), value[todo] & low
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mix64(right, key[todo], turn) & low)
        value[todo] = (left << np.uint64(half)) | right
        todo = todo[value[todo] >= size]
    return value.astype(np.int64)


def _mix64(value: npt.NDArray[Any], seed: Any, salt: int) -> npt.NDArray[np.uint64]:
    """A hash of 64 bits (the finaliser of SplitMix64; Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        state = np.asarray(value).astype(np.uint64)
        for word in (np.asarray(seed).astype(np.uint64), np.uint64(salt + 1)):
            state = state + word * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state
