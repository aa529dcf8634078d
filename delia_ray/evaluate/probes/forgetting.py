"""What an arm still does right, what it has forgotten and what it has learned."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """Of one group of rows, or of all."""

    rows: int
    before: float
    """Share of rows that the base has right, 0 to 1."""
    after: float
    """Share of rows that the arm has right."""
    forgotten: int
    """Rows right before and wrong after."""
    learned: int
    """Rows wrong before and right after."""


@dataclass(frozen=True)
class Forgetting:
    """An arm beside its base, on the same rows."""

    total: Change | None
    """None where there are no rows."""
    groups: dict[str, Change]
    """In the order of their first rows."""
    forgotten: list[int]
    """0-based indices of the rows, ascending."""
    learned: list[int]


def forgetting(
    before: Sequence[float], after: Sequence[float], groups: Sequence[str], right: float = 1.0
) -> Forgetting:
    """Compare two models' scores of the same rows.

    Args:
        before: score of each row, of the base.
        after: of the arm.
        groups: label of each row, such as the answer's format.
        right: lowest score of a right answer.

    Raises:
        ValueError: the three are of different lengths.
    """
    if not len(before) == len(after) == len(groups):
        raise ValueError(
            f"{len(before)} scores before, {len(after)} after and {len(groups)} groups; "
            "all must be of the same rows"
        )
    pairs = [(b >= right, a >= right) for b, a in zip(before, after, strict=True)]
    rows: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        rows.setdefault(group, []).append(i)
    return Forgetting(
        total=_change(pairs) if pairs else None,
        groups={group: _change([pairs[i] for i in own]) for group, own in rows.items()},
        forgotten=_where(pairs, (True, False)),
        learned=_where(pairs, (False, True)),
    )


def _change(pairs: Sequence[tuple[bool, bool]]) -> Change:
    return Change(
        rows=len(pairs),
        before=sum(b for b, _ in pairs) / len(pairs),
        after=sum(a for _, a in pairs) / len(pairs),
        forgotten=len(_where(pairs, (True, False))),
        learned=len(_where(pairs, (False, True))),
    )


def _where(pairs: Iterable[tuple[bool, bool]], wanted: tuple[bool, bool]) -> list[int]:
    return [i for i, pair in enumerate(pairs) if pair == wanted]
