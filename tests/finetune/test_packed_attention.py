"""Packed documents see nothing of each other, in every family of models."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from delia_ray.finetune.attention import FLAT, varlen

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 128,
}  # fmt: skip
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES),
    "gemma": GemmaConfig(**SIZES),
    "gemma2": Gemma2Config(**SIZES, sliding_window=6),
    "gemma3": Gemma3TextConfig(**SIZES, sliding_window=6),
    "mistral": MistralConfig(**SIZES, sliding_window=6),
}
LENGTHS = [(5, 1, 9, 3), (12, 6)]


def _packed(documents: list[list[torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, positions), (b, t) with padding at the right, as ``Steps`` lays them out."""
    width = max(sum(len(d) for d in line) for line in documents)
    ids = torch.zeros(len(documents), width, dtype=torch.int64)
    positions = torch.zeros_like(ids)
    for at, line in enumerate(documents):
        whole = torch.cat(line)
        ids[at, : len(whole)] = whole
        positions[at, : len(whole)] = torch.cat([torch.arange(len(d)) for d in line])
    return ids, positions


@pytest.mark.parametrize("kernel", ["sdpa", "eager", "varlen"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_those_of_single_documents(family: str, kernel: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family], attn_implementation=kernel)
    model = model.float().eval()
    documents = [[torch.randint(1, 97, (n,)) for n in line] for line in LENGTHS]
    borders = {}
    if kernel in FLAT:
        documents = [[d for line in documents for d in line]]
        lengths = [0, *(len(d) for d in documents[0])]
        borders["cu_seq_lens_q"] = torch.tensor(lengths).cumsum(0).int()
    ids, positions = _packed(documents)
    weights = torch.randn(97)

    # The reference is the mathematics written out, whatever the kernel. Gemma 2 caps its
    # scores, which sdpa leaves out.
    capped = getattr(model.config, "attn_logit_softcapping", None) is not None
    model.set_attn_implementation("sdpa" if kernel == "sdpa" and capped else "eager")
    model.zero_grad()
    alone = [
        model(input_ids=d[None], use_cache=False).logits[0] for line in documents for d in line
    ]
    sum((a.log_softmax(-1) @ weights).sum() for a in alone).backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}

    model.set_attn_implementation(kernel)
    model.zero_grad()
    logits = model(input_ids=ids, position_ids=positions, use_cache=False, **borders).logits
    found = []
    for line, row in zip(documents, logits, strict=True):
        found += row[: sum(len(d) for d in line)].split([len(d) for d in line])
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    sum((f.log_softmax(-1) @ weights).sum() for f in found).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-4)


def test_without_new_positions_documents_would_leak() -> None:
    """The test above can fail: one document sees another where positions run on."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES["llama"]).eval()
    one, two = torch.randint(1, 97, (5,)), torch.randint(1, 97, (6,))
    whole = torch.cat([one, two])[None]
    with torch.no_grad():
        leaking = model(input_ids=whole, use_cache=False).logits[0, 5:]
        alone = model(input_ids=two[None], use_cache=False).logits[0]
    assert (leaking - alone).abs().max() > 1e-3


@pytest.mark.parametrize("lengths", [(3, 50, 7), (600, 5)])
def test_bf16_on_a_cpu_is_near_fp32_and_stays_bf16(lengths: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    total = sum(lengths)
    borders = torch.tensor([0, *lengths]).cumsum(0).int()
    query, key, value = (torch.randn(1, heads, total, 8) for heads in (4, 2, 2))
    exact, _ = varlen(torch.nn.Identity(), query, key, value, None, cu_seq_lens_q=borders)
    halves = [x.bfloat16() for x in (query, key, value)]
    found, _ = varlen(torch.nn.Identity(), *halves, None, cu_seq_lens_q=borders)
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).abs().max() < 0.05
