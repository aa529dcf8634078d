"""From an arm's order to the sequences and packs of each of its optimizer steps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from delia_ray.config import Arm, Mix
from delia_ray.mix.draws import Deal, Draw, Ints, Ranked, Shuffled, Split, shares
from delia_ray.mix.index import Index
from delia_ray.mix.order import Order, Picks, Windows, needed, phases
from delia_ray.packing import loads, pack

_CHUNK = 65_536
"""Positions that are laid down at a time."""


@dataclass(frozen=True)
class Lay:
    """What stands at some positions: for each, the sequences of its row, in order."""

    sequence: Ints
    position: Ints
    """Of each sequence; a split row has several at its position."""


def make_order(mix: Mix, arm: Arm, index: Index, seed: int, batch_size: int) -> Order:
    """The order of an arm.

    Raises:
        ValueError: too few rows, in words that name the numbers.
    """
    if not index.rows:
        raise ValueError("the mix needs at least one downstream row")
    constant = mix.ratio if arm.ratio is None else arm.ratio
    windows = Windows(seed, phases(constant, mix.schedule if arm.ratio is None else (), batch_size))
    want = needed(windows, index.rows)
    if want > index.pool and not (mix.repeat and index.pool):
        ratio = max(p.ratio for p in windows.phases)
        raise ValueError(
            f"ratio {float(ratio):g} needs {want} diverse rows, the pool has {index.pool}"
        )
    downstream = _by_source(index.source_of(index.wording), seed, 2)
    return Order(windows, downstream, _diverse(mix, index, want, seed) if want else None)


def _by_source(source: Ints, seed: int, salt: int) -> Draw:
    """Every row once a round, the rows of each source evenly spread."""
    found = np.unique(source)
    if len(found) == 1:
        return Shuffled(seed, len(source), salt)
    lists = [np.flatnonzero(source == s) for s in found]
    deal = Deal([Fraction(len(rows)) for rows in lists], seed)
    parts = [Ranked(r, Shuffled(seed, len(r), salt + 8 * (n + 1))) for n, r in enumerate(lists)]
    return Split(deal, parts, len(source))


def _diverse(mix: Mix, index: Index, want: int, seed: int) -> Draw:
    """The diverse rows that an arm uses; always a prefix of each source, so that a larger
    ratio uses the rows of a smaller one and more."""
    source = index.source_of(index.diverse)
    used = Shuffled(seed, min(want, index.pool), 3)
    if index.ranking is not None:
        return Ranked(index.ranking, used)
    if mix.strategy == "uniform" or len(index.weights) == 1:
        return used
    lists = [np.flatnonzero(source == s) for s in np.unique(source)]
    sizes = np.array([len(rows) for rows in lists], float)
    weights = (np.array(index.weights) * sizes) ** (1 / mix.temperature)
    if mix.strategy == "token_balanced":
        tokens = index.tokens[index.first[index.diverse]]
        weights /= [float(tokens[rows].mean()) for rows in lists]
    deal = Deal(shares(weights.tolist()), seed)
    parts: list[Draw] = []
    for number, (rows, count) in enumerate(zip(lists, deal.counts(want), strict=True)):
        if count > len(rows) and not mix.repeat:
            raise ValueError(
                f"mix.strategy={mix.strategy} needs {count} rows of {index.names[number]}, "
                f"which has {len(rows)}"
            )
        own = Shuffled(seed, max(1, min(count, len(rows))), 3 + 8 * (number + 1))
        parts.append(Ranked(rows, own))
    return Split(deal, parts, want)


def lay_down(
    order: Order, index: Index, positions: Ints, reworded: bool, paired: bool = False
) -> Lay:
    """The sequences at ``positions``.

    A downstream row takes its wordings in turn, each row starting at another one, so that
    every round over the rows holds all kinds of wordings; ``paired``, two of them at a time.
    """
    picks = order.at(positions)
    items = _items(picks, index, reworded)
    if paired and reworded:
        several = picks.downstream.copy()
        several[picks.downstream] = index.wordings[picks.row[picks.downstream]] > 1
        other = _items(picks._replace(round=picks.round + 1), index, reworded)
        at = np.flatnonzero(several) + 1
        items, positions = np.insert(items, at, other[several]), np.insert(
            positions, at, positions[several]
        )  # fmt: skip
    pieces = index.pieces[items]
    sequence = np.repeat(index.first[items], pieces)
    if len(sequence) > len(items):
        within = np.arange(len(sequence)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        sequence = sequence + within
    return Lay(sequence, np.repeat(positions, pieces))


def _items(picks: Picks, index: Index, reworded: bool) -> Ints:
    items = np.empty(len(picks.row), np.int64)
    down = picks.downstream
    items[~down] = index.diverse[picks.row[~down]]
    row = picks.row[down]
    turn = (picks.round[down] + row) % index.wordings[row] if reworded else 0
    items[down] = index.wording[row] + turn
    return items


@dataclass(frozen=True)
class StepPlan:
    """All optimizer steps of an arm, laid down a stretch at a time."""

    order: Order
    index: Index
    steps: int
    batch_size: int
    reworded: bool = True
    paired: bool = False

    def __iter__(self) -> Iterator[Lay]:
        """Whole steps, some ten thousand positions at a time."""
        end = self.steps * self.batch_size
        size = max(1, _CHUNK // self.batch_size) * self.batch_size
        for start in range(0, end, size):
            positions = np.arange(start, min(start + size, end))
            yield lay_down(self.order, self.index, positions, self.reworded, self.paired)

    def tokens(self) -> Ints:
        """(steps,) tokens of each step."""
        total = np.zeros(self.steps, np.int64)
        for lay in self:
            weights = self.index.tokens[lay.sequence]
            total += np.bincount(
                lay.position // self.batch_size, weights, minlength=self.steps
            ).astype(np.int64)
        return total


@dataclass
class Packed:
    """How full the packs are."""

    packs: int
    """In each step."""
    tokens: int = 0
    slots: int = 0
    """What the packs take when each is as long as the longest of its step."""

    @property
    def efficiency(self) -> float:
        return self.tokens / max(1, self.slots)


def packed_steps(
    steps: StepPlan, packed: Packed, each: Callable[[Lay], None]
) -> Iterator[tuple[list[Ints], list[npt.NDArray[np.int32]]]]:
    """For each step its sequences and the pack of each, a stretch of steps at a time; fills
    ``packed`` on the way, and shows ``each`` stretch."""
    tokens = steps.index.tokens
    for lay in steps:
        each(lay)
        borders = np.flatnonzero(np.diff(lay.position // steps.batch_size)) + 1
        sequences, packs = np.split(lay.sequence, borders), []
        for own in sequences:
            assigned = pack(tokens[own], packed.packs)
            load = loads(tokens[own], assigned, packed.packs)
            packed.tokens += int(load.sum())
            packed.slots += int(load.max()) * packed.packs
            packs.append(assigned.astype(np.int32))
        yield sequences, packs
