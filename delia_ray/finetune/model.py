"""The base model with new tokens, and what of it is trained.

Of the embedding only the rows of the declared tokens are trained (PEFT's
``trainable_token_indices``), on the input side and, where the output embedding is a matrix
of its own, there too.
"""

from collections.abc import Mapping
from typing import Any

import torch
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)

from delia_ray.causal_models import decoder_of, load_causal
from delia_ray.config import Finetune
from delia_ray.errors import UserError
from delia_ray.finetune.attention import attention
from delia_ray.finetune.dropout import quicken
from delia_ray.finetune.fused import fuse
from delia_ray.finetune.lora_layers import find_layers
from delia_ray.finetune.token_layers import lighten
from delia_ray.models import load_tokenizer, locate_adapter
from delia_ray.token_rows import grow, sides, token_ids


def load_base(
    path: str, special_tokens: Mapping[str, str], dtype: torch.dtype, kernel: str = "eager",
    quantize: str = "none",
) -> tuple[Any, Any]:  # fmt: skip
    """(model, tokenizer) of folder ``path`` with ``special_tokens`` in its vocabulary.

    Their rows hold no value of their own until ``initialise_rows``.
    """
    tokenizer = load_tokenizer(path, special_tokens)
    options = {} if quantize == "none" else {"quantization_config": _quantization(quantize, dtype)}
    model = load_causal(path, dtype=dtype, attn_implementation=attention(kernel), **options)
    grow(model, tokenizer)
    return model, tokenizer


def _quantization(quantize: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    # As in QLoRA: 4-bit NormalFloat, with its scales quantised too.
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )  # fmt: skip


def attach(
    model: Any, tokenizer: Any, special_tokens: Mapping[str, str], settings: Finetune
) -> Any:
    """The model with what is trained as its only trainable parameters: an adapter and the
    declared tokens' rows, or (``method=full``) everything.

    Raises:
        UserError: the model has none of the layers to adapt, or ``finetune.adapter`` is not
            an adapter that can be gone on with.
    """
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()  # the frozen embedding would cut the graph
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.config.use_cache = False
    if settings.method == "full":
        return _all_of_the_text_model(model)
    rows = token_ids(tokenizer, special_tokens)
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = [_name(model, module) for module in modules[: len(sides(model))]]
    indices = dict.fromkeys(names, rows) if rows else None
    if settings.adapter is not None:
        return _quick(_go_on(model, settings.adapter, indices), settings)
    lora = settings.lora
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=settings.method == "dora",
        target_modules=find_layers(model, lora.target_modules),
        trainable_token_indices=indices,
    )
    return _quick(get_peft_model(model, config), settings)


def _quick(tuned: Any, settings: Finetune) -> Any:
    quicken(tuned)
    lighten(tuned)
    if settings.zero != 3:
        fuse(tuned)
    return tuned


def _all_of_the_text_model(model: Any) -> Any:
    """Vision towers see nothing here, so they stay as they are."""
    model.requires_grad_(decoder_of(model).config is model.config)
    for part in (decoder_of(model), model.get_input_embeddings(), model.get_output_embeddings()):
        part.requires_grad_(True)
    return model


def _go_on(model: Any, adapter: str, indices: dict[str, list[int]] | None) -> Any:
    """The model with the LoRA adapter in folder or URL ``adapter``, and our tokens' rows."""
    folder = locate_adapter(adapter)
    try:
        config = LoraConfig.from_pretrained(folder)
        weights = load_peft_weights(folder, device="cpu")
    except (OSError, ValueError, TypeError) as problem:
        raise UserError(
            f"finetune.adapter={adapter} is not a PEFT LoRA adapter ({problem}); give a folder "
            "with adapter_config.json and adapter_model.safetensors"
        ) from None
    own = config.trainable_token_indices or {}
    if config.modules_to_save or not isinstance(own, dict) or not _within(own, indices or {}):
        raise UserError(
            f"finetune.adapter={adapter} trained modules_to_save={config.modules_to_save} and the "
            f"rows of tokens {own}; only LoRA weights and rows of tokens that "
            f"downstream.special_tokens declares ({indices}) can be gone on with"
        )
    config.trainable_token_indices, config.inference_mode = indices, False
    tuned = get_peft_model(model, config)
    # PEFT wants a value for every row; those that the adapter does not know begin as ours do.
    known = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    weights = {n: v for n, v in known.items() if "lora_" not in n} | weights
    try:
        told = set_peft_model_state_dict(tuned, weights)
        missing = [n for n in told.missing_keys if "lora_" in n]
        wrong = f"lacks {missing[:3]}" if missing else f"has {told.unexpected_keys[:3]} too many"
    except RuntimeError as problem:  # other shapes
        missing, wrong = ["all"], str(problem).splitlines()[1].strip()
    if missing or told.unexpected_keys:
        raise UserError(
            f"finetune.adapter={adapter} does not fit the model ({wrong}); is `model` the one that "
            "it was trained on?"
        )
    return tuned


def _within(rows: dict[str, list[int]], declared: dict[str, list[int]]) -> bool:
    return all(declared.get(name) == own for name, own in rows.items())


def _name(model: Any, module: Any) -> str:
    """The module's own name in the model, as PEFT matches it."""
    name: str = next(n for n, m in model.named_modules() if m is module)
    return name.rsplit(".", 1)[-1]
