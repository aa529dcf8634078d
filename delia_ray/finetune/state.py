"""The state of a training, free of the number of workers and the ZeRO stage.

DeepSpeed's own checkpoints hold what each rank holds, so they fit one number of ranks and one
stage, and are pickles. What is trained here is small beside the model (an adapter), so each
trained tensor is gathered whole, with the two moments of Adam, and the
ranks share the tensors among them. Adam's count of steps is the number of the step, and
the random state of a step is a function of its number.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)

from delia_ray.finetune.batches import Micro
from delia_ray.finetune.objective import run

_MOMENTS = ("exp_avg", "exp_avg_sq")

State = dict[str, torch.Tensor]
"""``<parameter>|value``, ``|exp_avg`` and ``|exp_avg_sq``, each whole, in fp32."""


def collect(engine: Any) -> State:
    """This rank's share of the state, on the CPU; every rank must call it."""
    rank, world = dist.get_rank(), dist.get_world_size()
    share: State = {}
    for number, (name, parameter) in enumerate(_trained(engine.module)):
        found = [safe_get_full_fp32_param(parameter)]
        found += [safe_get_full_optimizer_state(parameter, m) for m in _MOMENTS]
        if number % world != rank:
            continue
        for kind, value in zip(("value", *_MOMENTS), found, strict=True):
            share[f"{name}|{kind}"] = value.detach().to("cpu", copy=True).contiguous()
    return share


def restore_values(objective: torch.nn.Module, state: State) -> None:
    """Put the trained values into a model that no engine has taken yet."""
    with torch.no_grad():
        for name, parameter in _trained(objective):
            parameter.copy_(state[f"{name}|value"])


def restore_optimizer(engine: Any, state: State, step: int, micros: Sequence[Micro]) -> None:
    """Bring a fresh engine to where it was after ``step`` steps; every rank must call it.

    The optimizer makes its state in its first step, so one without gradient and without a
    learning rate is made first, on ``micros`` (one for each pass).
    """
    for group in engine.optimizer.param_groups:
        group["lr"] = 0.0
    for micro in micros:
        engine.backward(run(engine, micro.to(engine.device)).sum() * 0.0)
        engine.step()
    for name, parameter in _trained(engine.module):
        values = [state[f"{name}|{k}"].to(engine.device) for k in ("value", *_MOMENTS)]
        if hasattr(parameter, "ds_tensor"):
            _set_share(parameter, values)
            continue
        safe_set_full_fp32_param(parameter, values[0])
        for moment, value in zip(_MOMENTS, values[1:], strict=True):
            safe_set_full_optimizer_state(parameter, value, moment)
    for kept in engine.optimizer.optimizer.state.values():
        if torch.is_tensor(kept.get("step")):
            kept["step"].fill_(step)
        elif "step" in kept:
            kept["step"] = step


def _set_share(parameter: Any, values: Sequence[torch.Tensor]) -> None:
    """Under ZeRO-3: set this rank's part of a parameter and its moments.

    DeepSpeed's functions for whole values fail where the ranks do not divide a parameter evenly
    (deepspeed 0.19.8, ``set_full_hp_param``: "exceeds dimension size", 2026-11-21): they forget
    that the last rank's part is padded.
    """
    size, rank = parameter.ds_tensor.numel(), dist.get_rank()
    flats = [v.flatten() for v in values]
    padded = [torch.nn.functional.pad(f, (0, size * dist.get_world_size() - len(f))) for f in flats]
    own = [p[size * rank : size * (rank + 1)] for p in padded]
    safe_set_local_fp32_param(parameter, own[0])
    for moment, value in zip(_MOMENTS, own[1:], strict=True):
        safe_set_local_optimizer_state(parameter, value, moment)


def _trained(module: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(n, p) for n, p in module.named_parameters() if p.requires_grad]
