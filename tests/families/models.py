"""Tiny models with random weights of many families, with chat templates in their public manner.

The templates are written after the formats that the models' cards describe.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from delia_ray.causal_models import model_class

_MARKED = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
)
_ASKED = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
_DEFAULT = (
    "{%- if messages[0].role != 'system' %}"
    "{{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{%- endif %}"
)
_HEADERS = (
    "{%- for m in messages %}{{- (bos_token if loop.first else '') + '<|head|>' + m.role + "
    "'<|/head|>\\n\\n' + (m.content | trim) + '<|eot|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|head|>assistant<|/head|>\\n\\n' }}{%- endif %}"
)
_THINKS = (
    "{%- for m in messages %}{%- if m.role == 'assistant' and loop.last %}"
    "{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}" + _ASKED
)
_GEMMA = (
    "{{- bos_token }}{%- if messages[0].role == 'system' %}"
    "{{- raise_exception('System role not supported') }}{%- endif %}{%- for m in messages %}"
    "{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + "
    "(m.content | trim) + '<end_of_turn>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"
)
_INST = (
    "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{{- '[INST] ' + m.content + ' [/INST]' }}{%- elif m.role == 'assistant' %}"
    "{{- ' ' + m.content + eos_token }}{%- else %}"
    "{{- raise_exception('Only user and assistant roles are supported!') }}{%- endif %}"
    "{%- endfor %}"
)
_PHI = (
    "{%- for m in messages %}{{- '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- else %}{{- eos_token }}"
    "{%- endif %}"
)
_OLMO = (
    "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'assistant' %}"
    "{{- '<|assistant|>\\n' + m.content + eos_token + ('' if loop.last else '\\n') }}"
    "{%- else %}{{- '<|' + m.role + '|>\\n' + m.content + '\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"
)
_ROLES = (
    "{%- for m in messages %}{{- '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + "
    "'<|end_of_text|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)
_CHANNELS = (
    "{%- for m in messages %}{%- if m.role == 'assistant' %}"
    "{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + "
    "('<|return|>' if loop.last else '<|end|>') }}{%- else %}"
    "{{- '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}"
)


@dataclass(frozen=True)
class Manner:
    """How a family writes chats."""

    what: str
    """For the table."""
    template: str
    specials: tuple[str, ...]
    """Ids 0, 1, 2, ... in this order."""
    bos: str | None
    ends: tuple[str, ...]
    """Tokens of ``eos_token_id`` in generation_config.json; the first is the tokenizer's."""
    pad: str
    has_system: bool = True


_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MANNERS = {
    "headers": Manner(
        "BOS in the template, two end tokens", _HEADERS,
        ("<|bos|>", "<|head|>", "<|/head|>", "<|eot|>", "<|eom|>", "<|pad|>"), "<|bos|>",
        ("<|eot|>", "<|eom|>"), "<|pad|>",
    ),
    "default system": Manner(
        "default system turn, two end tokens", _DEFAULT + _MARKED + _ASKED, _IM, None,
        ("<|im_end|>", "<|endoftext|>"), "<|endoftext|>",
    ),
    "chatml": Manner(
        "BOS in the template", "{{- bos_token }}" + _MARKED + _ASKED, _IM, "<|endoftext|>",
        ("<|im_end|>",), "<|endoftext|>",
    ),
    "thinks": Manner(
        "an empty thinking block before the last answer", _THINKS,
        (*_IM, "<think>", "</think>"), None, ("<|im_end|>", "<|endoftext|>"), "<|endoftext|>",
    ),
    "gemma": Manner(
        "no system role, BOS in the template, two end tokens", _GEMMA,
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<bos>",
        ("<end_of_turn>", "<eos>"), "<pad>", has_system=False,
    ),
    "inst": Manner(
        "no system role, BOS in the template, pad equal to end", _INST,
        ("<s>", "</s>", "[INST]", "[/INST]"), "<s>", ("</s>",), "</s>", has_system=False,
    ),
    "phi": Manner(
        "end of turn and end of text after the last answer", _PHI,
        ("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"), None,
        ("<|end|>", "<|endoftext|>"), "<|endoftext|>",
    ),
    "olmo": Manner(
        "BOS equal to end, pad of its own", _OLMO,
        ("<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"), "<|endoftext|>",
        ("<|endoftext|>",), "<|pad|>",
    ),
    "roles": Manner(
        "role markers, pad equal to end", _ROLES,
        ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"), None, ("<|end_of_text|>",),
        "<|end_of_text|>",
    ),
    "channels": Manner(
        "the answer in a channel, another end for the last turn", _CHANNELS,
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|pad|>"), None,
        ("<|return|>",), "<|pad|>",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A tiny model, and what is known to come out of it."""

    config: Callable[[dict[str, Any]], Any]
    """From the sizes below to a configuration."""
    manner: str
    refused: str = ""
    """What the refusal says, for a family that cannot be trained."""


def _vision(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    return {**sizes, **more}


def _text(kind: Callable[..., Any], **more: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda sizes: kind(**{**sizes, **more})


_HEADS = {"head_dim": 8}
_TIED = {"tie_word_embeddings": True}
_LINEAR = {
    **_HEADS, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
_SSM = {"mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 16}
FAMILIES: dict[str, Family] = {
    "Llama": Family(_text(tf.LlamaConfig), "headers"),
    "Qwen2": Family(_text(tf.Qwen2Config, **_TIED), "default system"),
    "Qwen3": Family(_text(tf.Qwen3Config, **_HEADS, **_TIED), "thinks"),
    "Gemma 2": Family(_text(tf.Gemma2Config, **_HEADS, sliding_window=8), "gemma"),
    "Gemma 3": Family(
        _text(tf.Gemma3TextConfig, **_HEADS, sliding_window=8,
              layer_types=["sliding_attention", "full_attention"]),
        "gemma",
    ),
    "Gemma 3 (vision)": Family(
        lambda sizes: tf.Gemma3Config(
            text_config=tf.Gemma3TextConfig(**sizes, **_HEADS).to_dict(),
            vision_config=_vision(image_size=28, patch_size=14), mm_tokens_per_image=4,
        ),
        "gemma",
    ),
    "Mistral": Family(_text(tf.MistralConfig, **_HEADS, sliding_window=16), "inst"),
    "Phi-3": Family(_text(tf.Phi3Config, original_max_position_embeddings=512), "phi"),
    "OLMo 2": Family(_text(tf.Olmo2Config), "olmo"),
    "Granite": Family(_text(tf.GraniteConfig, logits_scaling=2.0, **_TIED), "roles"),
    "SmolLM3": Family(_text(tf.SmolLM3Config, **_TIED), "thinks"),
    "Qwen2-MoE": Family(
        _text(tf.Qwen2MoeConfig, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
              shared_expert_intermediate_size=32),
        "default system",
    ),
    "gpt-oss": Family(
        _text(tf.GptOssConfig, **_HEADS, sliding_window=64, num_local_experts=4,
              num_experts_per_tok=2),
        "channels",
    ),
    "LFM2": Family(
        _text(tf.Lfm2Config, layer_types=["conv", "full_attention"], block_multiple_of=1), "chatml"
    ),
    "Qwen3.5": Family(_text(tf.Qwen3_5TextConfig, **_LINEAR, **_TIED), "thinks"),
    "Falcon-H1": Family(
        _text(tf.FalconH1Config, **_SSM, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8), "chatml"
    ),
    "Qwen2-VL": Family(
        lambda sizes: tf.Qwen2VLConfig(
            text_config={**sizes, "rope_parameters": {
                "rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}},
            vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
        ),
        "default system",
    ),
    "StableLM": Family(_text(tf.StableLmConfig), "chatml"),
    "BLOOM": Family(
        lambda s: tf.BloomConfig(vocab_size=s["vocab_size"], hidden_size=32, n_layer=2, n_head=4),
        "inst",
    ),
    "RWKV": Family(
        lambda s: tf.RwkvConfig(vocab_size=s["vocab_size"], hidden_size=32, num_hidden_layers=2),
        "inst", refused="of the family rwkv, a training step fails",
    ),
    "T5": Family(
        lambda s: tf.T5Config(vocab_size=s["vocab_size"], d_model=32, d_ff=64, num_layers=1,
                              num_heads=2, d_kv=16),
        "inst", refused="the family t5",
    ),
}  # fmt: skip


def make_tokenizer(manner: Manner) -> Any:
    """Bytes, and the manner's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: at for at, token in enumerate([*manner.specials, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=manner.bos, eos_token=manner.ends[0],
        pad_token=manner.pad, additional_special_tokens=list(manner.specials),
    )  # fmt: skip
    tokenizer.chat_template = manner.template
    return tokenizer


def make_family(name: str, folder: Path) -> Path:
    """The model folder of a family."""
    family = FAMILIES[name]
    manner = MANNERS[family.manner]
    tokenizer = make_tokenizer(manner)
    ends = tokenizer.convert_tokens_to_ids(list(manner.ends))
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends[0], "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    config = family.config(sizes)
    torch.manual_seed(0)
    try:
        model = model_class(config).from_config(config)
    except Exception:
        model = tf.AutoModelForSeq2SeqLM.from_config(config)
    model = model.float()
    model.generation_config = tf.GenerationConfig(
        eos_token_id=ends if len(ends) > 1 else ends[0], pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
