"""Mean squares of scores that seeds and rows are crossed in; ``hierarchical`` says what for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from delia_ray.evaluate.statistics import Values

Table = npt.NDArray[np.float64] | Sequence[Sequence[float]]
"""Scores of one arm on one suite, (seeds, rows)."""
Suites = Mapping[str, Table]
"""Suite name -> table; the number of seeds is the same in all."""
Seeds = Literal["independent", "paired"]
"""``paired``: seed s of every arm shares something (data order, initial values), so that the
arms are compared seed by seed. ``independent``: each arm drew its own; too wide, never too
narrow, where seeds lift all arms together, and up to twice the degrees of freedom. Which of
the two is a matter of the study's design, to be settled before its scores are seen."""


@dataclass(frozen=True)
class Components:
    """Variances of single effects on the value, for planning the next study."""

    seed: float
    """Of one seed of one arm, on the mean over suites; the mean of the arms."""
    row: float
    """Of one row, on the contrast of the arms; the mean of the suites."""
    rest: float
    """Of one answer, beyond its seed and row; the mean of the arms and suites."""


def components(ours: Suites, theirs: Suites) -> Components:
    """Variance components of a difference with seeds of their own, none below 0.

    Raises:
        ValueError: as ``contrast``; or there is one seed or one row only.
    """
    arms = {"ours": ours, "theirs": theirs}
    tables = weighted(arms, {"ours": 1.0, "theirs": -1.0}, "independent")
    sizes = [t.shape for arm in tables for t in arm]
    if min(min(s) for s in sizes) < 2:
        raise ValueError(f"variance components need two seeds and two rows, got {sizes}")
    _, between_seeds, _, rest, _ = mean_squares(tables)
    seed = [(b - c) * len(arm[0]) for b, c, arm in zip(between_seeds, rest, tables, strict=True)]
    leftover = [[_leftover(t) for t in arm] for arm in tables]
    rows = [
        (a.mean(axis=0) + b.mean(axis=0)).var(ddof=1) - x / len(a) - y / len(b)
        for a, b, x, y in zip(*tables, *leftover, strict=True)
    ]
    return Components(
        seed=max(float(np.mean(seed)), 0.0),
        row=max(float(np.mean(rows)), 0.0),
        rest=float(np.mean(leftover)),
    )


def weighted(
    arms: Mapping[str, Suites], weights: Mapping[str, float], seeds: Seeds
) -> list[list[Values]]:
    """One list of tables for each arm that counts, times its weight; one in all if paired."""
    used = {arm: weight for arm, weight in weights.items() if weight}
    if unknown := sorted(set(used) - set(arms)):
        raise ValueError(f"no scores of {unknown}; there are {sorted(arms)}")
    if not used:
        raise ValueError("a contrast needs an arm whose weight is not 0")
    first = arms[next(iter(used))]
    tables = []
    for arm, weight in used.items():
        if not first or set(arms[arm]) != set(first):
            raise ValueError(f"arm {arm!r} has suites {sorted(arms[arm])}, not {sorted(first)}")
        own = [_checked(arm, suite, arms[arm][suite]) for suite in first]
        if len({len(t) for t in own}) > 1:
            raise ValueError(f"arm {arm!r} has {[len(t) for t in own]} seeds in its suites")
        tables.append([weight * t for t in own])
    rows = [[t.shape[1] for t in own] for own in tables]
    if any(r != rows[0] for r in rows):
        raise ValueError(f"the arms {list(used)} must answer the same rows, got {rows}")
    if seeds == "paired":
        if len({len(own[0]) for own in tables}) > 1:
            counts = {arm: len(own[0]) for arm, own in zip(used, tables, strict=True)}
            raise ValueError(f"paired seeds need as many in every arm, got {counts}")
        tables = [[np.sum(same, axis=0) for same in zip(*tables, strict=True)]]
    if max(rows[0]) == 1 and min(len(own[0]) for own in tables) == 1:
        raise ValueError("one seed with one row has no interval; give more of either")
    return tables


def mean_squares(tables: list[list[Values]]) -> tuple[float, Values, Values, Values, Values]:
    """The value, and variances of it: by seeds (arms that have several), by rows (suites that
    have several), by what is left (as by seeds); and the rows' degrees of freedom."""
    suites = len(tables[0])
    value = float(sum(np.mean([t.mean() for t in arm]) for arm in tables))
    seen = [arm for arm in tables if len(arm[0]) > 1]
    by_seed = [
        np.mean([t.mean(axis=1) for t in arm], axis=0).var(ddof=1) / len(arm[0]) for arm in seen
    ]
    means = [np.sum([t.mean(axis=0) for t in same], axis=0) for same in zip(*tables, strict=True)]
    by_row = [m.var(ddof=1) / len(m) / suites**2 for m in means if len(m) > 1]
    rest = [sum(_leftover(t) / t.size for t in arm) / suites**2 for arm in seen]
    df = [len(m) - 1.0 for m in means if len(m) > 1]
    return value, np.array(by_seed), np.array(by_row), np.array(rest), np.array(df)


def _leftover(table: Values) -> float:
    """Mean square of what neither seed nor row explains; 0 where there is one row."""
    if table.shape[1] == 1:
        return 0.0
    left = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    return float((left**2).sum() / ((table.shape[0] - 1) * (table.shape[1] - 1)))


def rest_df(arms: list[list[Values]]) -> list[int]:
    return [sum((len(t) - 1) * (t.shape[1] - 1) for t in arm) for arm in arms]


def _checked(arm: str, suite: str, table: Table) -> Values:
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"scores of {arm!r} on {suite!r} are (seeds, rows), not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"arm {arm!r}, suite {suite!r} has a score that is not a number")
    return values
