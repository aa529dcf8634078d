"""Several processes that train together, as Ray Train would start them, but without Ray.

Only what Ray Train brings is replaced, the processes. One gang does many small trainings, where
a Ray Train run for each would take half a minute.
"""

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp

from delia_ray.artifacts import Folder
from delia_ray.finetune.checkpoints import Checkpoints
from delia_ray.finetune.job import Job
from delia_ray.finetune.loop import train


class Breaking(Checkpoints):
    """After the checkpoint of step ``stop`` the training is broken off, as by a crash."""

    def __init__(self, folder: Folder, stop: int | None) -> None:
        super().__init__(folder, keep=9)
        self.stop = stop

    def save(self, arm: str, step: int, *rest: Any) -> None:
        super().save(arm, step, *rest)
        if step == self.stop:
            raise Stopped


class Stopped(Exception):
    """The training was broken off on purpose."""


def run_gang(world: int, jobs: Sequence[tuple[Job, int | None]]) -> None:
    """Do each job on ``world`` processes, up to the checkpoint of its step where one is given.

    Raises:
        ProcessRaisedException: one failed.
    """
    start_gang(world, _train_all, list(jobs))


def start_gang(world: int, work: Callable[..., None], *arguments: Any) -> None:
    """``work(*arguments)`` on ``world`` processes of one process group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The gangs fork from a process that has imported everything once.
    multiprocessing.set_forkserver_preload(["delia_ray.finetune.loop", "deepspeed", "peft"])
    mp.start_processes(
        _rank, (world, port, work, arguments), nprocs=world, start_method="forkserver"
    )


def _rank(
    rank: int, world: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world), DS_ACCELERATOR="cpu",
    )  # fmt: skip
    dist.init_process_group("gloo", rank=rank, world_size=world)
    work(*arguments)
    dist.destroy_process_group()


def _train_all(jobs: list[tuple[Job, int | None]]) -> None:
    for job, stop in jobs:
        with contextlib.suppress(Stopped):
            train(job, Breaking(job.out / "checkpoints", stop))
        dist.barrier()
