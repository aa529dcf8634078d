"""The exact order, by properties."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.mix.order import Order, exact, permute

RATIOS = st.one_of(
    st.integers(0, 12).map(Fraction), st.fractions(0, 9, max_denominator=8), st.just(Fraction(67))
)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    ratio, rows = draw(RATIOS), draw(st.integers(1, 30))
    needed = -((-ratio * rows) // 1)
    pool = needed + draw(st.integers(0, 20))
    return Order(draw(st.integers(0, 2**40)), ratio, rows, int(pool))


@given(orders(), st.integers(1, 4))
@settings(deadline=None)
def test_every_prefix_holds_floor_or_ceil(order: Order, epochs: int) -> None:
    total = order.epoch * epochs
    counts = np.cumsum(order.at(np.arange(total)).downstream)
    for n in range(1, total + 1):
        share = Fraction(n) / (order.ratio + 1)
        assert share // 1 <= counts[n - 1] <= -((-share) // 1)


@given(orders())
@settings(deadline=None)
def test_no_row_is_lost_or_repeated_within_a_pass(order: Order) -> None:
    passes = 3
    picks = order.at(np.arange(order.border(np.array([order.rows * passes]))[0]))
    for kind, size in ((True, order.rows), (False, order.used)):
        own = picks.downstream == kind
        rows, cycles = picks.row[own], picks.cycle[own]
        for cycle in range(passes):
            seen = rows[cycles == cycle]
            assert len(set(seen)) == len(seen)
            if kind:
                assert sorted(seen) == list(range(size))
        if size:
            whole = len(rows) // size
            assert sorted(rows[: whole * size]) == sorted(list(range(size)) * whole)


@given(orders(), st.integers(1, 8), st.integers(0, 50), st.randoms())
@settings(deadline=None)
def test_the_sequence_does_not_depend_on_who_asks(order, world, start, random) -> None:
    """Ranks, restarts and the sequence of questions: position i is position i."""
    positions = np.arange(start, start + 60)
    whole = order.at(positions)
    for rank in range(world):
        part = order.at(positions[rank::world])
        assert (part.row == whole.row[rank::world]).all()
        assert (part.downstream == whole.downstream[rank::world]).all()
    shuffled = random.sample(range(60), 60)
    assert (order.at(positions[shuffled]).row == whole.row[shuffled]).all()


@given(st.integers(1, 40), st.integers(0, 2**32), st.integers(1, 10), st.integers(1, 10))
def test_smaller_ratios_use_a_prefix_of_the_pool(rows, seed, small, more) -> None:
    pool = rows * (small + more)
    used = []
    for ratio in (small, small + more):
        order = Order(seed, Fraction(ratio), rows, pool)
        picks = order.at(np.arange(order.epoch))
        used.append(set(picks.row[~picks.downstream].tolist()))
    assert used[0] == set(range(rows * small)) <= used[1] == set(range(pool))


@given(st.integers(1, 3000), st.integers(0, 2**63))
@settings(deadline=None)
def test_permutations_are_bijections(size: int, key: int) -> None:
    image = permute(np.arange(size), size, np.full(size, key, np.uint64))
    assert sorted(image) == list(range(size))


def test_passes_differ_and_look_random() -> None:
    order = Order(0, Fraction(3), 1000, 3000)
    picks = order.at(np.arange(order.epoch * 2))
    first, second = (picks.row[picks.downstream & (picks.cycle == c)] for c in (0, 1))
    assert (first == second).mean() < 0.02
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1
    offsets = np.flatnonzero(picks.downstream) % 4
    assert min(np.bincount(offsets, minlength=4)) > 400  # of 2000, each about 500


def test_a_short_pool_is_an_error_unless_it_may_repeat() -> None:
    with pytest.raises(ValueError, match="needs 40 diverse rows, the pool has 39"):
        Order(0, Fraction(4), 10, 39)
    picks = (order := Order(0, Fraction(4), 10, 39, repeat=True)).at(np.arange(50))
    assert set(picks.row[~picks.downstream]) == set(range(39))
    assert order.used == 39
    with pytest.raises(ValueError, match="the pool has 0"):
        Order(0, Fraction(1), 10, 0, repeat=True)
    with pytest.raises(ValueError, match="at least one downstream row"):
        Order(0, Fraction(1), 0, 10)


def test_ratios_mean_what_people_write() -> None:
    assert exact(0.1) == Fraction(1, 10)
    assert exact(67.5) == Fraction(135, 2)
    assert exact(260) == 260


def test_far_positions_cost_nothing() -> None:
    order = Order(1, Fraction(520), 10_000_000, 5_200_000_000)
    picks = order.at(np.array([0, 10**9, 5 * 10**9]))
    assert (picks.row >= 0).all()
    assert (picks.cycle == 0).all()
