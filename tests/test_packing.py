"""Packs of equal length, and what a step is made of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.mix.count import Counted
from delia_ray.mix.index import Index
from delia_ray.mix.plan import Packed, StepPlan, lay_down, packed_steps
from delia_ray.packing import loads, pack, packs_needed
from delia_ray.records import SEQUENCE, conform
from tests.mix.helpers import make_index, make_row, order_of


@given(st.lists(st.integers(1, 300), min_size=1, max_size=80), st.integers(1, 9))
@settings(deadline=None)
def test_packs_are_balanced_and_lose_nothing(lengths: list[int], packs: int) -> None:
    assigned = pack(lengths, packs)
    load = loads(lengths, assigned, packs)
    assert load.sum() == sum(lengths)
    best = max(max(lengths), sum(lengths) / packs)
    assert load.max() <= best * (4 / 3 - 1 / (3 * packs)) + max(lengths) / 3 + 1


def test_the_fullest_step_decides_how_many_packs_there_are() -> None:
    assert packs_needed(np.array([100, 950]), limit=256, multiple=1) == 4
    assert packs_needed(np.array([100, 950]), limit=256, multiple=3) == 6
    assert packs_needed(np.array([10]), limit=256, multiple=2) == 2


@pytest.mark.parametrize("pieces", [1, 3])
def test_steps_hold_what_the_order_says(pieces: int) -> None:
    index = make_index(6, [("a", 40), ("b", 20)], wordings=2, pieces=pieces)
    order = order_of(index, ratio=9)
    steps, batch = 15, 8
    laid = StepPlan(order, index, steps, batch)
    tokens = laid.tokens()
    packed, counted = Packed(packs_needed(tokens, 64, 2)), Counted(index, steps * batch)
    found = [
        (own, packs)
        for some, others in packed_steps(laid, packed, counted.add)
        for own, packs in zip(some, others, strict=True)
    ]
    assert len(found) == steps
    for step, (own, packs) in enumerate(found):
        lay = lay_down(order, index, np.arange(step * batch, (step + 1) * batch), True)
        assert own.tolist() == lay.sequence.tolist()
        assert index.tokens[own].sum() == tokens[step]
        assert packs.max() < packed.packs
    totals = counted.totals()
    assert sum(totals["rows"].values()) == steps * batch
    assert sum(totals["tokens"].values()) == tokens.sum() == packed.tokens
    assert totals["rows"]["downstream"] == 12
    assert sum(r["rows"] for r in counted.rows()) == steps * batch


def test_a_split_row_stands_in_one_step_with_all_its_pieces() -> None:
    index = make_index(2, [("a", 8)], pieces=3)
    lay = lay_down(order_of(index, ratio=4), index, np.arange(10), False)
    pieces = {}
    for sequence, position in zip(lay.sequence.tolist(), lay.position.tolist(), strict=True):
        pieces.setdefault(position, []).append(sequence)
    assert sorted(len(p) for p in pieces.values()) == [1, 1] + [3] * 8
    assert all(p == list(range(p[0], p[0] + len(p))) for p in pieces.values())


def test_rounds_take_the_wordings_in_turn() -> None:
    index = make_index(3, [("a", 3)], wordings=3)
    order = order_of(index, ratio=1)
    seen: dict[int, list[int]] = {}
    lay = lay_down(order, index, np.arange(18), True)
    for sequence in lay.sequence[lay.sequence < 9].tolist():
        seen.setdefault(sequence // 3, []).append(sequence % 3)
    assert all(sorted(v) == [0, 1, 2] for v in seen.values())
    plain = lay_down(order, index, np.arange(18), False).sequence
    assert set(plain[plain < 9].tolist()) == {0, 3, 6}


def test_a_row_whose_original_wording_is_missing_is_counted() -> None:
    rows = [make_row("downstream", "t", 0, 1, 0, 9), make_row("downstream", "t", 1, 0, 0, 9)]
    index = Index(conform([*rows, make_row("diverse", "a", 0, 0, 0, 9)], SEQUENCE), {})
    assert (index.rows, index.lost, index.pool) == (1, 1, 1)
    assert index.wording.tolist() == [1]
