import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.config import RunConfig
from delia_ray.diversity import distinct, effective, measures, mtld, opening, vendi, words
from delia_ray.report.pool import diversity_table, prefixes


def test_words():
    assert words("Don't stop, Þórr! 你好 x_1") == ["don", "t", "stop", "þórr", "你", "好", "x_1"]


def test_distinct():
    assert distinct([["a", "b", "a"], ["a", "b"]], 1) == 2 / 5
    assert distinct([["a", "b", "a"], ["a", "b"]], 2) == 2 / 3
    assert distinct([["a"]], 2) == 0


def test_mtld_by_hand():
    # Forwards "a a" falls to a ratio of 0.5 at once: a factor every two words, likewise backwards.
    assert mtld(["a"] * 10) == 2
    assert mtld(list("abcdefgh")) == math.inf
    assert mtld([]) == 0
    # 5 words, 4 kinds: one partial factor of (1 - 0.8) / (1 - 0.72).
    assert mtld(list("abcda")) == pytest.approx(5 / (0.2 / 0.28))


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Please write a short poem about the sea.", ("write", "poem")),
        ("Can you translate the following sentence?", ("translate", "sentence")),
        ("What is the capital of France?", ("what", "capital")),
        ("", ("", "")),
    ],
)
def test_opening(text, pair):
    assert opening(words(text)) == pair


def test_effective_number():
    assert effective([5, 5, 5]) == pytest.approx(3)
    assert effective([7, 0]) == pytest.approx(1)
    assert effective([]) == 0


def test_vendi_of_equal_and_of_different_texts():
    assert vendi(np.ones((9, 4), np.float32)) == pytest.approx(1)
    assert vendi(np.eye(5, 8, dtype=np.float32)) == pytest.approx(5)
    assert vendi(np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)) == pytest.approx(3)
    assert vendi(np.empty((0, 4), np.float32)) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 99))
def test_vendi_is_the_same_from_either_matrix(rows, width, seed):
    found = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    values = np.linalg.eigvalsh((unit @ unit.T).astype(float) / rows)
    values = values[values > 1e-9]
    assert vendi(found) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-3)
    assert 1 - 1e-6 <= vendi(found) <= min(rows, width) + 1e-6


def test_a_varied_pool_measures_as_more_diverse():
    same = [f"Please sort the list {i % 3} now" for i in range(60)]
    varied = [
        f"{v} the {n} {i}"
        for i, (v, n) in enumerate(
            (v, n) for v in ("sort", "draw", "explain", "count") for n in ("list", "cat", "sea")
        )
    ] * 5
    one, two = measures(same), measures(varied)
    for key in ("distinct_1", "mtld", "effective_openings", "effective_first_words"):
        assert one[key] < two[key]


def test_prefixes_of_the_arms_and_the_pool():
    config = RunConfig.model_validate(
        {"mix": {"ratio": 8}, "arms": {"common": "common", "delia": {}, "more": {"ratio": 100}}}
    )
    sizes = prefixes(config, 10, 500)
    assert list(sizes.values()) == [80, 500]
    table = diversity_table(["write a poem"] * 500, np.ones((100, 4), np.float32), sizes)
    assert [row[0] for row in table.rows] == ["first 80 (ratio 8)", "pool, 500"]
    assert table.rows[1][-2:] == ["100", "1"]
