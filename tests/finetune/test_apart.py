"""Rows of a pack see nothing of each other, in models that carry a state along the row too."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GptOssConfig,
    JambaConfig,
    Lfm2Config,
    LlamaConfig,
    Mamba2Config,
    MptConfig,
    OPTConfig,
    Qwen3NextConfig,
    RecurrentGemmaConfig,
    StableLmConfig,
)

from delia_ray.causal_models import model_class
from delia_ray.errors import UserError
from delia_ray.finetune.job import Job
from delia_ray.finetune.layout import find_layout
from delia_ray.finetune.objective import Objective, alike
from delia_ray.finetune.small import few_layers, layers_of
from tests.families.models import make_family
from tests.finetune.gang import run_gang
from tests.finetune.helpers import prepare

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
SHORT = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2}
LINEAR = {
    "head_dim": 8, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
}  # fmt: skip
FAMILIES = {
    # name: (configuration, kernel that is found, whether rows are computed apart)
    "llama": (LlamaConfig(**SIZES), "auto", False),
    "gpt_oss": (
        GptOssConfig(**SIZES, head_dim=8, num_local_experts=4, num_experts_per_tok=2),
        "varlen", False,
    ),
    "stablelm": (StableLmConfig(**SIZES), "sdpa", False),
    "opt": (
        OPTConfig(**SHORT, ffn_dim=64, num_attention_heads=4, word_embed_proj_dim=32, dropout=0.0),
        "auto", False,
    ),
    "lfm2": (
        Lfm2Config(**SIZES, layer_types=["conv", "full_attention"] * 2, block_multiple_of=1),
        "auto", True,
    ),
    "qwen3_next": (
        Qwen3NextConfig(
            **SIZES, **LINEAR, layer_types=["linear_attention"] * 3 + ["full_attention"]
        ),
        "auto", True,
    ),
    "jamba": (
        JambaConfig(**SIZES, num_experts=2, mamba_d_state=8, attn_layer_offset=1,
                    attn_layer_period=2),
        "auto", True,
    ),
    "mamba2": (
        Mamba2Config(**SHORT, state_size=8, num_heads=8, head_dim=8, n_groups=1, chunk_size=8),
        "varlen", True,
    ),
    "recurrent_gemma": (
        RecurrentGemmaConfig(
            **{**SHORT, "num_hidden_layers": 3}, intermediate_size=96, num_attention_heads=4,
            lru_width=32, attention_window_size=64,
        ),
        "auto", True,
    ),
    "bloom": (BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4), "eager", True),
    "mpt": (MptConfig(vocab_size=97, d_model=32, n_layers=2, n_heads=4), "eager", True),
    "falcon": (FalconConfig(**SHORT, num_attention_heads=4, alibi=False), "sdpa", True),
}  # fmt: skip


def _saved(config, folder: Path) -> str:
    config.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layout_that_is_found_keeps_rows_apart(family: str, tmp_path: Path) -> None:
    """By its effect on another model of the family: the first row of a pack is changed, and the
    states of the second stay as they are."""
    config, kernel, apart = FAMILIES[family]
    layout = find_layout(_saved(config, tmp_path), "auto")
    assert (layout.kernel, layout.apart) == (kernel, apart)
    assert ("would see each other" in layout.why) == apart
    found = "varlen" if kernel == "auto" else kernel
    assert _change_of_the_second(config, found, apart) < 1e-4
    if apart:
        assert _change_of_the_second(config, found, False) > 1e-2, "and packed they would not be"


def _change_of_the_second(config, kernel: str, apart: bool) -> float:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=kernel).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    objective = Objective(model, apart=apart).eval()
    one, other, second = torch.randint(1, 97, (3, 9))
    borders = torch.tensor([0, 9, 18]).int() if apart or kernel == "varlen" else None
    positions = torch.cat([torch.arange(9), torch.arange(9)])[None]
    with torch.no_grad():
        states = [
            objective.states(torch.cat([first, second])[None], positions, borders)[0, 9:]
            for first in (one, other)
        ]
    return float((states[0] - states[1]).abs().max() / states[0].std())


@pytest.mark.parametrize(
    ("family", "kernel", "advice"),
    [("gpt_oss", "flash_attention_2", "auto"), ("gpt_oss", "sdpa", "auto"),
     ("bloom", "varlen", "auto"), ("mamba2", "sdpa", "auto")],
)  # fmt: skip
def test_a_kernel_that_computes_something_else_is_refused(
    family: str, kernel: str, advice: str, tmp_path: Path
) -> None:
    config, found, _ = FAMILIES[family]
    path = _saved(config, tmp_path)
    with pytest.raises(UserError, match=rf"{kernel}.*{family}.*set finetune\.attention={advice}"):
        find_layout(path, kernel)
    assert find_layout(path, advice).kernel == found


def test_a_copy_has_one_layer_of_each_kind() -> None:
    types = ["linear_attention"] * 3 + ["full_attention"]
    config = Qwen3NextConfig(**{**SIZES, "num_hidden_layers": 12}, **LINEAR, layer_types=types * 3)
    few = few_layers(config)
    assert (few.num_hidden_layers, few.layer_types) == (4, types)
    assert len(layers_of(model_class(few).from_config(few))) == 4
    assert config.num_hidden_layers == 12, "the model's own is left alone"
    plain = few_layers(LlamaConfig(**{**SIZES, "num_hidden_layers": 9}))
    assert plain.num_hidden_layers == 2


def test_rows_of_like_length_are_computed_together() -> None:
    assert alike([8, 4, 3, 16, 1, 15]) == [[3, 5, 0], [1, 2], [4]]
    assert alike([]) == []


def _losses(out) -> list[float]:
    return (out / "finetune" / "delia").read_table("curve.parquet")["loss"].to_pylist()


def test_the_length_of_packs_changes_no_loss(tmp_path: Path) -> None:
    """In whole trainings by two processes; under ZeRO-3 they have to keep in step."""
    jobs, outs = [], {}
    for family, zero in (("Llama", 1), ("LFM2", 1), ("LFM2", 3), ("Qwen3.5", 2)):
        base = make_family(family, tmp_path / family)
        for length in (16, 1024):
            root = tmp_path / f"{family}-{zero}-{length}"
            config, out = prepare(
                root, base, mix={"ratio": 3, "max_length": 128, "pack_length": length},
                finetune={"zero": zero, "steps": 2, "lora": {"r": 4, "dropout": 0.0}},
            )  # fmt: skip
            jobs.append((Job(config, out / "mix", out / "finetune"), None))
            outs[family, zero, length] = out
    run_gang(2, jobs)
    for family, zero, length in outs:
        packed, single = _losses(outs[family, zero, 1024]), _losses(outs[family, zero, 16])
        assert packed == pytest.approx(single, rel=1e-5), (family, zero, length)
    assert _losses(outs["LFM2", 1, 16]) == pytest.approx(_losses(outs["LFM2", 3, 16]), rel=1e-5)
