"""Which row the n-th draw of a kind is, as pure arithmetic.

A draw maps 0, 1, 2 ... to rows. One round of it uses each of its rows once; the next round
uses the same rows in another order. Every strategy of the mix is a draw, or builds one:
``Shuffled`` is the paper's, ``Ranked`` takes the best of a ranking first, ``Split`` divides
the draws among sources in fixed shares.

Contract: ``size`` is the number of draws in a round; ``at(n)`` gives the row and the round of
each of ``n`` (int64 array, any order). Nothing is stored that grows with n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_TURNS = 4
_LARGEST_SHARE = 2**20
"""Denominators of shares stay below this, so that draws x share fits 64 bits."""


class Drawn(NamedTuple):
    """What some draws are; arrays of one length."""

    row: Ints
    """Number of the row."""
    round: Ints
    """How many whole rounds came before."""


class Draw(Protocol):
    """See the module's text."""

    @property
    def size(self) -> int: ...

    def at(self, n: Ints) -> Drawn: ...


@dataclass(frozen=True)
class Shuffled:
    """Rows 0 .. size - 1 in a seeded order, another one in each round."""

    seed: int
    size: int
    salt: int = 0
    """Keeps draws of one seed apart."""

    def at(self, n: Ints) -> Drawn:
        turn, index = np.divmod(n, max(1, self.size))
        return Drawn(permute(index, self.size, mix64(turn, self.seed, self.salt)), turn)


@dataclass(frozen=True)
class Ranked:
    """The best rows of a ranking, in the order that ``inner`` has for their ranks."""

    ranking: Ints
    """Row numbers, best first; may be memory-mapped."""
    inner: Draw

    @property
    def size(self) -> int:
        return self.inner.size

    def at(self, n: Ints) -> Drawn:
        drawn = self.inner.at(n)
        return Drawn(np.asarray(self.ranking)[drawn.row].astype(np.int64), drawn.round)


@dataclass(frozen=True)
class Split:
    """``size`` draws a round, dealt out to ``parts`` in the shares of ``deal``.

    A part whose own round is as long as its share of the split's uses each of its rows once
    in every round of the split; a shorter one begins again, a longer one goes on.
    """

    deal: "Deal"
    parts: Sequence[Draw]
    size: int

    def at(self, n: Ints) -> Drawn:
        turn, within = np.divmod(n, max(1, self.size))
        part, index = self.deal.at(within)
        row = np.empty_like(n)
        for number, share in enumerate(self.deal.counts(self.size)):
            mine = part == number
            if mine.any():
                row[mine] = self.parts[number].at(index[mine] + turn[mine] * share).row
        return Drawn(row, turn)


class Deal:
    """Deals 0, 1, 2 ... out to parts in fixed shares, evenly: no chance, no state.

    A binary tree over the parts. A node with share p for its right side sends draw k there
    exactly when floor((k + 1) p + u) exceeds floor(k p + u), with a seeded u in [0, 1)
    (Bresenham's line). So a prefix of any length holds each part's share to within one row
    for each level of the tree, and counts never fall as the prefix grows.

    Raises:
        ValueError: no shares, or one that is not positive.
    """

    def __init__(self, shares: Sequence[Fraction], seed: int) -> None:
        if not shares or min(shares) <= 0:
            raise ValueError(f"shares must be positive, got {[float(s) for s in shares]}")
        self.parts = len(shares)
        self._root = _node(list(shares), 0, seed)

    def at(self, n: Ints) -> tuple[Ints, Ints]:
        """(part, how many draws of that part came before) of each of ``n``."""
        part, index = np.zeros_like(n), n.copy()
        stack: list[tuple[Any, Ints]] = [(self._root, np.arange(len(n)))]
        while stack:
            node, own = stack.pop()
            if not len(own):
                continue
            if isinstance(node, int):
                part[own] = node
                continue
            share, shift, left, right = node
            k = index[own]
            before = (k * share.numerator + shift) // share.denominator
            goes = ((k + 1) * share.numerator + shift) // share.denominator > before
            index[own] = np.where(goes, before, k - before)
            stack += [(left, own[~goes]), (right, own[goes])]
        return part, index

    def counts(self, n: int) -> list[int]:
        """How many of the first ``n`` draws each part gets."""
        found = [0] * self.parts
        stack: list[tuple[Any, int]] = [(self._root, n)]
        while stack:
            node, k = stack.pop()
            if isinstance(node, int):
                found[node] = k
                continue
            share, shift, left, right = node
            own = (k * share.numerator + shift) // share.denominator
            stack += [(left, k - own), (right, own)]
        return found


def _node(shares: list[Fraction], first: int, seed: int) -> Any:
    """A part's number, or (share of the right side, its phase, left node, right node)."""
    if len(shares) == 1:
        return first
    half = len(shares) // 2
    share = sum(shares[half:], Fraction(0)) / sum(shares, Fraction(0))
    shift = int(mix64(np.array([first, half]), seed, 4)[0] % np.uint64(share.denominator))
    return share, shift, _node(shares[:half], first, seed), _node(shares[half:], first + half, seed)


def shares(weights: Sequence[float]) -> list[Fraction]:
    """Weights as exact shares of one whole, to about six digits."""
    total = sum(weights)
    return [
        max(
            Fraction(1, _LARGEST_SHARE), Fraction(round(w / total * _LARGEST_SHARE), _LARGEST_SHARE)
        )
        for w in weights
    ]


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
        for turn in range(_TURNS):
            left, right = right, left ^ (mix64(right, key[todo], turn) & low)
        value[todo] = (left << np.uint64(half)) | right
        todo = todo[value[todo] >= size]
    return value.astype(np.int64)


def mix64(value: npt.NDArray[Any], seed: Any, salt: int) -> npt.NDArray[np.uint64]:
    """A hash of 64 bits (the finaliser of SplitMix64; Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        state = np.asarray(value).astype(np.uint64)
        for word in (np.asarray(seed).astype(np.uint64), np.uint64(salt + 1)):
            state = state + word * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state
