"""An adapter gets the layers that are asked for, or those around what mixes tokens."""

from typing import Any

import pytest
import transformers as tf

from delia_ray.causal_models import model_class
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.finetune.lora_layers import find_layers, shortest

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
          "num_attention_heads": 2}  # fmt: skip
SHORT = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2}
USUAL = ["k_proj", "o_proj", "q_proj", "v_proj"]
GEMMA4 = tf.Gemma4TextConfig(
    **SIZES, head_dim=8, sliding_window=8, vocab_size_per_layer_input=97,
    hidden_size_per_layer_input=8, layer_types=["sliding_attention", "full_attention"],
)  # fmt: skip
FOUND = {
    "llama": (tf.LlamaConfig(**SIZES), USUAL),
    "phi3": (tf.Phi3Config(**SIZES, pad_token_id=0), ["o_proj", "qkv_proj"]),
    "gpt2": (
        tf.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4), ["attn.c_proj", "c_attn"]
    ),
    "gpt_neox": (
        tf.GPTNeoXConfig(**SHORT, intermediate_size=64, num_attention_heads=4),
        ["dense", "query_key_value"],
    ),
    "mpt": (tf.MptConfig(vocab_size=97, d_model=32, n_layers=2, n_heads=4), ["Wqkv", "out_proj"]),
    "deepseek_v3": (
        tf.DeepseekV3Config(
            **{**SIZES, "num_key_value_heads": 4}, q_lora_rank=16, kv_lora_rank=16,
            qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, n_routed_experts=4, n_group=1,
            topk_group=1, num_experts_per_tok=2, moe_intermediate_size=16, first_k_dense_replace=1,
        ),
        ["kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "q_a_proj", "q_b_proj"],
    ),
    "lfm2": (
        tf.Lfm2Config(**SIZES, layer_types=["conv", "full_attention"], block_multiple_of=1),
        ["in_proj", "k_proj", "out_proj", "q_proj", "v_proj"],
    ),
    # The kernels of state spaces read the weight of out_proj past an adapter.
    "mamba": (tf.MambaConfig(**SHORT, state_size=8), ["in_proj"]),
    "qwen2_moe": (tf.Qwen2MoeConfig(**SIZES, num_experts=4), USUAL),
}  # fmt: skip
VISIONS = {
    "gemma3": tf.Gemma3Config(
        text_config=tf.Gemma3TextConfig(**SIZES, head_dim=8).to_dict(), vision_config=VISION
    ),
    "smolvlm": tf.SmolVLMConfig(
        text_config={**tf.LlamaConfig(**SIZES).to_dict(), "model_type": "llama"},
        vision_config=VISION,
    ),
    # Its vision tower has wrappers that PEFT cannot adapt.
    "gemma4": tf.Gemma4Config(
        text_config=GEMMA4.to_dict(), vision_config={**VISION, "head_dim": 8}, audio_config=None
    ),
}


def _model(config: Any) -> Any:
    return model_class(config).from_config(config)


@pytest.mark.parametrize("family", FOUND)
def test_the_default_finds_the_projections_of_a_family(family: str) -> None:
    config, layers = FOUND[family]
    assert find_layers(_model(config), "auto") == layers


@pytest.mark.parametrize("wanted", ["auto", ["q_proj", "v_proj"]])
@pytest.mark.parametrize("family", VISIONS)
def test_a_vision_tower_gets_none(family: str, wanted: Any) -> None:
    model = _model(VISIONS[family])
    text = {
        n
        for n, _ in model.named_modules()
        if n.split(".")[1:2] in (["language_model"], ["text_model"])
    }
    found = find_layers(model, wanted)
    assert found
    assert set(found) <= text
    assert {name.rsplit(".", 1)[-1] for name in found} == set(USUAL if wanted == "auto" else wanted)
    vision = [n for n, _ in model.named_modules() if n.endswith("q_proj") and n not in text]
    assert vision, "or the test could not fail"


@pytest.mark.parametrize(
    ("family", "wanted", "message"),
    [
        (
            "phi3",
            USUAL,
            r"no layers \['k_proj', 'q_proj', 'v_proj'\], though it has \['o_proj'\].*qkv_proj",
        ),
        ("llama", ["q_proj", "v_porj"], r"no layers \['v_porj'\].*v_proj.*auto"),
        ("gpt2", ["q_proj"], r"no layers \['q_proj'\].*c_attn"),
        (
            "llama",
            ["q_proj", "self_attn"],
            r"\['self_attn'\] are not linear layers.*LlamaAttention",
        ),
        ("mamba", ["in_proj", "out_proj"], r"\['out_proj'\] are read past an adapter"),
        ("llama", ["norm"], r"\['norm'\] are not linear layers.*LlamaRMSNorm"),
    ],
)
def test_what_the_model_lacks_is_named(family: str, wanted: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_layers(_model(FOUND[family][0]), wanted)


def test_what_a_vision_tower_alone_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"\['fc1'\] are not linear layers of the text model"):
        find_layers(_model(VISIONS["gemma3"]), ["q_proj", "fc1"])


def test_a_name_stands_for_itself() -> None:
    model = _model(FOUND["llama"][0])
    one = "model.layers.1.self_attn.q_proj"
    assert find_layers(model, [one, "up_proj"]) == sorted(
        [one, "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"]
    )


def test_names_are_as_short_as_tell_them_apart() -> None:
    names = ["a.0.attn.c", "a.0.mlp.c", "a.1.attn.c", "a.1.mlp.c", "a.0.attn.q", "a.1.attn.q"]
    attention = {n for n in names if "attn" in n}
    assert shortest(attention, names) == ["attn.c", "q"]
    assert shortest({"a.0.attn.q"}, names) == ["a.0.attn.q"]


def test_the_recipe_takes_auto_or_names() -> None:
    def read(value: Any) -> Any:
        tree = {"finetune": {"lora": {"target_modules": value}}}
        return RunConfig.model_validate(tree).finetune.lora.target_modules

    assert RunConfig().finetune.lora.target_modules == "auto"
    assert (read("auto"), read(["qkv_proj"])) == ("auto", ["qkv_proj"])
    for wrong in ("all", [], "q_proj"):
        with pytest.raises(ValueError, match="target_modules"):
            read(wrong)
