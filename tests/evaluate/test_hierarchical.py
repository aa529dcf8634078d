"""Intervals over seeds and rows: hand-worked cases, invariances, coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.evaluate.crossed import components
from delia_ray.evaluate.hierarchical import arm_mean, contrast, difference
from delia_ray.evaluate.student import quantile

TABLE = [[1.0, 2.0, 3.0], [2.0, 5.0, 5.0]]


def test_one_arm_by_hand() -> None:
    """Seed means 2 and 4, row means 1.5, 3.5, 4; what is left is +-(0.5, -0.5, 0)."""
    found = arm_mean({"s": TABLE})
    seeds = 2.0 / 2  # variance of (2, 4), over 2 seeds
    rows = (1.5**2 + 0.5**2 + 1) / 2 / 3
    rest = (4 * 0.25) / (1 * 2) / 6
    variance = seeds + rows - rest
    df = variance**2 / (seeds**2 / 1 + rows**2 / 2 + rest**2 / 2)
    assert found.value == 3
    assert found.se == pytest.approx(variance**0.5)
    assert found.df == pytest.approx(df)
    assert found.high == pytest.approx(3 + quantile(0.975, df) * variance**0.5)
    assert (found.seeds, found.rows) == (2, 3)
    assert found.seed_share == pytest.approx(seeds / variance)
    assert found.seeds_seen
    assert found.rows_seen


def test_one_number_for_each_seed_is_welchs_test() -> None:
    """(1, 2, 3) against (4, 6): variances 1 and 2, 1/3 + 2/2."""
    found = difference({"s": [[1], [2], [3]]}, {"s": [[4], [6]]})
    assert found.value == -3
    assert found.se == pytest.approx((4 / 3) ** 0.5)
    assert found.df == pytest.approx((4 / 3) ** 2 / ((1 / 9) / 2 + 1 / 1))
    assert not found.rows_seen
    assert found.seed_share == pytest.approx(1)


def test_paired_seeds_leave_out_what_they_share() -> None:
    """Differences 3, 3, 6: mean 4, variance 3, over 3 seeds; df 2."""
    ours, theirs = {"s": [[13.0], [23], [36]]}, {"s": [[10.0], [20], [30]]}
    found = difference(ours, theirs, seeds="paired")
    assert (found.value, found.df) == (4, 2)
    assert found.se == pytest.approx(1)
    assert difference(ours, theirs).se > 5


def test_one_seed_sees_rows_only_and_says_so() -> None:
    """Differences 0, 1, 2: variance 1, over 3 rows."""
    found = difference({"s": [[1, 2, 3]]}, {"s": [[1, 1, 1]]})
    assert found.se == pytest.approx((1 / 3) ** 0.5)
    assert found.df == pytest.approx(2)
    assert not found.seeds_seen
    mixed = difference({"s": [[1, 2, 3]]}, {"s": [[1, 1, 1], [0, 0, 0]]})
    assert not mixed.seeds_seen
    assert mixed.se > found.se  # the arm that has seeds still counts


def test_rows_hard_for_both_arms_cancel() -> None:
    hard = np.linspace(-50, 50, 40)
    rng = np.random.default_rng(0)
    ours, theirs = ({"s": hard + rng.normal(size=(4, 40))} for _ in "ab")
    assert difference(ours, theirs).se < 1 < arm_mean(ours).se


def test_suites_weigh_the_same_whatever_their_size() -> None:
    small, large = np.zeros((3, 2)), np.ones((3, 200))
    assert arm_mean({"a": small, "b": large}).value == 0.5


def test_a_contrast_weighs_arms() -> None:
    arms = {"a": {"s": [[1.0], [2.0]]}, "b": {"s": [[5.0], [5.5]]}, "c": {"s": [[0.0], [9.0]]}}
    found = contrast(arms, {"a": 0.5, "b": 2.0, "c": 0.0})
    assert found.value == pytest.approx(0.5 * 1.5 + 2 * 5.25)
    assert found.se == pytest.approx((0.25 * 0.25 + 4 * 0.0625) ** 0.5)  # squares of weights


tables = st.integers(0, 2**32 - 1)


@given(tables, st.floats(0.1, 100), st.floats(-10, 10))
@settings(max_examples=30, deadline=None)
def test_unit_and_order_do_not_matter(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    ours = {"a": rng.normal(size=(4, 6)), "b": rng.normal(size=(4, 3))}
    theirs = {"a": rng.normal(size=(5, 6)), "b": rng.normal(size=(5, 3))}
    found = difference(ours, theirs)
    assert found.low <= found.value <= found.high
    assert (found.p <= 0.05) == (found.low > 0 or found.high < 0)
    moved = difference(
        {s: scale * t[::-1] + shift for s, t in ours.items()},
        {s: scale * t + shift for s, t in reversed(theirs.items())},
    )
    assert moved.value == pytest.approx(scale * found.value, abs=1e-9 * scale)
    assert moved.se == pytest.approx(scale * found.se)
    assert moved.df == pytest.approx(found.df)
    back = difference(theirs, ours)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_equal_scores_have_no_width() -> None:
    same = {"s": np.full((5, 7), 0.1)}
    found = difference(same, {"s": np.full((3, 7), 0.1)})
    assert (found.value, found.low, found.high, found.se, found.p) == (0, 0, 0, 0, 1)
    apart = difference({"s": np.ones((5, 7))}, {"s": np.zeros((5, 7))})
    assert (apart.low, apart.high, apart.p) == (1, 1, 0)


def test_what_does_not_correspond() -> None:
    table = np.zeros((3, 4))
    with pytest.raises(ValueError, match="same rows"):
        difference({"s": table}, {"s": np.zeros((3, 5))})
    with pytest.raises(ValueError, match=r"has suites \['t'\], not \['s'\]"):
        difference({"s": table}, {"t": table})
    with pytest.raises(ValueError, match="seeds in its suites"):
        arm_mean({"s": table, "t": np.zeros((2, 4))})
    with pytest.raises(ValueError, match="as many in every arm"):
        difference({"s": table}, {"s": np.zeros((2, 4))}, seeds="paired")
    with pytest.raises(ValueError, match="one seed with one row"):
        arm_mean({"s": [[1.0]]})
    with pytest.raises(ValueError, match="not a number"):
        arm_mean({"s": [[1.0, float("nan")]]})
    with pytest.raises(ValueError, match=r"are \(seeds, rows\)"):
        arm_mean({"s": [1.0, 2.0]})  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no scores of"):
        contrast({"a": {"s": table}}, {"b": 1.0})


def _normal(rng: np.random.Generator, seeds: int, rows: np.ndarray, sds: tuple[float, float]):
    return {
        name: r + rng.normal(0, sds[0], (seeds, 1)) + rng.normal(0, sds[1], (seeds, len(r)))
        for name, r in zip("ab", rows, strict=True)
    }


@pytest.mark.parametrize("sds", [(0.3, 1.0), (0.02, 0.3), (1.0, 0.5)])
def test_coverage(sds: tuple[float, float]) -> None:
    """Five seeds and 30 rows, both drawn anew: a 90 % interval of an arm holds the truth."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        rows = rng.normal(0, 1, (2, 30))
        found = arm_mean(_normal(rng, 5, rows, sds), confidence=0.9)
        held += found.low <= 0 <= found.high
    assert 0.855 <= held / 400 <= 0.96  # three standard errors below 0.9; wide is allowed


def test_components_are_found() -> None:
    """Means of many small studies come near the variances that made them."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(150):
        own = rng.normal(0, 0.5, (2, 30))  # what makes a row hard for one arm only
        ours = _normal(rng, 6, own, (0.4, 1.0))
        theirs = _normal(rng, 6, np.zeros((2, 30)), (0.4, 1.0))
        found.append(components(ours, theirs))
    # A seed moves the two suites apart here, so their mean by half the variance.
    assert np.mean([f.seed for f in found]) == pytest.approx(0.4**2 / 2, rel=0.15)
    assert np.mean([f.row for f in found]) == pytest.approx(0.5**2, rel=0.15)
    assert np.mean([f.rest for f in found]) == pytest.approx(1, rel=0.05)
