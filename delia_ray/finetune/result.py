"""What training leaves: a PEFT adapter, and one plain model.

Two failures of libraries below are worked around here. Each has a test of its own that fails
once the library works, and then its work-around can go:

- *PEFT's trained token rows are lost in a save under ZeRO-3* (seen with peft 0.21.2 and
  deepspeed 0.19.8, 2026-11-21): ``save_pretrained`` finds parameters that are spread over the
  ranks, of size zero. ``save_adapter`` gathers them first.
- *vLLM refuses adapters with trained token rows* (seen with vLLM 0.32.0, 2026-11-21: "is not
  a supported LoRA weight"). ``merge`` writes a plain model, which it takes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file

from delia_ray.finetune.model import load_base


def save_adapter(model: Any, tokenizer: Any, folder: Path, zero: int) -> None:
    """Write a PEFT adapter and the tokenizer; every rank must call it, rank 0 writes."""
    import deepspeed
    import torch.distributed as dist

    trained = [p for p in model.parameters() if p.requires_grad]
    with deepspeed.zero.GatheredParameters(trained, enabled=zero == 3):
        if dist.get_rank() == 0:
            write_adapter(model, tokenizer, folder)
    dist.barrier()


def write_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """``save_adapter`` of a model that this process has whole."""
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    state = {k: v.detach().cpu().clone().contiguous() for k, v in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    model.peft_config["default"].save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def merge(path: str, adapter: Path, special_tokens: Mapping[str, str], target: Path) -> None:
    """Write base + adapter as one plain model to ``target``.

    Adapted layers are added up in fp32 and rounded once; all others stay as they are stored, since
    whoever calls this may hold the model that was trained, too.
    """
    kept = stored_dtype(path)
    model, tokenizer = load_base(path, special_tokens, kept)
    tuned = PeftModel.from_pretrained(model, str(adapter))
    for module in tuned.modules():
        if isinstance(module, LoraLayer):
            module.get_base_layer().float()
    tuned.merge_and_unload().to(kept).save_pretrained(target)
    tokenizer.save_pretrained(target)


def save_whole(model: Any, tokenizer: Any, target: Path, zero: int, dtype: torch.dtype) -> None:
    """Write a fully trained model; every rank must call it, rank 0 writes.

    Parameters are gathered one at a time, so that no rank but the writer holds them all.
    """
    import deepspeed
    import torch.distributed as dist

    state = {}
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=zero == 3):
            if dist.get_rank() == 0:
                state[name] = parameter.detach().to("cpu", dtype, copy=True)
    if dist.get_rank() == 0:
        write_whole(model, tokenizer, target, state)
    dist.barrier()


def write_whole(
    model: Any, tokenizer: Any, target: Path, parameters: Mapping[str, torch.Tensor]
) -> None:
    """``save_whole`` with its ``parameters`` gathered."""
    buffers = {n: b.detach().cpu() for n, b in model.named_buffers() if n in model.state_dict()}
    model.save_pretrained(target, state_dict={**parameters, **buffers})
    tokenizer.save_pretrained(target)


def stored_dtype(path: str) -> torch.dtype:
    """The precision that the model in folder ``path`` is kept in."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(path).dtype or torch.float32
