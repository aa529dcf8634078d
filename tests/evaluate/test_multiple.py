"""Corrections for several comparisons."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delia_ray.evaluate.multiple import bonferroni, holm, step_down

ps = st.lists(st.floats(0, 1), min_size=1, max_size=9)


def test_holm_by_hand() -> None:
    """4 x 0.01, 3 x 0.02 and 2 x 0.03 (both 0.06), and 0.5."""
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(ps)
def test_holm_lies_between_plain_and_bonferroni(p: list[float]) -> None:
    for plain, adjusted in zip(p, holm(p), strict=True):
        assert plain <= adjusted <= min(1, len(p) * plain) or adjusted == pytest.approx(
            min(1, len(p) * plain)
        )


@given(ps, st.sampled_from([0.8, 0.9, 0.95]))
def test_levels_agree_with_holm(p: list[float], confidence: float) -> None:
    alpha = 1 - confidence
    for plain, adjusted, level in zip(p, holm(p), step_down(p, confidence), strict=True):
        if abs(adjusted - alpha) > 1e-9:
            assert (adjusted <= alpha) == (plain <= 1 - level + 1e-12)


def test_levels_by_hand() -> None:
    """Two of four are rejected, at alpha / 4 and alpha / 3; the others stay at alpha / 2."""
    levels = step_down([0.4, 0.001, 0.03, 0.01], 0.95)
    assert [1 - x for x in levels] == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])
    assert step_down([0.2, 0.3], 0.9) == [bonferroni(0.9, 2)] * 2


def test_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.1, 1.2])
    with pytest.raises(ValueError, match="one comparison at least"):
        bonferroni(0.95, 0)
