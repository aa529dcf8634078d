"""The fit, what it recommends, and what it would try next."""

import math

import numpy as np
import pytest

from delia_ray.sweep.fit import Axis, axis, fit, inputs, normal_cdf
from delia_ray.sweep.recommend import improvement, line, next_trial, ratios_up_to, recommend

RATIOS = [0, 8, 16, 32, 67, 135, 260, 520]
RATIO = axis("mix.ratio", RATIOS, 260, "ratio")


def truth(ratio: float) -> float:
    """Rises, then flattens."""
    return 0.6 + 0.35 * (1 - math.exp(-math.log2(1 + ratio) / 2))


def learn(ratios: list[int], noise: float = 0.01, seed: int = 0):
    random = np.random.default_rng(seed)
    y = [truth(r) + random.normal(0, noise) for r in ratios]
    return fit(inputs([RATIO], [{"mix.ratio": r} for r in ratios]), y, [0.004] * len(y), draws=400)


def test_axes_place_ratios_logs_and_choices() -> None:
    assert RATIO.place(0) == [0.0]
    assert RATIO.place(520) == [1.0]
    assert RATIO.place(67)[0] == pytest.approx(math.log2(68) / math.log2(521))
    rate = axis("lr", [1e-4, 1e-2], 1e-3, "log")
    assert rate.place(1e-3)[0] == pytest.approx(0.5)
    kind = axis("strategy", ["uniform", "far"], "uniform")
    assert (kind.scale, kind.place("far"), kind.place("uniform")) == ("choice", [0, 0.5], [0.5, 0])
    assert axis("reworded", [True, False], True).scale == "choice"


def test_what_a_trial_lacks_is_as_in_the_recipe() -> None:
    kind = axis("strategy", ["uniform", "far"], "uniform")
    found = inputs([RATIO, kind], [{"mix.ratio": 520}, {"mix.ratio": 520, "strategy": "far"}])
    assert found.tolist() == [[1, 0.5, 0], [1, 0, 0.5]]


def test_it_learns_the_curve_and_knows_what_it_does_not_know() -> None:
    learned = learn(RATIOS * 2)
    x = inputs([RATIO], [{"mix.ratio": r} for r in (0, 24, 67, 400)])
    found = learned.predict(x)
    expected = np.array([truth(r) for r in (0, 24, 67, 400)])
    assert np.abs(found.mean - expected).max() < 0.03
    low, high = found.interval(0.95)
    assert (low < expected).all()
    assert (expected < high).all()
    wider = learned.predict(x, new=True, error=0.004)
    assert (wider.deviation > found.deviation).all()
    assert 0.003 < learned.residual < 0.05


def test_it_grows_uncertain_beyond_its_data() -> None:
    learned = learn([0, 8, 16, 32, 67])
    found = learned.predict(inputs([RATIO], [{"mix.ratio": r} for r in (32, 135, 520)]))
    widths = np.subtract(*found.interval(0.95)[::-1])
    assert widths[0] < widths[1] < widths[2]


def test_hidden_ratios_fall_into_the_interval() -> None:
    """Fitted on ratios up to 135, asked for one training at 260."""
    inside = 0
    for seed in range(10):
        random = np.random.default_rng(100 + seed)
        learned = learn([0, 8, 16, 32, 67, 135], 0.015, seed)
        x = inputs([RATIO], [{"mix.ratio": 260}])
        low, high = learned.predict(x, new=True, error=0.004).interval(0.95)
        inside += bool(low[0] <= truth(260) + random.normal(0, 0.015) <= high[0])
    assert inside >= 8


def test_same_trials_same_fit() -> None:
    x = inputs([RATIO], [{"mix.ratio": 100}])
    one, two = learn(RATIOS), learn(RATIOS)
    assert one.predict(x).mean.tolist() == two.predict(x).mean.tolist()


def test_a_quantile_is_one_of_the_mixture() -> None:
    found = learn(RATIOS).predict(inputs([RATIO], [{"mix.ratio": 50}]))
    for p in (0.025, 0.5, 0.9):
        at = found.quantile(p)
        below = found.weights @ normal_cdf((at - found.means) / found.deviations)
        assert below[0] == pytest.approx(p, abs=1e-6)


def test_equal_scores_do_not_break_it() -> None:
    x = inputs([RATIO], [{"mix.ratio": r} for r in RATIOS])
    found = fit(x, [0.5] * len(RATIOS), [0.0] * len(RATIOS), draws=200).predict(x)
    assert np.isfinite(found.mean).all()
    assert found.mean == pytest.approx([0.5] * len(RATIOS), abs=1e-6)
    with pytest.raises(ValueError, match="three trials"):
        fit(x[:2], [1, 2], [0, 0])


# --- recommendation -------------------------------------------------------------------------


def recommended(budget: float | None, tolerance: float = 0.01):
    return recommend(
        learn(RATIOS * 2), [RATIO], "mix.ratio", {}, largest=520, cost=lambda r: 64 * r,
        budget=budget, tolerance=tolerance, confidence=0.95,
    )  # fmt: skip


def test_the_budget_limits_the_ratio() -> None:
    found = recommended(64 * 20)
    assert found is not None
    assert found.ratio <= 20
    assert found.cost <= 64 * 20
    assert found.low < found.value < found.high
    assert recommended(-1) is None


def test_more_is_not_paid_for_what_it_does_not_bring() -> None:
    frugal, exact = recommended(None, 0.03), recommended(None, 0.0)
    assert frugal.ratio < exact.ratio == exact.best
    assert frugal.best == exact.best


def test_ratios_are_whole_and_hold_both_ends() -> None:
    found = ratios_up_to(520)
    assert (found[0], found[-1]) == (0, 520)
    assert found == sorted(set(found))
    assert all(r == int(r) for r in found)
    assert ratios_up_to(0.5) == [0, 0.5]


def test_the_next_trial_is_where_something_may_be_gained() -> None:
    learned = learn([0, 8, 16, 32])
    candidates = [{"mix.ratio": r} for r in (0, 8, 520)]
    found = next_trial(learned, [RATIO], candidates, 0.001)
    assert found is not None
    assert found[0] == {"mix.ratio": 520}
    assert next_trial(learned, [RATIO], candidates, 1e6) is None
    assert next_trial(learned, [RATIO], [], 0.01) is None


def test_the_improvement_is_that_of_the_mixture() -> None:
    found = learn(RATIOS).predict(inputs([RATIO], [{"mix.ratio": 30}]))
    random = np.random.default_rng(0)
    which = random.choice(len(found.weights), 200_000, p=found.weights)
    drawn = random.normal(found.means[which, 0], found.deviations[which, 0])
    best = float(found.mean[0])
    simulated = np.maximum(drawn - best, 0).mean()
    assert improvement(found, best)[0] == pytest.approx(simulated, rel=0.05)


def test_cost_is_a_line_that_does_not_fall() -> None:
    assert line([0, 10, 20], [5, 25, 45]) == pytest.approx((5, 2))
    assert line([0, 10, 20], [9, 6, 3]) == pytest.approx((6, 0))
    assert line([3, 3], [1, 2]) == pytest.approx((1.5, 0))


def test_an_axis_without_width_is_no_division_by_zero() -> None:
    assert Axis("a", "linear", 2, 2).place(2) == [0.0]
