"""Trained rows computed without copies: values and gradients are PEFT's own."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.trainable_tokens import TrainableTokensLayer

from delia_ray.causal_models import load_causal
from delia_ray.config import Finetune
from delia_ray.finetune.model import attach, load_base
from delia_ray.finetune.token_layers import TokenRows, lighten
from tests.families.models import make_family

ROWS = [7, 3]
IDS = torch.tensor([[7, 1, 3, 7, 9, 2], [5, 3, 3, 8, 1, 7]])


def _tuned(path: str, light: bool):
    """The model with the adapter's second matrices and the rows moved from their first values."""
    model = load_causal(path, dtype=torch.float32)
    names = ["embed_tokens"] if _tied(model) else ["embed_tokens", "lm_head"]
    config = LoraConfig(
        target_modules=["q_proj"], r=2, trainable_token_indices=dict.fromkeys(names, ROWS)
    )
    torch.manual_seed(0)
    tuned = get_peft_model(model, config)
    assert lighten(tuned) == 2 if light else True
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return tuned


def _tied(model) -> bool:
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


def _gradients(tuned) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = tuned(input_ids=IDS, use_cache=False).logits
    (logits.log_softmax(-1)[..., ::3].sum() / 7).backward()
    found = {n: p.grad for n, p in tuned.named_parameters() if p.requires_grad}
    return logits.detach(), found


@pytest.fixture(params=["tied", "untied", "scaled"])
def path(request, make_model, tmp_path: Path) -> str:
    if request.param == "scaled":
        return str(make_family("Gemma 3", tmp_path / "base"))
    return str(make_model(tmp_path / "base", tied=request.param == "tied"))


def test_values_and_gradients_are_those_of_peft(path: str) -> None:
    (one, theirs), (other, ours) = (_gradients(_tuned(path, light)) for light in (False, True))
    torch.testing.assert_close(other, one)
    assert ours.keys() == theirs.keys()
    assert any("trainable_tokens" in name for name in ours)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, msg=name)


def test_rows_that_changed_are_seen_at_the_next_pass(path: str) -> None:
    plain, light = _tuned(path, False), _tuned(path, True)
    for tuned in (plain, light):
        tuned(input_ids=IDS)
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if "trainable_tokens" in name:
                    parameter.mul_(-1.5)
    expected = plain(input_ids=IDS).logits
    torch.testing.assert_close(light(input_ids=IDS).logits, expected)
    with plain.disable_adapter(), light.disable_adapter():
        torch.testing.assert_close(light(input_ids=IDS).logits, plain(input_ids=IDS).logits)
    torch.testing.assert_close(light(input_ids=IDS).logits, expected)
    merged = light.merge_and_unload()
    torch.testing.assert_close(merged(input_ids=IDS).logits, plain.merge_and_unload()(IDS).logits)


def test_a_head_with_a_bias_keeps_it() -> None:
    base = torch.nn.Linear(4, 6)
    layer = TrainableTokensLayer(base, "default")
    layer.trainable_tokens_delta["default"] = torch.nn.Parameter(base.weight[[1, 2]].detach() * 2)
    layer.token_indices["default"] = [1, 2]
    layer.__class__ = TokenRows
    states = torch.randn(3, 4)
    wanted = states @ base.weight.detach().index_fill(0, torch.tensor([1, 2]), 0).T + base.bias
    wanted[:, [1, 2]] += states @ layer.trainable_tokens_delta["default"].T
    torch.testing.assert_close(layer(states), wanted)


def test_no_matrix_is_kept_or_copied(make_model, tmp_path: Path) -> None:
    """Nor has the backward pass a gradient of one."""
    path = str(make_model(tmp_path / "base", tied=True, spare=4000))
    model, tokenizer = load_base(path, {"<sep>": "x"}, torch.float32)
    tuned = attach(model, tokenizer, {"<sep>": "x"}, Finetune())
    matrix = model.get_input_embeddings().token_adapter.base_layer.weight
    with torch.profiler.profile(profile_memory=True) as profile:
        tuned(input_ids=IDS, use_cache=False).logits[..., 0].sum().backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    logits = IDS.numel() * matrix.shape[0] * 4
    assert largest <= logits < matrix.numel() * 4
