"""Intervals hold what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.evaluate.statistics import (
    Interval,
    generator,
    mean_interval,
    paired_difference,
    resampled_means,
)

HOW = {"resamples": 500, "confidence": 0.95, "seed": 0}
rows = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(rows)
@settings(max_examples=50, deadline=None)
def test_interval_holds_the_mean_and_stays_in_range(scores: list[float]) -> None:
    found = mean_interval({"s": scores}, **HOW)
    assert min(scores) - 1e-9 <= found.low <= found.value <= found.high <= max(scores) + 1e-9
    assert found.value == pytest.approx(np.mean(scores))
    assert found.n == len(scores)
    assert found == mean_interval({"s": scores}, **HOW)


def test_edges() -> None:
    assert mean_interval({"s": [1.0]}, **HOW) == Interval(1.0, 1.0, 1.0, 1)
    assert mean_interval({"s": [0.0] * 9}, **HOW) == Interval(0.0, 0.0, 0.0, 9)
    with pytest.raises(ValueError, match="'s' has no scored rows"):
        mean_interval({"s": []}, **HOW)
    with pytest.raises(ValueError, match="at least one suite"):
        mean_interval({}, **HOW)
    with pytest.raises(ValueError, match="not a number"):
        mean_interval({"s": [float("nan")]}, **HOW)
    with pytest.raises(ValueError, match="same rows"):
        paired_difference({"s": [1.0, 0.0]}, {"s": [1.0]}, **HOW)


def test_seeds_and_suites_draw_different_rows() -> None:
    scores = [0.0, 1.0] * 20
    low = {mean_interval({n: scores}, **{**HOW, "seed": s}).low for n in "ab" for s in (0, 1, 2)}
    assert len(low) > 1
    draws = [generator(s, n).integers(0, 2**60) for n in "ab" for s in (0, 1)]
    assert len(set(draws)) == 4


def test_large_suites_are_drawn_in_parts() -> None:
    values = np.linspace(0, 1, 9000)
    means = resampled_means(values, 1001, generator(0, "s"))
    assert means.shape == (1001,)
    assert means.std() == pytest.approx(values.std() / 9000**0.5, rel=0.1)


@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_coverage(rate: float) -> None:
    """A 90 % interval over 100 rows holds the true rate in about 90 % of the samples."""
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(400):
        sample = (rng.random(100) < rate).astype(float).tolist()
        found = mean_interval({"s": sample}, resamples=300, confidence=0.9, seed=trial)
        held += found.low <= rate <= found.high
    assert 0.84 <= held / 400 <= 0.95  # three standard errors around 0.9, less the bias


def test_coverage_of_the_mean_over_suites() -> None:
    """Stratified: suites differ much in level, and that is no uncertainty."""
    rng = np.random.default_rng(2)
    held, widths = 0, []
    for trial in range(300):
        groups = {
            n: (rng.random(60) < p).astype(float).tolist()
            for n, p in zip("abc", (0.1, 0.5, 0.9), strict=True)
        }
        found = mean_interval(groups, resamples=300, confidence=0.9, seed=trial)
        held += found.low <= 0.5 <= found.high
        widths.append(found.high - found.low)
    assert 0.84 <= held / 300 <= 0.95
    expected = 2 * 1.645 * ((0.09 + 0.25 + 0.09) / 60) ** 0.5 / 3
    assert np.mean(widths) == pytest.approx(expected, rel=0.1)


def test_mean_weighs_suites_alike() -> None:
    found = mean_interval({"small": [1.0] * 3, "large": [0.0] * 300}, **HOW)
    assert found.value == 0.5
    assert found.n == 303


def test_planted_difference_is_found_and_none_is_not() -> None:
    rng = np.random.default_rng(3)
    found, alarms = 0, 0
    for trial in range(200):
        hard = rng.random(150)  # what makes a row hard is the same for both arms
        common = hard < 0.70
        better = hard < 0.78
        same = np.where(rng.random(150) < 0.1, rng.permutation(common), common)
        args = {"resamples": 300, "confidence": 0.95, "seed": trial}
        arms = [{"s": a.astype(float).tolist()} for a in (common, better, same)]
        found += paired_difference(arms[1], arms[0], **args).low > 0
        null = paired_difference(arms[2], arms[0], **args)
        alarms += null.low > 0 or null.high < 0
    assert found >= 190
    assert alarms <= 20  # 5 % of 200, and three standard errors


def test_difference_agrees_with_the_arms() -> None:
    """The same rows are drawn for both arms, so pairing is exact, not by luck."""
    rng = np.random.default_rng(4)
    ours, theirs = rng.random(50), rng.random(50)
    gap = paired_difference({"s": ours.tolist()}, {"s": theirs.tolist()}, **HOW)
    means = [resampled_means(v, 500, generator(0, "s")) for v in (ours, theirs)]
    assert gap.low == pytest.approx(np.quantile(means[0] - means[1], 0.025))
    assert paired_difference({"s": [1.0] * 4}, {"s": [0.5] * 4}, **HOW).high == 0.5
