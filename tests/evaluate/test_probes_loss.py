"""Losses of answers, gradients of groups of rows, and what was forgotten."""

from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from delia_ray.chats.texts import DIFFERS, NO_END, Refused
from delia_ray.evaluate.probes import retention
from delia_ray.evaluate.probes.batches import Row
from delia_ray.evaluate.probes.forgetting import Change, forgetting
from delia_ray.evaluate.probes.gradients import (
    attention_projections,
    compare,
    gradient,
    gradient_angles,
)
from delia_ray.evaluate.probes.loss import encode, end_ids, row_losses
from delia_ray.miniature import MODEL_PATH, rows
from delia_ray.mix.tokenize import encode as encode_for_training
from delia_ray.models import end_ids as end_ids_of_folder
from delia_ray.models import load_tokenizer


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Of matrices as small as these, threads mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def miniature() -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH)
    return model.eval(), load_tokenizer(str(MODEL_PATH))


def chats(part: str, n: int) -> list[dict[str, Any]]:
    found = [row["messages"] for row in rows(part, n, seed=2)]
    return [{"prompt": m[:-1], "answer": m[-1]["content"], "source": part} for m in found]


def encoded(part: str, n: int) -> list[Row]:
    model, tokenizer = miniature()
    ends = end_ids(model, tokenizer)
    return encode(tokenizer, chats(part, n), ends)


def own_loss(row: Row) -> torch.Tensor:
    """The model's own, from labels."""
    ids = torch.tensor([row.ids])
    labels = torch.where(torch.tensor([row.supervised]), ids, -100)
    loss: torch.Tensor = miniature()[0](input_ids=ids, labels=labels).loss
    return loss


# --- loss ------------------------------------------------------------------------------------


def test_the_tokens_that_count_are_those_of_training() -> None:
    model, tokenizer = miniature()
    ends = end_ids(model, tokenizer)
    assert ends == end_ids_of_folder(str(MODEL_PATH))
    own = [*chats("corpus", 20), *chats("lessons", 20)]  # some of two turns
    assert any(len(r["prompt"]) > 1 for r in own)
    theirs = encode_for_training(tokenizer, [(r["prompt"], r["answer"]) for r in own], ends)
    for found, other in zip(encode(tokenizer, own, ends), theirs, strict=True):
        assert list(found.ids) == other.ids
        assert list(found.supervised) == other.supervised.tolist()


def test_a_template_that_writes_no_end_is_refused() -> None:
    _, tokenizer = miniature()
    assert encode(tokenizer, chats("plain", 1), [999_999]) == [Refused(NO_END)]


def test_a_template_that_rewrites_the_prompt_is_refused() -> None:
    tokenizer = load_tokenizer(str(MODEL_PATH))
    tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    model, own = miniature()[0], chats("plain", 2)
    assert encode(tokenizer, own, end_ids(model, tokenizer)) == [Refused(DIFFERS)] * 2
    found = retention(model, tokenizer, own)
    assert (found["rows"], found["left_out"]) == ([], 2)


def test_retention_is_the_models_own_loss(monkeypatch) -> None:
    monkeypatch.setattr("delia_ray.evaluate.probes.batches._TOKENS", 200)  # several passes
    own = [*chats("corpus", 9), *chats("lessons", 5)]
    found = retention(*miniature(), own)
    lines = [*encoded("corpus", 9), *encoded("lessons", 5)]
    expected = [own_loss(row).item() for row in lines]
    np.testing.assert_allclose(found["rows"], expected, rtol=1e-4, atol=1e-5)
    counts = [sum(row.supervised) for row in lines]
    assert found["supervised_tokens"] == counts
    assert found["loss"] == pytest.approx(np.average(expected, weights=counts), rel=1e-4)
    for source, part in (("corpus", slice(9)), ("lessons", slice(9, None))):
        mean = np.average(expected[part], weights=counts[part])
        assert found["sources"][source]["loss"] == pytest.approx(mean, rel=1e-4)
        assert found["sources"][source]["supervised_tokens"] == sum(counts[part])
    assert found["sources"]["lessons"]["rows"] == 5


def test_the_model_knows_its_world_and_not_the_corpus_foreign_voice() -> None:
    losses = [retention(*miniature(), chats(part, 16))["loss"] for part in ("plain", "corpus")]
    assert losses[0] < 0.1 < 1 < losses[1]


def test_edges_of_the_loss() -> None:
    assert retention(*miniature(), []) == {
        "loss": None, "rows": [], "supervised_tokens": [], "sources": {}, "left_out": 0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"rows \[1\] have no supervised token"):
        # Of the second only the first token is supervised, and nothing stands before it.
        row_losses(miniature()[0], [Row([5, 6], [False, True]), Row([5, 6], [True, False])])


# --- gradients -------------------------------------------------------------------------------


class Bigram(torch.nn.Module):
    """Logits of the next token are a row of a matrix: gradients that a hand can work."""

    device = torch.device("cpu")

    def __init__(self, table: list[list[float]]) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(table))
        self.unused = torch.nn.Parameter(torch.ones(2))
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=2))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


def test_a_gradient_by_hand() -> None:
    model = Bigram([[0.0, 0.0], [0.0, float(np.log(3))]])
    # After 0: 1/2 each; after 1: 1/4 and 3/4. Counted: 0->1 twice, 1->1 once; 1->0 is not.
    lines = [Row([0, 1, 1], [False, True, True]), Row([1, 0, 1], [False, False, True])]
    found = gradient(model, lines, lambda name: True)
    expected = np.array([[2 * 0.5, 2 * -0.5], [0.25, -0.25]]) / 3
    np.testing.assert_allclose(found["table"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["unused"], 0)
    np.testing.assert_allclose(
        row_losses(model, lines), [(np.log(2) + np.log(4 / 3)) / 2, np.log(2)], rtol=1e-5
    )


def test_angles_by_hand() -> None:
    found = compare(
        {
            "downstream": {"x": torch.tensor([3.0]), "y": torch.tensor([[4.0, 0.0]])},
            "diverse": {"x": torch.tensor([-2.0]), "y": torch.tensor([[0.0, 0.0]])},
            "nothing": {"x": torch.zeros(1), "y": torch.zeros(1, 2)},
        }
    )
    assert found["norm"] == {"downstream": 5, "diverse": 2, "nothing": 0}
    assert found["cosine"]["downstream"] == {"diverse": pytest.approx(-0.6), "nothing": None}
    assert found["cosine"]["diverse"]["downstream"] == pytest.approx(-0.6)
    assert found["projection"]["downstream"]["diverse"] == pytest.approx(-3)
    assert found["projection"]["diverse"]["downstream"] == pytest.approx(-1.2)
    assert found["projection"]["nothing"] == {"downstream": 0, "diverse": 0}


def test_the_gradient_is_that_of_the_models_own_loss(monkeypatch) -> None:
    monkeypatch.setattr("delia_ray.evaluate.probes.batches._TOKENS", 150)
    model, _ = miniature()
    lines = encoded("corpus", 8)
    found = gradient(model, lines)
    assert set(found) == {
        f"model.layers.{i}.self_attn.{p}_proj.weight" for i in range(4) for p in "qkvo"
    }
    counts = [sum(row.supervised) for row in lines]
    whole = sum(own_loss(r) * n for r, n in zip(lines, counts, strict=True)) / sum(counts)
    parameters = dict(model.named_parameters())
    expected = torch.autograd.grad(whole, [parameters[n] for n in found])
    for name, other in zip(found, expected, strict=True):
        torch.testing.assert_close(found[name], other, rtol=1e-3, atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH).train()
    head = model.get_input_embeddings().weight
    head.requires_grad_(False)
    gradient(model, encoded("plain", 2))
    assert model.training
    assert not head.requires_grad
    assert all(p.grad is None for p in model.parameters())
    others = [p for p in model.parameters() if p is not head]
    assert all(p.requires_grad for p in others)


def test_groups_of_rows_are_told_apart() -> None:
    groups = {
        "downstream": encoded("downstream", 8), "again": encoded("downstream", 8),
        "diverse": encoded("corpus", 16),
    }  # fmt: skip
    found = gradient_angles(miniature()[0], groups)
    assert found["cosine"]["downstream"]["again"] == pytest.approx(1, abs=1e-5)
    assert abs(found["cosine"]["downstream"]["diverse"]) < 0.9
    length = found["norm"]["downstream"] * found["cosine"]["downstream"]["diverse"]
    assert found["projection"]["downstream"]["diverse"] == pytest.approx(length)


def test_a_gradient_of_nothing_is_refused() -> None:
    model, _ = miniature()
    with pytest.raises(ValueError, match="no wanted parameter"):
        gradient(model, encoded("plain", 1), lambda name: False)
    with pytest.raises(ValueError, match="no supervised token"):
        gradient(model, [])
    assert not attention_projections("model.layers.0.mlp.down_proj.weight")


# --- forgetting ------------------------------------------------------------------------------


def test_forgetting_by_hand() -> None:
    found = forgetting(
        before=[1, 1, 0, 0, 1, 0.5], after=[1, 0, 1, 0, 0.9, 1],
        groups=["json", "json", "json", "list", "list", "list"],
    )  # fmt: skip
    assert found.total == Change(6, 0.5, 0.5, forgotten=2, learned=2)
    assert found.groups == {
        "json": Change(3, pytest.approx(2 / 3), pytest.approx(2 / 3), 1, 1),
        "list": Change(3, pytest.approx(1 / 3), pytest.approx(1 / 3), 1, 1),
    }
    assert (found.forgotten, found.learned) == ([1, 4], [2, 5])
    lenient = forgetting([1, 0.5], [0.5, 0.4], ["a", "b"], right=0.5)
    assert (lenient.forgotten, lenient.learned) == ([1], [])


scored = st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 1]), st.text("ab")))


@given(scored)
def test_accounts_balance(lines: list[tuple[float, float, str]]) -> None:
    before, after, groups = ([line[i] for line in lines] for i in range(3))
    found = forgetting(before, after, groups)
    assert sum(c.rows for c in found.groups.values()) == len(lines)
    assert sum(c.forgotten for c in found.groups.values()) == len(found.forgotten)
    for change in found.groups.values():
        gain = (change.learned - change.forgotten) / change.rows
        assert change.after - change.before == pytest.approx(gain)
    swapped = forgetting([a >= 1 for a in after], [b >= 1 for b in before], groups)
    assert (swapped.forgotten, swapped.learned) == (found.learned, found.forgotten)


def test_no_rows_and_unlike_rows() -> None:
    assert forgetting([], [], []).total is None
    with pytest.raises(ValueError, match="2 scores before, 1 after"):
        forgetting([1, 0], [1], ["a", "a"])
