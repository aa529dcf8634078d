"""What the phrasing does to a score: by hand, against formulas, and on planted effects."""

import math
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.evaluate.robustness import robustness, row_figures
from delia_ray.evaluate.statistics import Interval, mean_interval, paired_difference

HOW = {"resamples": 200, "confidence": 0.95, "seed": 0}


def _full(matrix) -> list[dict[int, float]]:
    return [dict(enumerate(map(float, row))) for row in np.asarray(matrix)]


def test_by_hand() -> None:
    scores = _full([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    found = robustness("s", scores, **HOW)
    assert found is not None
    assert found.original.value == 0.5
    assert found.mean.value == pytest.approx(5 / 12)
    assert found.worst_case.value == 0.25
    assert (found.worst, found.worst_phrasing.value) == (2, 0.25)
    assert found.within_row_range.value == 0.5
    assert found.consistency.value == 0.5
    assert found.spread.value == pytest.approx(np.std([0.5, 0.5, 0.25], ddof=1))
    assert [f.value for f in found.phrasings.values()] == [0.5, 0.5, 0.25]
    assert (found.single, found.mean.n) == (0, 4)


def test_a_lacking_phrasing_is_the_rows_own_mean() -> None:
    """Else phrasing 2, which only an easy row has, would look like the best one."""
    scores = [{0: 1.0, 1: 1.0, 2: 1.0}, {0: 0.0, 1: 1.0}, {0: 0.0, 1: 0.0}, {0: 1.0}]
    found = robustness("s", scores, **HOW)
    assert found is not None
    assert found.single == 1
    assert found.mean.n == 3
    values = {number: f.value for number, f in found.phrasings.items()}
    assert values == {0: pytest.approx(1 / 3), 1: pytest.approx(2 / 3), 2: pytest.approx(0.5)}
    assert {number: f.n for number, f in found.phrasings.items()} == {0: 3, 1: 3, 2: 1}
    assert found.worst == 0
    assert found.mean.value == pytest.approx(0.5)
    assert found.worst_case.value == pytest.approx(1 / 3)
    assert found.consistency.value == pytest.approx(2 / 3)


def test_a_model_that_does_not_mind() -> None:
    found = robustness("s", _full([[0.3] * 4, [0.7] * 4] * 10), **HOW)
    assert found is not None
    assert found.consistency == Interval(1.0, 1.0, 1.0, 20)
    assert found.within_row_range.value == 0
    assert found.spread.value == pytest.approx(0, abs=1e-12)
    assert found.spread_by_chance == pytest.approx(0, abs=1e-12)
    assert found.mean.value == found.worst_case.value == found.original.value


def test_less_may_be_better() -> None:
    scores = _full([[0.2, 0.4], [0.1, 0.1]])
    found = robustness("s", scores, higher_is_better=False, **HOW)
    assert found is not None
    assert (found.worst, found.worst_phrasing.value) == (1, 0.25)
    assert found.worst_case.value == 0.25
    assert row_figures("s", scores, higher_is_better=False)["worst_case"] == [0.4, 0.1]


def test_numbers_need_not_be_consecutive() -> None:
    found = robustness("s", [{0: 1.0, 5: 0.0}, {0: 1.0, 9: 1.0}], **HOW)
    assert found is not None
    assert list(found.phrasings) == [0, 5, 9]
    assert found.worst == 5


def test_nothing_to_compare() -> None:
    assert robustness("s", [{0: 1.0}, {0: 0.0}], **HOW) is None
    assert row_figures("s", [{0: 1.0}])["mean"] == []
    with pytest.raises(ValueError, match="'s' has no scored rows"):
        robustness("s", [], **HOW)
    with pytest.raises(ValueError, match="without a score of the original"):
        robustness("s", [{1: 1.0, 2: 0.0}], **HOW)
    with pytest.raises(ValueError, match="not a number"):
        robustness("s", [{0: 1.0, 1: math.nan}], **HOW)


ragged = st.lists(
    st.dictionaries(st.integers(1, 5), st.sampled_from([0.0, 0.3, 1.0]), min_size=1).flatmap(
        lambda d: st.sampled_from([0.0, 0.3, 1.0]).map(lambda s: {0: s, **d})
    ),
    min_size=1,
    max_size=15,
)


@given(ragged)
@settings(max_examples=40, deadline=None)
def test_figures_keep_their_order(scores: list[dict[int, float]]) -> None:
    found = robustness("s", scores, **HOW)
    assert found is not None
    tiny = 1e-9
    assert found.worst_case.value <= found.worst_phrasing.value + tiny
    assert found.worst_phrasing.value <= found.mean.value + tiny
    assert found.worst_phrasing.value <= found.original.value
    assert found.mean.value <= found.worst_case.value + found.within_row_range.value + tiny
    assert np.mean([f.value for f in found.phrasings.values()]) == pytest.approx(found.mean.value)
    figures = (found.original, found.mean, found.worst_case, found.worst_phrasing,
               found.within_row_range, found.consistency, found.spread)  # fmt: skip
    for figure in figures:
        assert -tiny <= figure.low <= figure.value <= figure.high <= 1 + tiny
    assert found == robustness("s", scores, **HOW)
    by_row = row_figures("s", scores)
    assert np.mean(by_row["mean"]) == pytest.approx(found.mean.value)
    assert np.mean(by_row["worst_case"]) == pytest.approx(found.worst_case.value)
    assert np.mean(by_row["consistency"]) == pytest.approx(found.consistency.value)


def test_the_spread_by_chance_is_that_of_all_shuffles() -> None:
    """The formula against every way in which three ragged rows can be shuffled."""
    rows = [{0: 1.0, 1: 0.0, 2: 0.25}, {0: 0.5, 2: 1.0}, {0: 0.0, 1: 1.0, 2: 0.0}]
    shuffled = [
        [dict(zip(row, values, strict=True)) for values in permutations(row.values())]
        for row in rows
    ]
    spreads = []
    for scores in product(*shuffled):
        found = robustness("s", scores, resamples=1, confidence=0.5, seed=0)
        assert found is not None
        spreads.append(found.spread.value)
        chance = found.spread_by_chance
    assert np.mean(np.square(spreads)) == pytest.approx(chance**2)


def test_the_ratio_of_the_spreads_is_cochrans_q() -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.random((30, 4)) < [0.9, 0.6, 0.5, 0.7]).astype(float)
    found = robustness("s", _full(matrix), **HOW)
    assert found is not None
    columns, rows = matrix.sum(axis=0), matrix.sum(axis=1)
    q = 4 * 3 * ((columns - columns.mean()) ** 2).sum() / (4 * rows.sum() - (rows**2).sum())
    assert 3 * (found.spread.value / found.spread_by_chance) ** 2 == pytest.approx(q)


def test_intervals_agree_with_those_of_the_suite() -> None:
    rng = np.random.default_rng(1)
    matrix = (rng.random((50, 3)) < 0.6).astype(float)
    found = robustness("s", _full(matrix), **HOW)
    assert found is not None
    assert found.original == mean_interval({"s": matrix[:, 0].tolist()}, **HOW)
    assert found.phrasings[2] == mean_interval({"s": matrix[:, 2].tolist()}, **HOW)
    other = robustness("s", _full(1 - matrix), **HOW)
    assert other is not None
    ours, theirs = (row_figures("s", _full(m))["worst_case"] for m in (matrix, 1 - matrix))
    gap = paired_difference({"s": ours}, {"s": theirs}, **HOW)
    assert gap.value == pytest.approx(found.worst_case.value - other.worst_case.value)


def _simulated(
    rng: np.random.Generator, rows: int, effects: list[float], lacking: float = 0.0
) -> list[dict[int, float]]:
    """Right or wrong answers to rows of different difficulty; a share of the cells lacks."""
    hard = rng.random((rows, 1)) * 0.6 + 0.2
    right = rng.random((rows, len(effects))) < hard + np.array(effects)
    lacks = rng.random(right.shape) < lacking
    lacks[:, 0] = False
    return [
        {j: float(right[i, j]) for j in range(len(effects)) if not lacks[i, j]} for i in range(rows)
    ]


def test_a_planted_effect_is_told_from_chance() -> None:
    rng = np.random.default_rng(2)
    steep = [0.0, 0.15, -0.15, 0.05, -0.05, 0.0]
    ratios: dict[bool, list[float]] = {False: [], True: []}
    worst = []
    for seed in range(50):
        for planted in (False, True):
            scores = _simulated(rng, 200, steep if planted else [0.0] * 6, lacking=0.2)
            found = robustness("s", scores, resamples=20, confidence=0.95, seed=seed)
            assert found is not None
            ratios[planted].append((found.spread.value / found.spread_by_chance) ** 2)
            if planted:
                worst.append(found.worst)
    critical = 11.07 / 5  # chi-squared with 5 degrees of freedom, at 5 %
    assert np.mean(ratios[False]) == pytest.approx(1, abs=0.3)
    assert sum(r > critical for r in ratios[False]) <= 7  # 2.5, and three standard errors
    assert sum(r > critical for r in ratios[True]) >= 47
    assert worst.count(2) >= 47


def test_the_intervals_hold_what_they_are_of() -> None:
    """90 % intervals of a planted effect on many samples of rows."""
    rng = np.random.default_rng(3)
    effects = [0.0, 0.2, -0.2, 0.1]
    truth = {"spread": np.std(effects, ddof=1), "mean": 0.5 + np.mean(effects),
             "worst_phrasing": 0.3}  # fmt: skip
    held = dict.fromkeys(truth, 0)
    trials = 100
    for seed in range(trials):
        scores = _simulated(rng, 150, effects)
        found = robustness("s", scores, resamples=200, confidence=0.9, seed=seed)
        assert found is not None
        for name, value in truth.items():
            figure = getattr(found, name)
            held[name] += figure.low <= value <= figure.high
    assert all(0.8 <= n / trials <= 0.98 for n in held.values()), held


def test_more_phrasings_make_the_worst_case_worse() -> None:
    rng = np.random.default_rng(4)
    matrix = (rng.random((80, 8)) < 0.8).astype(float)
    worst = []
    for k in range(2, 9):
        found = robustness("s", _full(matrix[:, :k]), **HOW)
        assert found is not None
        worst.append(found.worst_case.value)
    assert all(a >= b for a, b in pairwise(worst))
