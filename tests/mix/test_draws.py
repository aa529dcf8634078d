"""Permutations and shares as arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.mix.draws import Deal, permute, shares


@given(st.integers(1, 3000), st.integers(0, 2**63))
@settings(deadline=None)
def test_permutations_are_bijections(size: int, key: int) -> None:
    image = permute(np.arange(size), size, np.full(size, key, np.uint64))
    assert sorted(image) == list(range(size))


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=7), st.integers(0, 2**40))
@settings(deadline=None)
def test_dealing_numbers_each_part_without_gaps(weights: list[float], seed: int) -> None:
    deal = Deal(shares(weights), seed)
    part, index = deal.at(np.arange(400))
    for number in range(len(weights)):
        assert index[part == number].tolist() == list(range((part == number).sum()))
    for n in (0, 1, 77, 400):
        assert deal.counts(n) == [int((part[:n] == p).sum()) for p in range(len(weights))]


def test_shares_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Deal([Fraction(1), Fraction(0)], 0)
    with pytest.raises(ValueError, match="must be positive"):
        Deal([], 0)
