"""The loss after a frozen head: values and gradients are those of the logits written out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from delia_ray.causal_models import load_causal
from delia_ray.config import Finetune
from delia_ray.finetune import objective as module
from delia_ray.finetune.batches import Micro
from delia_ray.finetune.head_loss import FrozenHead, frozen_head
from delia_ray.finetune.model import attach, load_base
from delia_ray.finetune.objective import Objective, run
from tests.families.models import make_family

VOCABULARY, WIDTH, TOKENS = 50, 8, 9


def _given(kind: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "states": torch.randn(TOKENS, WIDTH, generator=random).to(kind).requires_grad_(),
        "target": torch.randint(VOCABULARY, (TOKENS,), generator=random),
        "weight": torch.randn(VOCABULARY, WIDTH, generator=random).to(kind),
        "counts": torch.rand(TOKENS, generator=random),
    }


@pytest.mark.parametrize("at_once", [1, VOCABULARY * 4, VOCABULARY * 9, 10**9])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("index", [None, [3, 41]])
def test_values_and_gradients(at_once: int, bias: bool, index: list[int] | None) -> None:
    """However many logits are held, and whatever each token counts."""
    own = _given()
    shift = torch.linspace(-2, 2, VOCABULARY) if bias else None
    rows = None if index is None else own["weight"][index].clone().requires_grad_()
    places = None if index is None else torch.tensor(index)
    head = FrozenHead(own["weight"], shift, rows, places)
    losses = head.losses(own["states"], own["target"], at_once)
    wanted = [own["states"]] if rows is None else [own["states"], rows]
    found = torch.autograd.grad((losses * own["counts"]).sum(), wanted)
    matrix = own["weight"] if rows is None else own["weight"].index_copy(0, places, rows)
    logits = linear(own["states"], matrix, shift)
    expected = cross_entropy(logits, own["target"], reduction="none")
    torch.testing.assert_close(losses, expected)
    for one, other in zip(
        found, torch.autograd.grad((expected * own["counts"]).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_logits_that_are_far_apart() -> None:
    own = _given()
    states = (own["states"] * 1e3).detach().requires_grad_()
    losses = FrozenHead(own["weight"], None, None, None).losses(states, own["target"], 100)
    expected = cross_entropy(linear(states, own["weight"]), own["target"], reduction="none")
    torch.testing.assert_close(losses, expected)


def test_in_bf16_as_near_as_rounding() -> None:
    exact, rough = _given(), _given(torch.bfloat16)
    losses = FrozenHead(rough["weight"], None, None, None).losses(
        rough["states"], rough["target"], 200
    )
    assert losses.dtype == torch.float32
    (found,) = torch.autograd.grad(losses.sum(), [rough["states"]])
    expected = cross_entropy(
        linear(exact["states"], exact["weight"]), exact["target"], reduction="none"
    )
    torch.testing.assert_close(losses, expected, rtol=0.02, atol=0.05)
    (right,) = torch.autograd.grad(expected.sum(), [exact["states"]])
    torch.testing.assert_close(found.float(), right, rtol=0.05, atol=0.05)


def test_no_token_that_counts_has_gradients_of_zero() -> None:
    own = _given()
    rows = own["weight"][[3]].clone().requires_grad_()
    head = FrozenHead(own["weight"], None, rows, torch.tensor([3]))
    losses = head.losses(own["states"][:0], own["target"][:0], 100)
    states, of_rows = torch.autograd.grad(losses.sum(), [own["states"], rows])
    assert not states.any()
    assert not of_rows.any()


TOKEN = {"<sep>": "x"}
KINDS: dict[str, dict[str, Any]] = {
    "rows of tokens": {},
    "adapter on the head": {"lora": {"target_modules": ["q_proj", "lm_head"]}},
    "every weight": {"method": "full"},
}


@pytest.mark.parametrize("family", ["Llama", "Gemma 3", "Granite"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_objective_is_the_same_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, family: str
) -> None:
    """Heads that are trained, and logits that are scaled, take the way of logits."""
    if family != "Llama" and kind != "rows of tokens":
        pytest.skip("kinds are tried on one family")
    path = str(make_family(family, tmp_path / "base"))
    (loss, ours, taken), (other, theirs, _) = (
        _gradients(path, KINDS[kind], way, monkeypatch) for way in (frozen_head, lambda head: None)
    )
    assert taken == (kind == "rows of tokens" and family != "Granite")
    torch.testing.assert_close(loss, other)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def _gradients(
    path: str, settings: dict[str, Any], way: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[torch.Tensor, dict[str, torch.Tensor], bool]:
    taken = []

    def looked_at(head: Any) -> Any:
        taken.append(way(head))
        return taken[-1]

    monkeypatch.setattr(module, "frozen_head", looked_at)
    tokens = {} if "lora" in settings else TOKEN  # PEFT puts no adapter over trained rows
    model, tokenizer = load_base(path, tokens, torch.float32)
    torch.manual_seed(0)
    own = Finetune.model_validate({"lora": {"dropout": 0.0}} | settings)
    objective = Objective(attach(model, tokenizer, tokens, own)).train()
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 200, (2, 24), generator=random)
    ids[0, 5] = ids[1, 20] = tokenizer.convert_tokens_to_ids("<sep>") if tokens else 7
    places = torch.arange(24).expand(2, 24)
    labels = torch.where(places > 3, ids, -100)
    loss = run(objective, Micro(ids, places, labels, places < 9))
    (loss[0] + 2 * loss[1]).backward()
    named = objective.named_parameters()
    return loss.detach(), {n: p.grad for n, p in named if p.grad is not None}, any(taken)


def test_no_logits_are_kept_and_few_are_made(make_model, tmp_path: Path) -> None:
    path = str(make_model(tmp_path / "base", tied=True, spare=20_000))
    model = load_causal(path, dtype=torch.float32)
    head = frozen_head(model.requires_grad_(False).get_output_embeddings())
    states = torch.randn(400, model.config.hidden_size, requires_grad=True)
    target = torch.zeros(400, dtype=torch.int64)
    with torch.profiler.profile(profile_memory=True) as profile:
        head.losses(states, target, 2**20).sum().backward()
    most = max(event.cpu_memory_usage for event in profile.events())
    assert most <= 2**22 < 400 * model.vocab_size * 4
