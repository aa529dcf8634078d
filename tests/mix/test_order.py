"""The exact order, by properties."""

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.config import RatioPhase
from delia_ray.mix.draws import Shuffled
from delia_ray.mix.order import Order, Phase, Windows, exact, needed, phases
from tests.mix.helpers import make_index, order_of

RATIOS = st.one_of(
    st.integers(0, 12).map(Fraction), st.fractions(0, 9, max_denominator=8), st.just(Fraction(67))
)
SEEDS = st.integers(0, 2**40)


def _order(seed: int, ratio: Fraction, rows: int) -> Order:
    windows = Windows(seed, (Phase(0, ratio),))
    want = needed(windows, rows)
    return Order(windows, Shuffled(seed, rows, 2), Shuffled(seed, want, 3) if want else None)


ORDERS = st.builds(_order, SEEDS, RATIOS, st.integers(1, 30))


@given(ORDERS, st.integers(1, 4))
@settings(deadline=None)
def test_every_prefix_holds_floor_or_ceil(order: Order, epochs: int) -> None:
    total = order.epoch * epochs
    counts = np.cumsum(order.at(np.arange(total)).downstream)
    ratio = order.windows.phases[0].ratio
    for n in range(1, total + 1):
        share = Fraction(n) / (ratio + 1)
        assert share // 1 <= counts[n - 1] <= -((-share) // 1)
        assert order.windows.count(n) == counts[n - 1]


@given(ORDERS)
@settings(deadline=None)
def test_no_row_is_lost_or_repeated_within_an_epoch(order: Order) -> None:
    rounds = 3
    picks = order.at(np.arange(order.windows.length(order.downstream.size * rounds)))
    for kind, draw in ((True, order.downstream), (False, order.diverse)):
        if draw is None:
            continue
        own = picks.downstream == kind
        rows, turns = picks.row[own], picks.round[own]
        for turn in range(rounds):
            seen = rows[turns == turn]
            assert len(set(seen)) == len(seen)
            if kind:
                assert sorted(seen) == list(range(draw.size))
        whole = len(rows) // draw.size
        assert sorted(rows[: whole * draw.size]) == sorted(list(range(draw.size)) * whole)


@given(ORDERS, st.sampled_from([1, 2, 3, 8]), st.integers(0, 50), st.randoms())
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
@settings(deadline=None)
def test_smaller_ratios_use_a_prefix_of_the_pool(rows, seed, small, more) -> None:
    index = make_index(rows, [("a", rows * (small + more))])
    used = []
    for ratio in (small, small + more):
        order = order_of(index, seed, ratio=ratio)
        picks = order.at(np.arange(order.epoch))
        used.append(set(picks.row[~picks.downstream].tolist()))
    assert used[0] == set(range(rows * small)) <= used[1] == set(range(rows * (small + more)))


POOLS = st.lists(st.integers(1, 60), min_size=2, max_size=5)


@given(
    POOLS, st.integers(1, 20), st.floats(0.5, 8), SEEDS,
    st.sampled_from(["weighted", "token_balanced"]),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_sources_get_their_share_in_every_prefix(sizes, rows, temperature, seed, strategy) -> None:
    """Shares hold in every prefix, each source's rows come once a round, and the rows of a
    smaller ratio are among those of a larger one."""
    names = [f"s{i}" for i in range(len(sizes))]
    index = make_index(rows, list(zip(names, sizes, strict=True)), tokens={"s0": 50})
    settings_: dict[str, Any] = {"strategy": strategy, "temperature": temperature, "repeat": True}
    used: list[set[int]] = []
    for ratio in (1, 3):
        order = order_of(index, seed, ratio=ratio, **settings_)
        picks = order.at(np.arange(2 * order.epoch))
        diverse = picks.row[~picks.downstream]
        source = index.source_of(index.diverse[diverse])
        assert order.diverse is not None
        first = diverse[: order.diverse.size]
        used.append(set(first.tolist()))
        weights = np.array(sizes) ** (1 / temperature)
        every = index.source_of(index.diverse)
        codes = [index.sources.index(("diverse", name)) for name in names]
        if strategy == "token_balanced":
            tokens = index.tokens[index.first[index.diverse]]
            weights = weights / [tokens[every == c].mean() for c in codes]
        levels = int(np.ceil(np.log2(len(sizes))))
        for code, share, size in zip(codes, weights / weights.sum(), sizes, strict=True):
            counts = np.cumsum(source[: len(first)] == code)
            expected = share * np.arange(1, len(first) + 1)
            assert np.abs(counts - expected).max() < levels + 0.01
            own = Counter(first[every[first] == code].tolist())
            assert not own or max(own.values()) - min(own.values()) <= 1
            assert sum(own.values()) > size or set(own.values()) <= {1}
    assert used[0] <= used[1]


@given(st.lists(st.integers(1, 25), min_size=2, max_size=4), SEEDS)
@settings(deadline=None, max_examples=60)
def test_tasks_come_evenly_and_whole(sizes: list[int], seed: int) -> None:
    tasks = [(f"t{i}", n) for i, n in enumerate(sizes)]
    index = make_index(0, [("a", 10)], tasks=tasks)
    order = order_of(index, seed, ratio=0)
    picks = order.at(np.arange(2 * order.epoch))
    half = len(picks.row) // 2
    assert sorted(picks.row[:half]) == sorted(picks.row[half:]) == list(range(sum(sizes)))
    source = index.source_of(index.wording[picks.row])
    for code, size in enumerate(sizes):
        counts = np.cumsum(source[:half] == code)
        expected = size / sum(sizes) * np.arange(1, half + 1)
        assert np.abs(counts - expected).max() < 3


SCHEDULES = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 9)), min_size=1, max_size=4)


@given(SCHEDULES, st.integers(1, 12), SEEDS)
@settings(deadline=None)
def test_each_phase_of_a_schedule_is_exact(pairs, rows, seed) -> None:
    starts = np.cumsum([0] + [length for length, _ in pairs[:-1]])
    schedule = [
        RatioPhase(from_step=int(s), ratio=r) for s, (_, r) in zip(starts, pairs, strict=True)
    ]
    windows = Windows(seed, phases(7, schedule, batch_size=4))
    want = needed(windows, rows)
    order = Order(windows, Shuffled(seed, rows, 2), Shuffled(seed, want, 3) if want else None)
    total = int(starts[-1]) * 4 + 60
    picks = order.at(np.arange(total))
    for number, phase in enumerate(windows.phases):
        end = windows.phases[number + 1].start if number + 1 < len(windows.phases) else total
        counts = np.cumsum(picks.downstream[phase.start : end])
        for n, count in enumerate(counts, start=1):
            share = Fraction(n) / (phase.ratio + 1)
            assert share // 1 <= count <= -((-share) // 1)
    # Rows go on where the phase before ended: nothing lost, nothing twice.
    down = picks.row[picks.downstream]
    whole = len(down) // rows * rows
    assert sorted(down[:whole]) == sorted(list(range(rows)) * (whole // rows))


def test_epochs_differ_and_look_random() -> None:
    order = _order(0, Fraction(3), 1000)
    picks = order.at(np.arange(order.epoch * 2))
    first, second = (picks.row[picks.downstream & (picks.round == c)] for c in (0, 1))
    assert (first == second).mean() < 0.02
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1
    offsets = np.flatnonzero(picks.downstream) % 4
    assert min(np.bincount(offsets, minlength=4)) > 400  # of 2000, each about 500


def test_a_short_pool_is_an_error_unless_it_may_repeat() -> None:
    index = make_index(10, [("a", 39)])
    with pytest.raises(ValueError, match="needs 40 diverse rows, the pool has 39"):
        order_of(index, ratio=4)
    picks = (order := order_of(index, ratio=4, repeat=True)).at(np.arange(50))
    assert set(picks.row[~picks.downstream]) == set(range(39))
    assert order.diverse is not None
    assert order.diverse.size == 39
    with pytest.raises(ValueError, match="the pool has 0"):
        order_of(make_index(10, []), ratio=1, repeat=True)
    with pytest.raises(ValueError, match="at least one downstream row"):
        order_of(make_index(0, [("a", 39)]), ratio=1)
    short = make_index(10, [("a", 39), ("b", 3)], weights={"b": 10})
    with pytest.raises(ValueError, match="rows of b, which has 3"):
        order_of(short, ratio=3, strategy="weighted")


def test_wrong_phases_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Windows(0, (Phase(0, Fraction(-1)),))
    with pytest.raises(ValueError, match="must start at 0 and rise"):
        Windows(0, (Phase(0, Fraction(1)), Phase(0, Fraction(2))))


def test_ratios_mean_what_people_write() -> None:
    assert exact(0.1) == Fraction(1, 10)
    assert exact(67.5) == Fraction(135, 2)
    assert exact(260) == 260


def test_far_positions_cost_nothing() -> None:
    order = _order(1, Fraction(520), 10_000_000)
    picks = order.at(np.array([0, 10**9, 5 * 10**9]))
    assert (picks.row >= 0).all()
    assert (picks.round == 0).all()
