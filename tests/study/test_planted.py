"""Planted truths, judged as the study judges: 8 ratios, 5 suites of 128 rows, scores 0 or 1.

Rows differ in difficulty (1.5 on the logit scale), alike for all arms; each seed of each arm
is lifted or lowered on each suite (sd 0.3 to 0.5 there, some 5 to 8 points).
"""

import numpy as np
import pytest

from delia_ray.evaluate.crossed import Suites
from delia_ray.study.claims import Better, Ordered
from delia_ray.study.verdicts import Judgement, judge

RATIOS = (0, 8, 16, 32, 67, 135, 260, 520)
ARMS = tuple(f"ratio_{r}" for r in RATIOS)
BETTER = Better(name="better than ratio 0", ours=ARMS[1:], baseline=ARMS[0])
ORDERED = Ordered(name="grows with the ratio", ratios=tuple(zip(ARMS, RATIOS, strict=True)))
CLAIMS = 4
"""Judged on one page, as many as the paper makes."""
STUDIES = 100


def _logit(rate: float, spread: float) -> float:
    """The level whose rows, spread by so much around it, are right at this rate."""
    draws = np.random.default_rng(0).normal(0, np.hypot(1.5, spread), 20_000)
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _rate(middle + draws).mean() > rate else (middle, high)
    return low


def _rate(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def _study(
    rng: np.random.Generator, levels: list[float], seeds: int, spread: float
) -> dict[str, Suites]:
    hard = rng.normal(0, 1.5, (5, 1, 128))
    scores = {}
    for arm, level in zip(ARMS, levels, strict=True):
        rates = _rate(level + hard + rng.normal(0, spread, (5, seeds, 1)))
        right = (rng.random(rates.shape) < rates).astype(float)
        scores[arm] = {f"suite {k}": table for k, table in enumerate(right)}
    return scores


def _judged(
    claim: Better | Ordered, rates: list[float], seeds: int, spread: float
) -> list[Judgement]:
    rng = np.random.default_rng(11)
    known = {rate: _logit(rate, spread) for rate in set(rates)}
    levels = [known[rate] for rate in rates]
    return [judge(claim, _study(rng, levels, seeds, spread), claims=CLAIMS) for _ in range(STUDIES)]


@pytest.mark.parametrize(
    ("rate", "spread", "claim"),
    [(0.6, 0.4, BETTER), (0.97, 0.4, BETTER), (0.6, 0.0, BETTER), (0.6, 0.5, ORDERED)],
)
def test_a_planted_null_is_called_cannot_tell(
    rate: float, spread: float, claim: Better | Ordered
) -> None:
    """Also near the ceiling and where seeds do not differ; each single ratio too."""
    found = _judged(claim, [rate] * 8, 5, spread)
    assert sum(j.verdict == "cannot tell" for j in found) >= 95
    assert sum(all(f.verdict == "cannot tell" for f in j.findings) for j in found) >= 95


@pytest.mark.parametrize("seeds", [5, 8])
def test_a_planted_effect_of_ten_points_is_found(seeds: int) -> None:
    found = _judged(BETTER, [0.6] + [0.7] * 7, seeds, 0.4)
    assert sum(j.verdict == "holds" for j in found) >= 90


@pytest.mark.parametrize(("seeds", "spread"), [(5, 0.3), (8, 0.5)])
def test_ten_points_at_one_ratio_are_found_among_seven(seeds: int, spread: float) -> None:
    """With five seeds that differ by 0.5 it would be about six of ten; eight are needed."""
    found = _judged(BETTER, [0.6, 0.6, 0.6, 0.6, 0.7, 0.6, 0.6, 0.6], seeds, spread)
    assert sum(j.findings[3].verdict == "holds" for j in found) >= 90
    others = [f.verdict for j in found for i, f in enumerate(j.findings) if i != 3]
    assert others.count("cannot tell") >= 0.98 * len(others)


def test_a_planted_loss_of_ten_points_does_not_hold() -> None:
    found = _judged(BETTER, [0.7] + [0.6] * 7, 5, 0.4)
    assert sum(j.verdict == "does not hold" for j in found) >= 90


def test_a_planted_order_is_found() -> None:
    found = _judged(ORDERED, np.linspace(0.6, 0.75, 8).tolist(), 5, 0.4)
    assert sum(j.verdict == "holds" for j in found) >= 90
