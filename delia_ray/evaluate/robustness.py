"""How much a suite's score depends on how its rows are worded; pure numpy.

One prompt per task says little: wordings that mean the same can move the accuracy of a model
by tens of points and change the order of two models (Sclar et al. 2023, arXiv 2310.11324;
Mizrahi et al. 2024, arXiv 2401.00595). So every row is asked in several phrasings, and beside
their mean stand the spread, the worst case and how often the phrasing made no difference.

Rows are resampled for the intervals, phrasings are not: they hold for these phrasings. The
rows that a suite draws are those of ``statistics``, so that the intervals here agree with each
other and, where every row has several phrasings, with the suite's own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from delia_ray.evaluate.statistics import (
    Interval,
    Values,
    generator,
    mean_interval,
    resampled_means,
)

Scores = Sequence[Mapping[int, float]]
"""For each row: number of the phrasing (0 is the original) -> score. Rows may lack some."""


@dataclass(frozen=True)
class Robustness:
    """One arm on one suite, over the rows that were asked in at least two phrasings."""

    original: Interval
    """Mean score under phrasing 0."""
    mean: Interval
    """Mean over the rows of a row's mean over its phrasings."""
    worst_case: Interval
    """Mean over the rows of a row's worst score: right only where right however asked."""
    worst_phrasing: Interval
    """Mean score under the phrasing where it is worst. Its interval does not know that it was
    picked for being the worst."""
    worst: int
    """The number of that phrasing."""
    within_row_range: Interval
    """Mean over the rows of the highest less the lowest score of a row."""
    consistency: Interval
    """Share of the rows with the same score under all their phrasings."""
    spread: Interval
    """Standard deviation over phrasings (n - 1) of the mean score under each."""
    spread_by_chance: float
    """What to expect of the spread if a row's scores fell to its phrasings at random. A spread
    that is not clearly larger does not show that any phrasing is better than another: for right
    or wrong answers, (phrasings - 1) * (spread / spread_by_chance) ** 2 is Cochran's Q
    (Biometrika 1950), about chi-squared with phrasings - 1 degrees of freedom."""
    phrasings: dict[int, Interval]
    """Mean score under each phrasing; its ``n`` counts the rows that have it."""
    single: int
    """Rows left out, since they have one phrasing only."""


def robustness(
    suite: str,
    scores: Scores,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    higher_is_better: bool = True,
) -> Robustness | None:
    """The figures of one arm on one suite; None where no row has a second phrasing.

    The mean under a phrasing is over all rows, so that phrasings are compared on the same
    rows: one that lacks the phrasing enters with its mean over those that it has.

    Args:
        suite: its name, which with ``seed`` decides what is drawn.
        scores: of the rows of the suite, in order.
        resamples: how many.
        confidence: share of the resamples inside an interval.
        higher_is_better: whether the worst score is the lowest or the highest.

    Raises:
        ValueError: no rows, a row without the original phrasing, or a score that is not finite.
    """
    matrix, numbers, single = _matrix(suite, scores)
    if not len(matrix):
        return None
    row_means, lowest, highest = _by_row(matrix)
    filled = np.where(np.isnan(matrix), row_means[:, None], matrix)
    columns = filled.mean(axis=0)

    def interval(values: Values, n: int = len(matrix)) -> Interval:
        found = mean_interval(
            {suite: values.tolist()}, resamples=resamples, confidence=confidence, seed=seed
        )
        return Interval(found.value, found.low, found.high, n)

    having = (~np.isnan(matrix)).sum(axis=0).tolist()
    phrasings = {number: interval(filled[:, at], having[at]) for at, number in enumerate(numbers)}
    worst = numbers[int(columns.argmin() if higher_is_better else columns.argmax())]
    draws = np.stack(
        # A new generator for each: all phrasings are seen on the same resampled rows.
        [resampled_means(column, resamples, generator(seed, suite)) for column in filled.T],
        axis=1,
    )
    noise = _chance_variance(filled - row_means[:, None])
    return Robustness(
        original=phrasings[0],
        mean=interval(row_means),
        worst_case=interval(lowest if higher_is_better else highest),
        worst_phrasing=phrasings[worst],
        worst=worst,
        within_row_range=interval(highest - lowest),
        consistency=interval((highest == lowest).astype(float)),
        spread=_spread(columns, draws, noise, confidence, len(matrix)),
        spread_by_chance=math.sqrt(noise),
        phrasings=phrasings,
        single=single,
    )


def row_figures(
    suite: str, scores: Scores, *, higher_is_better: bool = True
) -> dict[str, list[float]]:
    """``mean``, ``worst_case``, ``within_row_range`` and ``consistency`` row by row.

    For ``statistics.paired_difference``: two arms that were asked the same have the same rows
    here (those with at least two phrasings, in order).

    Raises:
        ValueError: as ``robustness``.
    """
    matrix, _, _ = _matrix(suite, scores)
    if not len(matrix):
        return {name: [] for name in ("mean", "worst_case", "within_row_range", "consistency")}
    means, lowest, highest = _by_row(matrix)
    return {
        "mean": means.tolist(),
        "worst_case": (lowest if higher_is_better else highest).tolist(),
        "within_row_range": (highest - lowest).tolist(),
        "consistency": (highest == lowest).astype(float).tolist(),
    }


def _matrix(suite: str, scores: Scores) -> tuple[Values, list[int], int]:
    """(rows, phrasings) with nan where a row lacks one; the phrasings' numbers; rows left out."""
    if not scores:
        raise ValueError(f"suite {suite!r} has no scored rows")
    if any(0 not in row for row in scores):
        raise ValueError(f"suite {suite!r} has a row without a score of the original phrasing 0")
    if not all(math.isfinite(score) for row in scores for score in row.values()):
        raise ValueError(f"suite {suite!r} has a score that is not a number")
    several = [row for row in scores if len(row) > 1]
    numbers = sorted({number for row in several for number in row})
    matrix = np.array([[row.get(n, math.nan) for n in numbers] for row in several], np.float64)
    return matrix.reshape(len(several), len(numbers)), numbers, len(scores) - len(several)


def _by_row(matrix: Values) -> tuple[Values, Values, Values]:
    """Mean, lowest and highest score of each row."""
    return np.nanmean(matrix, axis=1), np.nanmin(matrix, axis=1), np.nanmax(matrix, axis=1)


def _chance_variance(deviations: Values) -> float:
    """Expected variance over phrasings of their means if scores were shuffled within rows.

    Args:
        deviations: (rows, phrasings), each score less its row's mean; 0 where it lacks one.

    Shuffling makes a row's deviation under a phrasing a random one of its own, independent of
    other rows, and the mean over phrasings stays where it is. So the expected sum of squares
    of the phrasings' means around it is that of all deviations, over rows squared.
    """
    rows, phrasings = deviations.shape
    return float((deviations**2).sum() / rows**2 / (phrasings - 1))


def _spread(columns: Values, draws: Values, noise: float, confidence: float, rows: int) -> Interval:
    """The standard deviation of ``columns``, with the interval from ``draws`` of them.

    Resampled rows add chance of their own to the spread, as much as the rows had already; it
    is taken off, or the whole interval could lie above the value.
    """
    value = float(columns.std(ddof=1))
    each = np.sqrt(np.maximum(draws.var(axis=1, ddof=1) - noise, 0))
    low, high = np.quantile(each, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, min(float(low), value), max(float(high), value), rows)
