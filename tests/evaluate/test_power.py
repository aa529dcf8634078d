"""What a study could have seen is what simulated studies see."""

import numpy as np
import pytest

from delia_ray.evaluate.hierarchical import difference
from delia_ray.evaluate.power import detectable, plan

VARIANCES = {"seed_variance": 0.2, "row_variance": 0.3, "rest_variance": 1.0}


def test_the_normal_case_by_hand() -> None:
    assert detectable(1.0, 1e9) == pytest.approx(1.95996 + 0.84162, abs=1e-4)
    assert detectable(0.5, 1e9, power=0.9) == pytest.approx(0.5 * (1.95996 + 1.28155), abs=1e-4)
    assert detectable(0.0, 4) == 0


def test_the_planned_error_by_hand() -> None:
    """Two arms of 0.2 / 5 + 1 / 500, and 0.3 / 100 over rows."""
    made = plan(seeds=5, suites=2, rows=50, **VARIANCES)
    assert made.se**2 == pytest.approx(2 * (0.04 + 0.002) + 0.003)
    assert 8 < made.df < 9
    assert made.detectable == detectable(made.se, made.df)
    more = plan(seeds=5, suites=2, rows=50, comparisons=7, **VARIANCES)
    assert more.detectable > made.detectable
    assert plan(seeds=10, suites=2, rows=50, **VARIANCES).detectable < made.detectable
    with pytest.raises(ValueError, match="two seeds"):
        plan(seeds=1, suites=2, rows=50, **VARIANCES)


def test_four_in_five_studies_find_the_detectable_difference() -> None:
    made = plan(seeds=5, suites=1, rows=50, **VARIANCES)
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(500):
        rows = rng.normal(0, 0.3**0.5, 50)
        arms = [
            mean + own + rng.normal(0, 0.2**0.5, (5, 1)) + rng.normal(0, 1, (5, 50))
            for mean, own in ((made.detectable, rows), (0, 0 * rows))
        ]
        found += difference({"s": arms[0]}, {"s": arms[1]}).low > 0
    assert found / 500 == pytest.approx(0.8, abs=0.06)
