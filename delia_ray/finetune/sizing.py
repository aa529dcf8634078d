"""The micro-batch of a training, agreed upon by its workers before they load the model."""

import os
from typing import Any

import psutil
import torch
import torch.distributed as dist

from delia_ray.config import RunConfig
from delia_ray.finetune import micro_batch
from delia_ray.finetune.batches import Steps
from delia_ray.finetune.footprint import Footprint, footprint
from delia_ray.finetune.job import Job
from delia_ray.finetune.layout import Layout
from delia_ray.finetune.micro_batch import Choice
from delia_ray.machine_memory import memory
from delia_ray.models import locate

_LOOKED_AT = 500
"""Steps of which the longest pack is looked for, evenly over the training."""


def agree(job: Job, arm: str, steps: Steps, layout: Layout, resumes: bool) -> Choice:
    """Every rank calls it, before it takes memory, and gets the same; rank 0 leaves it in the
    arm's folder.

    Args:
        resumes: there is a checkpoint to go on from.
    """
    settings, world = job.config.finetune, dist.get_world_size()
    wanted, folder = settings.micro_batch_size, job.out / arm
    own = job.footprint
    if own is None and wanted == "auto":
        own = count(job.config, layout)
    before, died = micro_batch.read(folder), micro_batch.died_with(folder)
    longest = steps.longest(_LOOKED_AT)
    found: list[Any] = [None] * world
    here = micro_batch.choose(
        wanted,
        packs=steps.passes(world, 1),
        tokens=longest,
        free=_mine(max(_neighbours(world), settings.side_by_side)),
        need=None if own is None else lambda packs: own.of(packs, longest),
        before=before.micro_batch_size if resumes and before is not None else None,
        most=None if died is None else died - 1,
        enough=None if torch.cuda.is_available() else micro_batch.ENOUGH,
    )
    # What fits everywhere; and nobody loads anything before all have looked.
    dist.all_gather_object(found, here)
    choice: Choice = min(found, key=lambda one: (one.micro_batch_size, one.free_gib))
    if dist.get_rank() == 0:
        micro_batch.write(folder, choice)
    return choice


def count(config: RunConfig, layout: Layout) -> Footprint | None:
    """The footprint of a training worker; None where a copy of the model cannot be computed, as
    the model itself may be."""
    own, tokens = config.finetune, config.downstream.special_tokens
    try:
        return footprint(locate(config.model), own, tokens, layout, own.workers)
    except Exception as problem:  # whatever the family's own code raises
        said = f"{type(problem).__name__}: {problem}".splitlines()[0]
        print(f"what a step needs could not be counted ({said})", flush=True)
        return None


def _neighbours(world: int) -> int:
    """Workers on this node, this one included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world))


def _mine(sharing: int) -> int:
    """Bytes that this worker may hold where so many share what is free."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())
    return memory().free // sharing + int(psutil.Process().memory_info().rss)
