"""What each training worker runs; one call trains one arm."""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.finetune.batches import Steps, token_losses
from delia_ray.finetune.model import (
    FLAT,
    attach,
    attention,
    initialise_rows,
    load_base,
    merge,
    save_adapter,
    warmup,
)
from delia_ray.finetune.progress import PROGRESS
from delia_ray.models import locate
from delia_ray.records import METRIC_POINT, conform, digest

CURVE = "curve.parquet"
"""Written last for each arm: an arm that has it is done."""
_SECONDS_BETWEEN_PROGRESS = 1.0


@dataclass(frozen=True)
class Job:
    """What the workers need to know; all of it plain data or URLs."""

    config: RunConfig
    mix: Folder
    out: Folder


def train(job: Job) -> None:
    """Train every arm that is not done: ``<arm>/adapter``, ``merged`` and ``curve.parquet``.

    Runs inside ``ray.train``: the process group is set up, and ``get_checkpoint`` gives the
    last checkpoint after a restart. One group of workers trains all arms, because starting
    one costs as much as some hundred steps of a small model.
    """
    import deepspeed
    from deepspeed.ops.op_builder import ShareMemCommBuilder

    # On a CPU DeepSpeed 0.19 compiles this operator at start (half a minute, and a compiler
    # on every node) for an all-reduce that only inference uses.
    deepspeed.ops.__compatible_ops__[ShareMemCommBuilder.NAME] = False
    torch.set_num_threads(job.config.finetune.cpus_per_worker)
    for arm in job.config.arms:
        if not (job.out / arm).exists(CURVE):
            flat = attention(job.config.finetune.attention) in FLAT
            _train_arm(job, arm, Steps(job.mix, arm, flat))


def _train_arm(job: Job, arm: str, steps: Steps) -> None:
    import deepspeed
    from ray import train as ray_train

    settings, seed, tokens = job.config.finetune, job.config.seed, job.config.downstream
    rank, world = dist.get_rank(), dist.get_world_size()
    path = locate(job.config.model)
    torch.manual_seed(seed)  # the adapter's first values, equal on all ranks
    model, tokenizer = load_base(
        path, tokens.special_tokens, _dtype(settings.precision), attention(settings.attention)
    )
    initialise_rows(model, path, tokenizer, tokens.special_tokens, settings.token_init, seed)
    model = attach(model, tokenizer, tokens.special_tokens, settings)
    passes = steps.passes(world, settings.micro_batch_size)
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=[p for p in model.parameters() if p.requires_grad],
        config=deepspeed_config(settings, world, passes),
    )
    start, curve = _resume(engine, ray_train.get_checkpoint(), arm)
    told = 0.0
    for step in range(start, len(steps)):
        torch.manual_seed(int(digest([seed, arm, step, rank], 12), 16))  # dropout
        curve.append(_step(engine, steps, step, settings, rank, world))
        if rank == 0 and time.monotonic() - told > _SECONDS_BETWEEN_PROGRESS:
            told = time.monotonic()
            job.out.write_json(PROGRESS, {"arm": arm, "steps": len(steps), **curve[-1]})
        if (step + 1) % settings.checkpoint_every == 0 and step + 1 < len(steps):
            _save(engine, ray_train, arm, step + 1, curve)
    with tempfile.TemporaryDirectory() as scratch:
        adapter, merged = Path(scratch) / "adapter", Path(scratch) / "merged"
        save_adapter(engine.module, tokenizer, adapter, settings.zero)
        if rank == 0:
            out = job.out / arm
            merge(path, adapter, tokens.special_tokens, merged)
            out.upload(adapter, "adapter")
            out.upload(merged, "merged")
            out.write_table(CURVE, conform(curve, METRIC_POINT))
    dist.barrier()  # nobody leaves, and no worker is ended, while rank 0 writes
    engine.destroy()


def deepspeed_config(settings: Any, world: int, passes: int) -> dict[str, Any]:
    """DeepSpeed's JSON; batch sizes are its way of saying how many passes make a step."""
    bf16 = _dtype(settings.precision) == torch.bfloat16
    return {
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        "gradient_accumulation_steps": passes,
        "train_batch_size": settings.micro_batch_size * passes * world,
        "zero_optimization": {"stage": settings.zero, "overlap_comm": False},
        "bf16": {"enabled": bf16},
        "optimizer": {
            "type": "AdamW",
            # Adapters are small: PyTorch's own AdamW needs no compiler on the workers.
            "params": {"lr": settings.lr, "weight_decay": settings.weight_decay,
                       "torch_adam": True},
        },
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
    }  # fmt: skip


def _step(
    engine: Any, steps: Steps, step: int, settings: Any, rank: int, world: int
) -> dict[str, Any]:
    """One optimizer step; its row of METRIC_POINT (the same on all ranks)."""
    began = time.monotonic()
    rate = warmup(step, settings)
    for group in engine.optimizer.param_groups:
        group["lr"] = rate  # a function of the step alone, so a resumed run has no state for it
    own, other = steps.supervised_tokens(step)
    total = own + other
    micros = steps.micros(step, rank, world, settings.micro_batch_size)
    sums = torch.zeros(2, device=engine.device)
    for micro in micros:
        on_device = type(micro)(**{k: v.to(engine.device) for k, v in vars(micro).items()})
        downstream, diverse = token_losses(engine, on_device)
        # DeepSpeed averages over ranks and passes; the step's loss is a sum over tokens
        # divided by the tokens of the whole step.
        engine.backward((downstream + diverse) / total * world * len(micros))
        engine.step()
        sums += torch.stack([downstream.detach(), diverse.detach()])
    dist.all_reduce(sums)
    norm = engine.get_global_grad_norm()
    return {
        "step": step + 1,
        "loss": float(sums.sum()) / total,
        "loss_downstream": float(sums[0]) / own if own else None,
        "loss_diverse": float(sums[1]) / other if other else None,
        "lr": rate,
        "grad_norm": None if norm is None else float(norm),
        "supervised_tokens": total,
        "seconds": time.monotonic() - began,
    }


def _save(engine: Any, ray_train: Any, arm: str, step: int, curve: list[dict[str, Any]]) -> None:
    """Every rank writes its part; Ray Train puts them together and publishes them."""
    folder = tempfile.mkdtemp(prefix="delia-checkpoint-")
    engine.save_checkpoint(
        f"{folder}/deepspeed", tag="state", client_state={"step": step},
        exclude_frozen_parameters=True,
    )  # fmt: skip
    if dist.get_rank() == 0:
        Path(folder, "curve.json").write_text(json.dumps({"arm": arm, "curve": curve}))
    ray_train.report(
        {"step": step},
        checkpoint=ray_train.Checkpoint.from_directory(folder),
        checkpoint_dir_name=f"{arm}_step_{step:08d}",
        delete_local_checkpoint_after_upload=True,
    )


def _resume(engine: Any, checkpoint: Any, arm: str) -> tuple[int, list[dict[str, Any]]]:
    """(steps of ``arm`` already done, their curve)."""
    if checkpoint is None:
        return 0, []
    with checkpoint.as_directory() as folder:
        saved = json.loads(Path(folder, "curve.json").read_text())
        if saved["arm"] != arm:  # of an arm that was done after it
            return 0, []
        _, state = engine.load_checkpoint(f"{folder}/deepspeed", load_module_strict=False)
    return int(state["step"]), saved["curve"]


def _dtype(precision: str) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
