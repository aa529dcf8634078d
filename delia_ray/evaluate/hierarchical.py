"""Intervals over training seeds *and* examples, for means, differences and other contrasts.

An arm's scores are, for each suite, a table (seeds, rows): seed s of the arm answered row e.
Both are samples, and crossed: a seed that went well lifts every row, a hard row is hard for
every seed. The model is the two-way random-effects layout with one observation per cell,

    score[s, e] = mean + seed[s] + row[e] + rest[s, e]

with the rows stratified by suite (each suite weighs the same) and one effect of a seed on the
value as a whole, so suites that rise and fall together with the seed cost no assumption. Rows
are the same for every arm, hence always paired. Variances come from the usual mean squares
(Searle, Casella and McCulloch 1992, ch. 4), degrees of freedom from Satterthwaite (1946,
Biometrics Bulletin 2), for two arms with seeds of their own Welch's case (1947).

Why no bootstrap here: resampling five seeds gives intervals that are too short. With one number
for each seed, percentile intervals that promise 95 % hold 85 % of the means and 88 % of the
differences; those that promise 99.3 % (seven comparisons), 95 % (2,000 simulations each). For
crossed effects no resampling is exact (Owen 2007, "The pigeonhole bootstrap", Annals of
Applied Statistics 1; Davison and Hinkley 1997, section 3.8).

Coverage of the 95 % intervals, in 300 simulated studies per case with 0/1 scores (5 suites of
128 rows, difficulty 1.5 and seeds 0.3 to 0.5 on the logit scale, alike or not from suite to
suite; right in 60 to 99.5 %; one arm's seeds differing four times as much as the other's):
a difference 91.7 to 99.7 %, one arm 91 to 98.3 %, with 5 or 8 seeds. They are wide (98 % and
more) where seeds do not differ, or near the ceiling; lowest where all suites move with the
seed. One number for each seed: 94.9 to 96.1 % (1,500 studies).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from delia_ray.evaluate.crossed import Seeds, Suites, mean_squares, rest_df, weighted
from delia_ray.evaluate.power import detectable
from delia_ray.evaluate.student import quantile, upper_tail

_ROUNDING = 1e-12
"""Relative to the largest score: below this a difference is rounding."""


@dataclass(frozen=True)
class Estimate:
    """A value with its t interval."""

    value: float
    low: float
    high: float
    confidence: float
    """Of the interval, after any correction."""
    se: float
    """Standard error; 0 where every score was equal."""
    df: float
    """Degrees of freedom (Satterthwaite)."""
    p: float
    """Two-sided, of the value being 0; not corrected."""
    detectable: float
    """The smallest true value that would have been told from 0 in 80 % of such studies, at
    the interval's confidence."""
    seed_share: float
    """Share of the squared standard error that more seeds would shrink; the rest needs rows."""
    seeds: int
    """Of the arm that has the fewest."""
    rows: int
    """Over all suites."""
    seeds_seen: bool
    """False: an arm has one seed only, so the interval says nothing about other seeds."""
    rows_seen: bool
    """False: a suite has one row only, so its rows are taken as they are."""

    def at(self, confidence: float) -> "Estimate":
        """The same value with another interval."""
        margin = quantile((1 + confidence) / 2, self.df) * self.se
        return replace(
            self,
            low=self.value - margin,
            high=self.value + margin,
            confidence=confidence,
            detectable=detectable(self.se, self.df, confidence=confidence),
        )


def contrast(
    arms: Mapping[str, Suites],
    weights: Mapping[str, float],
    *,
    confidence: float = 0.95,
    seeds: Seeds = "independent",
) -> Estimate:
    """The weighted sum of the arms' values; an arm's value is the mean of its suites' means.

    Args:
        arms: arm -> suite -> scores (seeds, rows); rows of a suite are the same in all arms.
        weights: arm -> weight; arms without one are ignored.
        confidence: of the interval.
        seeds: whether seed s of one arm belongs to seed s of the others.

    Raises:
        ValueError: an unknown arm, suites or rows that do not correspond, seeds that differ in
            number between suites (or, paired, between arms), one seed with one row, or a
            score that is not finite.
    """
    tables = weighted(arms, weights, seeds)
    value, between_seeds, between_rows, rest, df_rows = mean_squares(tables)
    scale = max(float(np.abs(t).max()) for arm in tables for t in arm)

    # A mean square between seeds holds the rest too, so it cannot truly be smaller; and the
    # rest, being in both, counts once.
    per_arm = np.maximum(between_seeds, rest)
    over_rows = max(between_rows.sum() - rest.sum(), 0.0)
    variance = float(per_arm.sum() + over_rows)
    seen = [arm for arm in tables if len(arm[0]) > 1]
    doubt = sum(float(v) ** 2 / (len(arm[0]) - 1) for v, arm in zip(per_arm, seen, strict=True))
    if over_rows:
        doubt += float(sum(between_rows**2 / df_rows))
        doubt += sum(float(c) ** 2 / d for c, d in zip(rest, rest_df(seen), strict=True) if d)
    se = variance**0.5
    if se <= _ROUNDING * scale:
        se, variance = 0.0, 0.0
    if abs(value) <= _ROUNDING * scale:
        value = 0.0
    df = variance**2 / doubt if se else float(sum(len(arm[0]) - 1 for arm in seen) or df_rows.sum())
    return Estimate(
        value=value,
        low=value,
        high=value,
        confidence=confidence,
        se=se,
        df=df,
        p=2 * upper_tail(abs(value) / se, df) if se else float(value == 0),
        detectable=0.0,
        seed_share=float(per_arm.sum()) / variance if se else 0.0,
        seeds=min(len(arm[0]) for arm in tables),
        rows=sum(t.shape[1] for t in tables[0]),
        seeds_seen=len(seen) == len(tables),
        rows_seen=len(df_rows) == len(tables[0]),
    ).at(confidence)


def difference(
    ours: Suites, theirs: Suites, *, confidence: float = 0.95, seeds: Seeds = "independent"
) -> Estimate:
    """Value of ``ours`` minus value of ``theirs``; see ``contrast``."""
    arms = {"ours": ours, "theirs": theirs}
    return contrast(arms, {"ours": 1.0, "theirs": -1.0}, confidence=confidence, seeds=seeds)


def arm_mean(scores: Suites, *, confidence: float = 0.95) -> Estimate:
    """One arm's value: what other seeds and other rows of the same kind would give.

    The interval may pass the scale's ends where scores are near them.
    """
    return contrast({"arm": scores}, {"arm": 1.0}, confidence=confidence)
