"""Engines are as large as the data, the model and the machine ask for."""

import json

import pytest

from delia_ray.config import VllmEngine
from delia_ray.engines import Request, make_engine
from delia_ray.engines.sizes import (
    SMALLEST_CACHE,
    Cores,
    cache_bytes,
    cache_bytes_per_token,
    cores,
    longest,
    model_length,
    positions_of,
)
from delia_ray.engines.vllm import cpu_env
from delia_ray.models import load_tokenizer, locate, prompt_ids

GIB = 2**30
SMOLLM2 = {
    "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
    "num_hidden_layers": 30, "dtype": "bfloat16", "max_position_embeddings": 8192,
}  # fmt: skip


def _request(text: str, answer: int = 8) -> Request:
    return Request("k", [{"role": "user", "content": text}], answer)


def _asked(counted: list[Request], *requests: Request) -> int:
    def count(request: Request) -> int:
        counted.append(request)
        return len(request.messages[0]["content"].split()) + 3

    return longest(lambda: requests, count)


def test_the_longest_is_prompt_and_answer_together() -> None:
    assert _asked([], _request("a b c"), _request("a b", 20), _request("a")) == 25


def test_nothing_asked_is_nothing() -> None:
    assert _asked([]) == 0


def test_short_ones_are_not_counted() -> None:
    counted: list[Request] = []
    long = _request("a " * 2000)
    assert _asked(counted, *[_request("a b") for _ in range(500)], long) == 2011
    assert counted.count(long) >= 1
    assert len(counted) <= 3


def test_many_tokens_in_few_bytes_are_found() -> None:
    """The longest in bytes is not the longest in tokens."""
    assert _asked([], _request("x" * 1500 + " y"), _request("a " * 700)) == 711


@pytest.mark.parametrize(
    "text", ["€" * 300, "plain words " * 40, "\U0001f600 " * 50, "<sep> " * 90]
)
def test_it_is_exact_on_a_real_template(text) -> None:
    engine = make_engine(VllmEngine(), "miniature")
    tokenizer = load_tokenizer(locate("miniature"))
    requests = [_request(text[: len(text) // k], 4 * k) for k in range(1, 6)]
    exact = max(len(prompt_ids(tokenizer, r.messages)) + r.max_tokens for r in requests)
    assert engine.longest(lambda: requests) == model_length(exact, 2048)


def test_a_refused_prompt_does_not_stop_the_count() -> None:
    engine = make_engine(VllmEngine(), "miniature")
    bad = Request("bad", [{"role": "user", "content": None}], 4)
    assert engine.longest(lambda: [bad, _request("x", 200)]) == 256


@pytest.mark.parametrize(
    ("needed", "positions", "length"),
    [(1, None, 128), (128, None, 128), (129, None, 256), (700, 8192, 768), (9000, 8192, 8192),
     (600, 513, 513)],
)  # fmt: skip
def test_whole_blocks_within_the_models_positions(needed, positions, length) -> None:
    assert model_length(needed, positions) == length


def test_a_length_that_is_given_is_taken() -> None:
    given = make_engine(VllmEngine(max_model_len=512), "miniature")
    assert given.longest(lambda: [_request("x " * 2000)]) == 0
    assert given._engine_kwargs(gpu=False)["max_model_len"] == 512
    free = make_engine(VllmEngine(max_model_len=None), "miniature")
    assert "max_model_len" not in free._engine_kwargs(gpu=False, longest=256)
    auto = make_engine(VllmEngine(), "miniature")
    assert auto._engine_kwargs(gpu=False, longest=256)["max_model_len"] == 256


def _model(folder, **config) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (SMOLLM2, 2 * 30 * 3 * 64 * 2),
        (SMOLLM2 | {"dtype": "float32"}, 2 * 30 * 3 * 64 * 4),
        (SMOLLM2 | {"head_dim": 256, "num_key_value_heads": 1}, 2 * 30 * 256 * 2),
        ({"text_config": SMOLLM2, "model_type": "both"}, 2 * 30 * 3 * 64 * 2),
        ({"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}, 2 * 2 * 64 * 4),
    ],
    ids=["smollm2", "float32", "one wide head", "nested", "every head its own"],
)
def test_bytes_of_a_token_in_the_cache(tmp_path, config, size) -> None:
    assert cache_bytes_per_token(_model(tmp_path, **config)) == size


def test_positions_that_are_not_named(tmp_path) -> None:
    assert positions_of(_model(tmp_path, hidden_size=8)) is None


def test_the_cache_holds_all_where_memory_allows() -> None:
    assert cache_bytes(23040, 1024, 400 * GIB) == 23040 * 10 * 128 * 256
    assert cache_bytes(23040, 1024, 16 * GIB) == 4 * GIB
    assert cache_bytes(23040, 1024, 16 * GIB, engines=2) == 2 * GIB
    assert cache_bytes(23040, 8192, 0.01 * GIB) == 23040 * 66 * 128  # one request at least
    assert cache_bytes(64, 128, 0) == SMALLEST_CACHE


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((2, 2, 1), Cores(2, 1)), ((2, 2, 2), Cores(1, 1)), ((16, 16, 1), Cores(16, 15)),
        ((16, 16, 4), Cores(4, 3)), ((12, 4, 3), Cores(4, 3)), ((12, 4, 2), Cores(4, 3)),
        ((1, 1, 3), Cores(1, 1)), ((8, 8, 1, 2), Cores(4, 1)),
    ],
)  # fmt: skip
def test_cores_are_shared_out(given, expected) -> None:
    assert cores(*given) == expected
    engines = given[2]
    assert expected.reserved * engines <= max(given[0], engines)


def test_vllm_is_told_how_many_threads_and_left_unbound() -> None:
    env = cpu_env(2)
    assert env["OMP_NUM_THREADS"] == "2"
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert "VLLM_CPU_KVCACHE_SPACE" not in env  # it would overrule what was computed
