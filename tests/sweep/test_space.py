"""Sampling, grids and conditions."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.config.sweep import Dimension
from delia_ray.records import digest
from delia_ray.sweep.space import (
    active,
    as_suggested,
    corners,
    draw,
    grid,
    in_order,
    radical_inverse,
    suggest,
    suggested,
    value,
)

RATIO = Dimension(choice=[0, 8, 67, 520])
RATE = Dimension(log=(1e-4, 1e-2))
STRATEGY = Dimension(choice=["uniform", "far"], when={"mix.ratio": {"above": 0}})
SPACE = {"mix.strategy": STRATEGY, "mix.ratio": RATIO, "finetune.lr": RATE}


def test_a_longer_search_begins_with_a_shorter_one() -> None:
    assert draw(SPACE, 30, 0)[:12] == draw(SPACE, 12, 0)
    assert draw(SPACE, 12, 0) != draw(SPACE, 12, 1)


def test_trials_differ_and_spread_over_every_choice_and_decade() -> None:
    found = draw(SPACE, 24, 0)
    assert len({digest(p) for p in found}) == 24
    counts = [sum(p["mix.ratio"] == r for p in found) for r in RATIO.ends]
    assert max(counts) - min(counts) <= 2
    tenths = [sum(math.log10(p["finetune.lr"]) < -4 + k / 5 for p in found) for k in range(11)]
    assert all(abs(n - 24 * k / 10) <= 2.5 for k, n in enumerate(tenths))


def test_a_small_space_gives_what_it_has() -> None:
    found = draw({"mix.ratio": RATIO}, 10, 0)
    assert sorted(p["mix.ratio"] for p in found) == [0, 8, 67, 520]


def test_conditions_leave_dimensions_out() -> None:
    for own in draw(SPACE, 24, 0):
        assert ("mix.strategy" in own) == (own["mix.ratio"] > 0)
    found = grid({"mix.strategy": STRATEGY, "mix.ratio": RATIO})
    assert len(found) == 1 + 3 * 2
    assert {"mix.ratio": 0} in found


def test_a_condition_on_a_dimension_that_is_left_out_does_not_hold() -> None:
    space = {
        "a": Dimension(choice=[0, 1]),
        "b": Dimension(choice=["x"], when={"a": 1}),
        "c": Dimension(choice=["y"], when={"b": ["x", "z"]}),
    }
    assert active(space, {"a": 0, "b": "x", "c": "y"}) == {"a": 0}
    assert active(space, {"a": 1, "b": "x", "c": "y"}) == {"a": 1, "b": "x", "c": "y"}
    assert [n for n, _ in in_order(dict(reversed(space.items())))] == ["a", "b", "c"]


def test_conditions_in_a_circle_are_refused() -> None:
    space = {"a": Dimension(choice=[1], when={"b": 1}), "b": Dimension(choice=[1], when={"a": 1})}
    with pytest.raises(ValueError, match="circle"):
        in_order(space)


@settings(deadline=None)
@given(
    st.sampled_from(["uniform", "log", "integer", "log_integer"]),
    st.integers(1, 50), st.integers(1, 50), st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_values_stay_within_their_range(kind: str, low: int, width: int, at: float) -> None:
    own = Dimension.model_validate({kind: [low, low + width]})
    found = value(own, at)
    assert low <= found <= low + width
    assert ("integer" in kind) == isinstance(found, int)
    assert value(own, 0.0) == low


def test_whole_numbers_reach_both_ends() -> None:
    for kind in ("integer", "log_integer"):
        own = Dimension.model_validate({kind: [1, 4]})
        assert {value(own, i / 100) for i in range(100)} == {1, 2, 3, 4}


def test_radical_inverse() -> None:
    assert [radical_inverse(i, 2) for i in range(5)] == [0, 0.5, 0.25, 0.75, 0.125]
    assert radical_inverse(5, 3) == pytest.approx(2 / 3 + 1 / 9)


def test_corners_are_every_combination() -> None:
    found = list(corners(SPACE, ["mix.ratio", "finetune.lr"]))
    expected = itertools.product(RATIO.ends, RATE.ends)
    assert [(p["mix.ratio"], p["finetune.lr"]) for p in found] == list(expected)


class Asked:
    """Answers like an Optuna trial, always with the last choice or the upper end."""

    def __init__(self, first: bool) -> None:
        self.first, self.found = first, {}

    def suggest_categorical(self, name: str, choices: list[int]) -> int:
        self.found[name] = choices[0 if self.first else -1]
        return self.found[name]

    def suggest_float(self, name: str, low: float, high: float, log: bool) -> float:
        assert log == (name == "finetune.lr")
        self.found[name] = low if self.first else high
        return self.found[name]


@pytest.mark.parametrize("first", [True, False])
def test_optuna_is_asked_for_what_counts_only(first: bool) -> None:
    asked = Asked(first)
    suggest(SPACE, asked)
    assert ("mix.strategy" in asked.found) == (not first)
    own = suggested(SPACE, asked.found)
    assert own["mix.ratio"] == (0 if first else 520)
    assert list(own) == [n for n in SPACE if n in own]
    assert as_suggested(SPACE, own) == asked.found


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, "exactly one"),
        ({"choice": [1], "log": [1, 2]}, "exactly one"),
        ({"choice": []}, "empty"),
        ({"uniform": [2, 1]}, "must rise"),
        ({"log": [0, 1]}, "above 0"),
    ],
)
def test_a_dimension_has_one_kind_that_makes_sense(own: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Dimension.model_validate(own)
