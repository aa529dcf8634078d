"""Bootstrap intervals, vectorised and seeded; numpy only.

Percentile bootstrap (Efron and Tibshirani 1993, ch. 13), paired over examples for the
difference of two systems (Koehn 2004, W04-3250), stratified by suite for a mean of suites.
It measures how much the value depends on *which prompts were asked*; that training would
end elsewhere with another seed it cannot see; ``hierarchical`` does.

One suite always resamples the same rows for the same seed, whoever answered. So the
intervals of two arms, their difference and the mean over suites all rest on the same
resamples and agree with each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delia_ray.records import digest

Values = npt.NDArray[np.float64]

_CHUNK = 4_000_000
"""Indices drawn at a time, which bounds the memory for large suites (32 MB)."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval, over ``n`` rows."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(
    groups: Mapping[str, Sequence[float]], *, resamples: int, confidence: float, seed: int
) -> Interval:
    """The mean of the groups' means; rows are resampled within each group.

    Args:
        groups: suite name -> scores of its rows; one group gives the plain interval.
        resamples: how many.
        confidence: share of the resamples inside the interval, for example 0.95.
        seed: with a group's name, decides which rows are drawn.

    Raises:
        ValueError: no group, an empty group, or a score that is not finite.
    """
    if not groups:
        raise ValueError("a mean needs at least one suite")
    rows = {name: _checked(name, scores) for name, scores in groups.items()}
    means = np.mean(
        [resampled_means(v, resamples, generator(seed, name)) for name, v in rows.items()], axis=0
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    value = float(np.mean([v.mean() for v in rows.values()]))
    # A mean of equal numbers differs from them in the last digits, here and in the resamples.
    return Interval(
        value, min(float(low), value), max(float(high), value), sum(map(len, rows.values()))
    )


def paired_difference(
    ours: Mapping[str, Sequence[float]],
    theirs: Mapping[str, Sequence[float]],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Mean of ``ours`` minus mean of ``theirs`` over the same rows of the same suites.

    Rows are resampled together, so what makes a row hard for both cancels.

    Raises:
        ValueError: the suites or their rows do not correspond, or as ``mean_interval``.
    """
    sizes = [{name: len(rows) for name, rows in side.items()} for side in (ours, theirs)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"a paired difference needs the same rows on both sides, got {sizes}")
    gaps = {
        name: (_checked(name, ours[name]) - _checked(name, theirs[name])).tolist() for name in ours
    }
    return mean_interval(gaps, resamples=resamples, confidence=confidence, seed=seed)


def resampled_means(rows: Values, resamples: int, rng: np.random.Generator) -> Values:
    """Means of ``resamples`` draws of ``len(rows)`` rows with replacement, (resamples,)."""
    n = len(rows)
    step = max(1, _CHUNK // n)
    return np.concatenate(
        [
            rows[rng.integers(0, n, size=(min(step, resamples - at), n))].mean(axis=1)
            for at in range(0, resamples, step)
        ]
    )


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers that are a pure function of ``(seed, name)``."""
    return np.random.default_rng(int(digest(["bootstrap", seed, name]), 16))


def _checked(name: str, scores: Sequence[float]) -> Values:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"suite {name!r} has no scored rows")
    if not np.isfinite(values).all():
        raise ValueError(f"suite {name!r} has a score that is not a number")
    return values
