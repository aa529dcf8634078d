"""The base model with new tokens and an adapter; saving and merging it.

Of the embedding only the rows of the declared tokens are trained (PEFT's
``trainable_token_indices``), on the input side and, where the output embedding is a matrix
of its own, there too. The paper's public code trains the whole matrix and initialises its
padding rows instead of the token's.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from delia_ray.config import Finetune
from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer
from delia_ray.records import digest

FLAT = ("flash_attention_2", "flash_attention_3")
"""Kernels for sequences of varying length, which want one row without padding."""
PAD_TO = 64  # rows of an embedding that has to grow; a multiple that GPUs like


def attention(wanted: str) -> str:
    """The kernel for ``finetune.attention``: what transformers calls ``attn_implementation``."""
    if wanted != "auto":
        return wanted
    has_kernel = importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if torch.cuda.is_available() and has_kernel else "sdpa"


def load_base(
    path: str, special_tokens: Mapping[str, str], dtype: torch.dtype, kernel: str = "sdpa"
) -> tuple[Any, Any]:
    """(model, tokenizer) of folder ``path`` with ``special_tokens`` in its vocabulary.

    The embedding grows only where it has no spare rows left. Rows that it gains hold the mean
    of the old ones until ``initialise_rows``: the same at every load, and never likely.
    """
    tokenizer = load_tokenizer(path, special_tokens)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation=kernel)
    old = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > old:
        model.resize_token_embeddings(
            len(tokenizer), pad_to_multiple_of=PAD_TO, mean_resizing=False
        )
        with torch.no_grad():
            for side in sides(model):
                side[old:] = side[:old].float().mean(0).to(side.dtype)
    return model, tokenizer


def sides(model: Any) -> list[torch.Tensor]:
    """The embedding matrices: one where input and output are tied, else both."""
    inner, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [inner] if head is inner else [inner, head]


def token_ids(tokenizer: Any, special_tokens: Mapping[str, str]) -> list[int]:
    """The ids of the declared tokens, in the order of their declaration."""
    return [tokenizer.convert_tokens_to_ids(t) for t in special_tokens]


def initialise_rows(
    model: Any, path: str, tokenizer: Any, special_tokens: Mapping[str, str], how: str, seed: int
) -> None:
    """Give the row of each token that is new to the model in ``path`` its first value.

    ``random``: normal, with the mean and spread that the existing rows have in each
    dimension; ``mean``: their mean; ``description``: the mean over the rows of the tokens
    of its description. A declared token that the model already has keeps its row.

    Raises:
        UserError: ``description`` is asked for and a token has none.
    """
    known = load_tokenizer(path).get_vocab()
    old = sorted(known.values())
    for token in (t for t in special_tokens if t not in known):
        words = tokenizer(special_tokens[token], add_special_tokens=False)["input_ids"]
        if how == "description" and not words:
            raise UserError(
                f"finetune.token_init=description, but downstream.special_tokens gives {token} "
                "no description"
            )
        draw = torch.Generator().manual_seed(int(digest([seed, token], 12), 16))
        for weight in sides(model):
            with torch.no_grad():
                rows = weight[words if how == "description" else old].float()
                value = rows.mean(0)
                if how == "random":
                    value += rows.std(0) * torch.randn(rows.shape[1], generator=draw)
                weight[tokenizer.convert_tokens_to_ids(token)] = value.to(weight.dtype)


def attach(
    model: Any, tokenizer: Any, special_tokens: Mapping[str, str], settings: Finetune
) -> Any:
    """The model with a LoRA adapter and the declared tokens' rows as its only trainable
    parameters.

    Raises:
        UserError: none of ``finetune.lora.target_modules`` is in the model.
    """
    rows = token_ids(tokenizer, special_tokens)
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = [_name(model, module) for module in modules[: len(sides(model))]]
    lora = settings.lora
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        trainable_token_indices=dict.fromkeys(names, rows) if rows else None,
    )
    layers = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    if not layers.intersection(lora.target_modules):
        raise UserError(
            f"finetune.lora.target_modules={lora.target_modules}: the model has none of these "
            f"layers; among its linear layers are {sorted(_linear_names(model))}"
        )
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()  # the frozen embedding would cut the graph
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.config.use_cache = False
    return get_peft_model(model, config)


def save_adapter(model: Any, tokenizer: Any, folder: Path, zero: int) -> None:
    """Write a PEFT adapter and the tokenizer; every rank must call it, rank 0 writes.

    Under ZeRO-3 the parameters are spread over the ranks and gathered first; PEFT's own
    ``save_pretrained`` would find them empty.
    """
    import deepspeed
    import torch.distributed as dist

    trained = [p for p in model.parameters() if p.requires_grad]
    with deepspeed.zero.GatheredParameters(trained, enabled=zero == 3):
        if dist.get_rank() == 0:
            state = get_peft_model_state_dict(model, save_embedding_layers=False)
            state = {k: v.detach().cpu().clone().contiguous() for k, v in state.items()}
            folder.mkdir(parents=True, exist_ok=True)
            save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
            model.peft_config["default"].save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    dist.barrier()


def merge(path: str, adapter: Path, special_tokens: Mapping[str, str], target: Path) -> None:
    """Write base + adapter as one plain model to ``target``.

    vLLM does not load adapters with trained token rows, so everything outside PEFT uses this.
    """
    model, tokenizer = load_base(path, special_tokens, torch.float32)
    dtype = _stored_dtype(path)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    merged.to(dtype).save_pretrained(target)
    tokenizer.save_pretrained(target)


def warmup(step: int, settings: Finetune) -> float:
    """Learning rate of 0-based ``step``: linear warm-up, then constant (the paper's)."""
    return settings.lr * min(1.0, (step + 1) / max(1, settings.warmup_steps))


def _stored_dtype(path: str) -> torch.dtype:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(path).dtype or torch.float32


def _name(model: Any, module: Any) -> str:
    """The module's own name in the model, as PEFT matches it."""
    name: str = next(n for n, m in model.named_modules() if m is module)
    return name.rsplit(".", 1)[-1]


def _linear_names(model: Any) -> set[str]:
    return {
        n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)
    }
