"""What is computed as one step is what the steps would give: values, gradients, and when not."""

from typing import Any

import pytest
import torch
import transformers as tf
from peft import LoraConfig, get_peft_model
from torch.nn.functional import linear
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from delia_ray.config import Finetune
from delia_ray.finetune.dropout import Dropout, draw, quicken
from delia_ray.finetune.fused import FusedLinear, FusedNorm, fuse

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 128,
}  # fmt: skip
FAMILIES = {
    # 2 layers x 4 projections; 2 x 2 norms and the last one.
    "llama": (tf.LlamaConfig(**SIZES), 8, 5),
    "qwen2": (tf.Qwen2Config(**SIZES), 8, 5),  # its projections have a bias
    "qwen3": (tf.Qwen3Config(**SIZES), 8, 9),  # norms of queries and keys beside
    "mistral": (tf.MistralConfig(**SIZES), 8, 5),
    "gemma3": (tf.Gemma3TextConfig(**SIZES, sliding_window=6), 8, 0),  # multiplies by 1 + weight
}


def _tuned(config: Any, dropout: float = 0.0, **more: Any) -> Any:
    torch.manual_seed(0)
    model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    wanted = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=6, lora_dropout=dropout,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], init_lora_weights=False, **more,
    )  # fmt: skip
    tuned = get_peft_model(model.float(), wanted)
    quicken(tuned)
    return tuned.train()


def _gradients(tuned: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.arange(1, 23).view(2, 11)
    tuned.zero_grad()
    logits = tuned(input_ids=ids, use_cache=False).logits.float()
    (logits.log_softmax(-1) @ torch.linspace(-1, 1, 97)).sum().backward()
    return logits, {n: p.grad.float() for n, p in tuned.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_computes_the_same(family: str) -> None:
    config, layers, norms = FAMILIES[family]
    tuned = _tuned(config)
    logits, expected = _gradients(tuned)
    assert fuse(tuned) == (layers, norms)
    found, gradients = _gradients(tuned)
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)
    assert fuse(tuned) == (0, 0)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_in_16_bits_it_is_no_further_from_fp32_than_the_steps_are(family: str) -> None:
    exact_logits, exact = _gradients(_tuned(FAMILIES[family][0]))

    def distance(fused: bool) -> list[float]:
        tuned = _tuned(FAMILIES[family][0]).bfloat16()
        if fused:
            fuse(tuned)
        logits, gradients = _gradients(tuned)
        off = sum(float((gradients[n] - exact[n]).square().sum()) for n in exact)
        return [float((logits - exact_logits).detach().square().sum()), off]

    for own, steps in zip(distance(True), distance(False), strict=True):
        assert 0 < own < 1.2 * steps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("needs", [True, False])
def test_dropout_and_its_gradient(dtype: torch.dtype, needs: bool) -> None:
    layer = _tuned(FAMILIES["qwen2"][0], dropout=0.3).to(dtype)
    fuse(layer)
    layer = next(m for m in layer.modules() if isinstance(m, FusedLinear))
    x = torch.randn(3, 7, 32, dtype=dtype, requires_grad=needs)
    base, a, b = layer.get_base_layer(), layer.lora_A["default"], layer.lora_B["default"]
    torch.manual_seed(5)
    mask = draw(x, 0.3)
    torch.manual_seed(5)
    found = layer(x)
    kept = x * (mask != 0) / 0.7
    assert 0.1 < float((kept == 0).double().mean()) < 0.5
    whole = linear(x, base.weight, base.bias) + 1.5 * linear(linear(kept, a.weight), b.weight)
    torch.testing.assert_close(found, whole)
    wanted = [a.weight, b.weight, *([x] if needs else [])]
    above = torch.randn_like(found)
    for own, other in zip(
        torch.autograd.grad(found, wanted, above), torch.autograd.grad(whole, wanted, above),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(own, other)
    layer.eval()
    plain = linear(x, base.weight, base.bias) + 1.5 * linear(linear(x, a.weight), b.weight)
    torch.testing.assert_close(layer(x), plain)


@pytest.mark.parametrize("how", ["dora", "disabled", "merged", "full", "foreign dropout"])
def test_what_is_not_plain_is_left_to_peft(how: str) -> None:
    tuned = _tuned(FAMILIES["llama"][0], use_dora=how == "dora")
    if how == "foreign dropout":
        for module in tuned.modules():
            if hasattr(module, "lora_dropout"):
                module.lora_dropout["default"] = torch.nn.AlphaDropout(0.2)
    if how == "full":
        tuned.requires_grad_(True)

    def compute() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(3)
        if how == "merged":
            return tuned(input_ids=torch.arange(9)[None], use_cache=False).logits, {}
        if how == "disabled":
            with tuned.disable_adapter():
                return tuned(input_ids=torch.arange(9)[None], use_cache=False).logits, {}
        return _gradients(tuned)

    if how == "merged":
        tuned.merge_adapter()
    logits, expected = compute()
    fuse(tuned)
    found, gradients = compute()
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


def test_a_norm_keeps_a_number_for_each_token_only() -> None:
    norm = LlamaRMSNorm(512).bfloat16().requires_grad_(False)

    def kept() -> int:
        sizes: list[int] = []
        x = torch.randn(4, 512).bfloat16().requires_grad_()

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor is not norm.weight and tensor.data_ptr() != x.data_ptr():
                sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            norm(x)
        return sum(sizes)

    before = kept()
    assert fuse(torch.nn.ModuleList([norm])) == (0, 1)
    assert isinstance(norm, FusedNorm)
    assert kept() == 4 * 4 < before


def test_training_takes_it_but_not_where_zero_gathers_weights(make_model, tmp_path) -> None:
    from delia_ray.finetune.model import attach, load_base

    path = str(make_model(tmp_path / "m"))
    for zero, fused in ((1, True), (2, True), (3, False)):
        model, tokenizer = load_base(path, {}, torch.float32)
        tuned = attach(model, tokenizer, {}, Finetune(zero=zero))
        assert any(isinstance(m, FusedLinear) for m in tuned.modules()) == fused
        assert any(isinstance(m, Dropout) for m in tuned.modules())
