"""DeepSpeed's engine around the objective, and its configuration."""

from collections.abc import Mapping
from typing import Any

import torch

from delia_ray.config import Finetune

_BUCKET = 5 * 10**8
"""DeepSpeed's default, which is the most."""


def make_engine(
    objective: torch.nn.Module, settings: Finetune, world: int, passes: int, packs: int
) -> Any:
    """The engine of this rank, for ``passes`` of ``packs`` packs in each step; all ranks meet
    here."""
    import deepspeed
    from deepspeed.ops.op_builder import ShareMemCommBuilder

    # On a CPU DeepSpeed 0.19 compiles this operator at start (half a minute, and a compiler
    # on every node) for an all-reduce that only inference uses.
    deepspeed.ops.__compatible_ops__[ShareMemCommBuilder.NAME] = False
    trained = [p for p in objective.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(
        model=objective,
        model_parameters=trained,
        config=deepspeed_config(settings, world, passes, packs, sum(p.numel() for p in trained)),
    )
    if settings.compile:
        engine.compile()
    return engine


def deepspeed_config(
    settings: Finetune, world: int, passes: int, packs: int, trained: int = _BUCKET
) -> dict[str, Any]:
    """DeepSpeed's JSON; batch sizes are its way of saying how many passes make a step.

    Args:
        passes: of each rank in a step.
        packs: of each pass.
        trained: numbers that are trained. DeepSpeed's buffers hold 5e8 by default, a gigabyte
            in bf16, where an adapter has some 1e6.
    """
    bucket = max(1, min(_BUCKET, trained))
    zero: dict[str, Any] = {
        "stage": settings.zero,
        "overlap_comm": False,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if settings.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if settings.offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    ours = {
        "train_micro_batch_size_per_gpu": packs,
        "gradient_accumulation_steps": passes,
        "train_batch_size": packs * passes * world,
        "zero_optimization": zero,
        # DeepSpeed's own offloaded Adam needs a compiler on the workers; adapters are small.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype(settings.precision) == torch.bfloat16},
        "optimizer": {
            "type": "AdamW",
            # Adapters are small: PyTorch's own AdamW needs no compiler on the workers.
            "params": {"lr": settings.lr, "weight_decay": settings.weight_decay,
                       "torch_adam": True},
        },
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
    }  # fmt: skip
    return _merged(ours, settings.deepspeed)


def _merged(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    found = dict(ours)
    for key, value in theirs.items():
        nested = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = _merged(found[key], value) if nested else value
    return found


def dtype(precision: str) -> torch.dtype:
    """The precision of the weights for ``finetune.precision``."""
    if precision == "auto":
        fast = torch.cuda.is_available() or multiplies_bf16()
        return torch.bfloat16 if fast else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def multiplies_bf16() -> bool:
    """Whether this processor has instructions for products of bf16 (AMX or AVX512-BF16);
    without them a product in bf16 is slower than in fp32."""
    can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of torch 2.12
    return bool(can.get("amx_bf16") or can.get("avx512_bf16"))
