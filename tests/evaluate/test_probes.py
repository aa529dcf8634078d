"""Probes of a token: hidden states, distance, neighbours, patching."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
)

from delia_ray.evaluate.probes import probe
from delia_ray.evaluate.probes.distance import (
    distances,
    linear_cka,
    random_tokens,
    token_distance,
)
from delia_ray.evaluate.probes.neighbours import neighbours
from delia_ray.evaluate.probes.patching import (
    Patch,
    blocks,
    divergence,
    log_probs,
    token_patching,
)
from delia_ray.evaluate.probes.states import last_states, states_at
from delia_ray.miniature import MODEL_PATH, rows
from delia_ray.models import described, load_tokenizer, prompts_ids

SEP = "<sep>"
NEAR = {"rtol": 0, "atol": 2e-4}
"""Of states of size 10 or so in fp32, made in passes of other shapes."""
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Of matrices as small as these, threads mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def miniature() -> tuple[Any, Any, int]:
    """(model, tokenizer, id of a new token whose row is random)."""
    tokenizer = load_tokenizer(str(MODEL_PATH), [SEP])
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH)
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    return model.eval(), tokenizer, tokenizer.convert_tokens_to_ids(SEP)


@cache
def asked(n: int = 12) -> tuple[tuple[int, ...], ...]:
    """Prompts of several lengths with the token in them."""
    chats = [row["messages"][:1] for row in rows("sep_unseen_tasks", n, seed=5)]
    return tuple(map(tuple, prompts_ids(miniature()[1], chats)))


def set_row(token: int, to: int) -> None:
    weight = miniature()[0].get_input_embeddings().weight  # tied
    with torch.no_grad():
        weight[token] = weight[to]


# --- states ----------------------------------------------------------------------------------


def families(make_model: Callable[..., Path], folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    small = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 3, "head_dim": 8}
    return {
        "llama": AutoModelForCausalLM.from_pretrained(make_model(folder)),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=16, n_layer=3, n_head=2)),
        "gemma2": Gemma2ForCausalLM(
            Gemma2Config(
                **small, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1,
                sliding_window=4,
                layer_types=[f"{kind}_attention" for kind in ("sliding", "full", "full")],
            )
        ),
    }  # fmt: skip


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2"])
def small(request, make_model, tmp_path_factory) -> Any:
    """Families that place tokens, scale the embedding and name their blocks otherwise."""
    return families(make_model, tmp_path_factory.mktemp("model"))[request.param].eval()


def test_padding_changes_no_state(small) -> None:
    prompts = [RNG.integers(5, 260, n).tolist() for n in (3, 17, 9, 9, 1)]
    together = last_states(small, prompts)
    depth = len(blocks(small))
    assert together.shape == (depth + 1, 5, 16)
    for i, prompt in enumerate(prompts):
        alone = small(torch.tensor([prompt]), output_hidden_states=True).hidden_states
        for layer in range(depth + 1):
            np.testing.assert_allclose(
                together[layer, i], alone[layer][0, -1].detach().numpy(), **NEAR
            )


def test_many_batches_come_back_in_order(monkeypatch) -> None:
    model, prompts = miniature()[0], asked()
    whole = last_states(model, prompts)
    monkeypatch.setattr("delia_ray.evaluate.probes.batches._TOKENS", 50)
    np.testing.assert_allclose(last_states(model, prompts), whole, **NEAR)
    assert np.abs(np.diff(whole[-1], axis=0)).max() > 0.1  # an order that can be mistaken


# --- distance --------------------------------------------------------------------------------


def test_distances_by_hand() -> None:
    one = np.array([[[3.0, 4.0], [1.0, 0.0]]])
    other = np.array([[[0.0, 0.0], [0.0, 2.0]]])
    found = distances(one, other)
    np.testing.assert_allclose(found.l2, [[5, 5**0.5]])
    np.testing.assert_allclose(found.cosine[0, 1], 1)
    opposed = distances(one, -one)
    np.testing.assert_allclose(opposed.cosine, [[2, 2]])
    same = distances(one, one)
    assert not same.l2.any()
    np.testing.assert_allclose(same.cosine, 0, atol=1e-12)
    assert same.cka == [pytest.approx(1)]


def test_cka_sees_no_rotation_shift_or_scale_but_anything_else() -> None:
    states = RNG.normal(size=(40, 6))
    turn, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    assert linear_cka(states, 3 * states @ turn + 7) == pytest.approx(1)
    assert linear_cka(states, states @ np.diag([1, 1, 1, 1, 1, 9])) < 0.9
    # By hand: of centred one-dimensional states it is the squared correlation.
    x, y = RNG.normal(size=(2, 40))
    assert linear_cka(x[:, None], y[:, None]) == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    wide = RNG.normal(size=(2000, 3)), RNG.normal(size=(2000, 5))
    assert linear_cka(*wide) < 0.01


def test_cka_of_states_that_do_not_vary_is_not_defined() -> None:
    same = np.repeat(RNG.normal(size=(1, 6)), 10, 0).astype(np.float32)
    assert linear_cka(same, RNG.normal(size=(10, 6))) is None
    assert linear_cka(RNG.normal(size=(10, 6)), same) is None


def test_controls_are_ordinary_tokens_and_depend_on_the_seed() -> None:
    _, tokenizer, sep = miniature()
    drawn = random_tokens(tokenizer, [sep, 400], 10_000, 0)
    assert len(set(drawn)) == len(drawn)
    assert not set(drawn) & {sep, 400, *tokenizer.all_special_ids}
    assert len(drawn) > 900
    few = [random_tokens(tokenizer, [], 8, seed) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]


def test_a_token_with_its_descriptions_row_is_at_distance_zero() -> None:
    model, tokenizer, sep = miniature()
    word = tokenizer(" json", add_special_tokens=False)["input_ids"][-1]
    set_row(sep, word)
    found = token_distance(model, tokenizer, asked(), sep, [word], seed=0, draws=3)
    np.testing.assert_allclose(found["l2"], 0, **NEAR)
    np.testing.assert_allclose(found["cosine"], 0, atol=1e-5)
    assert found["cka"][0] is None  # all prompts end in the same token
    np.testing.assert_allclose(found["cka"][1:], 1, atol=1e-5)
    random = found["random"]
    assert random["l2"][0] == 0
    assert min(random["l2"][1:]) > 0.01
    assert max(random["cka"][1:]) < 0.9999
    assert np.mean([d["l2"] for d in random["draws"]]) == pytest.approx(random["l2"][-1])
    assert len(found["last"]["l2"]) == len(asked())


def test_distance_is_that_of_the_prompts_written_out() -> None:
    """A description of several tokens, the token twice in a prompt."""
    model, tokenizer, sep = miniature()
    words = tokenizer("in json format", add_special_tokens=False)["input_ids"]
    prompts = [[5, sep, 7, 8, sep, 9], [sep, 6]]
    found = token_distance(model, tokenizer, prompts, sep, words, seed=0, draws=1)
    meant = last_states(model, [[5, *words, 7, 8, *words, 9], [*words, 6]])
    gap = np.linalg.norm(last_states(model, prompts) - meant, axis=-1).mean(1)
    np.testing.assert_allclose(found["l2"], gap, rtol=1e-4, atol=1e-4)
    assert gap[-1] > 0.1


# --- neighbours ------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_neighbours_are_found_on_both_sides(make_model, tmp_path, tied) -> None:
    path = make_model(tmp_path, tied=tied, spare=5)
    model = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = load_tokenizer(str(path))
    a, b, c = (tokenizer.convert_tokens_to_ids(x) for x in "abc")
    sides = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    with torch.no_grad():
        sides[0][b] = 5 * sides[0][a]
        sides[0][-1] = sides[0][a]  # stands for no token
        if not tied:
            sides[1][c] = 2 * sides[1][a]
    found = neighbours(model, tokenizer, a, count=4)
    assert found["input"][0] == ("b", pytest.approx(1))
    assert found["input"][1][1] < 0.99
    similar = [value for _, value in found["input"]]
    assert similar == sorted(similar, reverse=True)
    assert len(similar) == 4
    assert ("output" in found) != tied
    if not tied:
        assert found["output"][0] == ("c", pytest.approx(1))


# --- patching --------------------------------------------------------------------------------


def test_a_prompts_own_states_change_nothing(small) -> None:
    """The layer that is patched is the one that the states were taken from."""
    prompts = [RNG.integers(5, 260, n).tolist() for n in (8, 12, 5)]
    places = [[3, 1], [7, 11], [0, 4]]
    own, plain = states_at(small, prompts, places), log_probs(small, prompts)
    np.testing.assert_allclose(plain.exp().sum(1), 1, rtol=1e-5)
    for layer in range(len(blocks(small))):
        patches = [Patch(p, s[layer]) for p, s in zip(places, own, strict=True)]
        torch.testing.assert_close(log_probs(small, prompts, layer, patches), plain, **NEAR)
        moved = [Patch(p, s[layer] + torch.randn(16)) for p, s in zip(places, own, strict=True)]
        assert (log_probs(small, prompts, layer, moved) - plain).abs().max() > 1e-3
    torch.testing.assert_close(log_probs(small, prompts), plain, **NEAR)  # no hook is left


def test_patching_all_of_it_makes_the_description_at_every_layer() -> None:
    model, _, sep = miniature()
    set_row(sep, 17)
    prompts = [list(p) for p in asked()]
    meant = [described(p, {sep: [400]}) for p in prompts]
    everywhere = [list(range(len(p))) for p in prompts]
    states, true = states_at(model, meant, everywhere), log_probs(model, meant)
    assert divergence(true, log_probs(model, prompts)).max() > 1e-3
    for layer in range(len(blocks(model))):
        patches = [Patch(p, s[layer]) for p, s in zip(everywhere, states, strict=True)]
        after = log_probs(model, prompts, layer, patches)
        np.testing.assert_allclose(divergence(true, after), 0, atol=1e-5)


def test_divergence_by_hand() -> None:
    p, q = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    expected = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), np.log(2)]
    found = divergence((p + 1e-30).log(), q.log())
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert divergence(q.log(), q.log()).tolist() == [0, 0]


def test_the_embedding_of_a_one_token_description_makes_the_description() -> None:
    model, tokenizer, sep = miniature()
    set_row(sep, 17)
    found = token_patching(model, tokenizer, asked(), sep, [400], seed=0)
    assert found["layers"] == 4
    assert found["token"] > 1e-3
    assert found["token_patched"][0] == pytest.approx(0, abs=1e-5)
    # And the token's in the description's prompt makes the token's prompt.
    assert found["description_patched"][0] == pytest.approx(found["token"], rel=1e-3)
    assert found["description_random"][0] == pytest.approx(found["random"], rel=1e-3)
    assert np.mean(found["rows"]["token"]) == pytest.approx(found["token"])


def test_a_longer_description_is_patched_at_its_last_token() -> None:
    model, tokenizer, sep = miniature()
    words = [301, 302, 303]
    prompts = [[5, sep, 7, 8, sep, 9], [6, 6, sep, 4]]
    found = token_patching(model, tokenizer, prompts, sep, words, seed=0)
    meant = [[5, *words, 7, 8, *words, 9], [6, 6, *words, 4]]
    ends, own = [[3, 8], [4]], [[1, 4], [2]]
    states, true = states_at(model, meant, ends), log_probs(model, meant)
    for layer in (0, 3):
        patches = [Patch(p, s[layer]) for p, s in zip(own, states, strict=True)]
        after = divergence(true, log_probs(model, prompts, layer, patches)).mean()
        assert found["token_patched"][layer] == pytest.approx(float(after), rel=1e-3)
    # At the embedding: the last token of each description becomes the token.
    mixed = [[5, 301, 302, sep, 7, 8, 301, 302, sep, 9], [6, 6, 301, 302, sep, 4]]
    after = divergence(true, log_probs(model, mixed)).mean()
    assert found["description_patched"][0] == pytest.approx(float(after), rel=1e-3)


# --- all together ----------------------------------------------------------------------------


def test_probe_says_all_in_json() -> None:
    model, tokenizer, _ = miniature()
    chats = [row["messages"][:1] for row in rows("sep_seen", 6)]
    plain = [row["messages"][:1] for row in rows("plain", 3)]
    found = probe(model, tokenizer, [*plain, *chats], SEP, "json", seed=3)
    assert found["prompts"] == 6
    assert found == probe(model, tokenizer, [*plain, *chats], SEP, "json", seed=3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(found["distance"]["l2"]) == 5
    assert len(found["patching"]["token_patched"]) == 4
    assert len(found["neighbours"]["input"]) == 10


def test_what_cannot_be_measured_says_why() -> None:
    model, tokenizer, _ = miniature()
    chats = [row["messages"][:1] for row in rows("sep_seen", 2)]
    blank = probe(model, tokenizer, chats, SEP, "", seed=0)
    assert blank["distance"] == blank["patching"] == {"skipped": f"{SEP} has no description"}
    assert blank["neighbours"]["input"]
    plain = [row["messages"][:1] for row in rows("plain", 2)]
    assert (
        "no prompt holds" in probe(model, tokenizer, plain, SEP, "json", 0)["distance"]["skipped"]
    )
    assert "no prompt holds" in probe(model, tokenizer, [], SEP, "json", 0)["distance"]["skipped"]
    # The base model, whose vocabulary the token is not of.
    base = AutoModelForCausalLM.from_pretrained(MODEL_PATH)
    for own in (tokenizer, load_tokenizer(str(MODEL_PATH))):
        found = probe(base, own, chats, SEP, "json", seed=0)
        assert "no token of this model" in found["neighbours"]["skipped"]
