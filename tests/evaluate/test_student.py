"""t's tail and quantile against closed forms and printed tables."""

import math
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.evaluate.student import quantile, upper_tail

upper_half = st.floats(0.5, 1 - 1e-6)


@given(upper_half)
def test_closed_forms_of_one_and_two_degrees(p: float) -> None:
    """Cauchy, and t = (2p - 1) / sqrt(2p(1 - p))."""
    assert quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-7, abs=1e-9)
    two = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    assert quantile(p, 2) == pytest.approx(two, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "df", "printed"),
    [
        (0.975, 4, 2.776), (0.995, 4, 4.604), (0.975, 8, 2.306), (0.9995, 8, 5.041),
        (0.95, 30, 1.697), (0.975, 120, 1.980), (0.8, 5, 0.920),
    ],
)  # fmt: skip
def test_printed_tables(p: float, df: float, printed: float) -> None:
    assert quantile(p, df) == pytest.approx(printed, abs=5e-4)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(1, 1e5))
@settings(deadline=None)
def test_quantile_inverts_the_tail_and_is_odd(p: float, df: float) -> None:
    t = quantile(p, df)
    assert upper_tail(t, df) == pytest.approx(1 - p, rel=1e-6)
    assert quantile(1 - p, df) == pytest.approx(-t, rel=1e-6, abs=1e-8)


def test_fewer_degrees_have_heavier_tails_and_many_are_normal() -> None:
    tails = [quantile(0.99, df) for df in (1, 1.5, 2, 4, 4.5, 8, 64, 1e4, 1e8)]
    assert tails == sorted(tails, reverse=True)
    assert tails[-1] == pytest.approx(NormalDist().inv_cdf(0.99), abs=1e-6)
    assert upper_tail(0, 3) == 0.5
    assert upper_tail(math.inf, 3) == 0


@pytest.mark.parametrize(("p", "df"), [(0, 4), (1, 4), (0.9, 0), (0.9, float("nan"))])
def test_what_has_no_quantile(p: float, df: float) -> None:
    with pytest.raises(ValueError, match="df > 0"):
        quantile(p, df)
