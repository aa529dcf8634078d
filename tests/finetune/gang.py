"""Several processes that train together, as Ray Train would start them, but without Ray.

Only what Ray Train brings is replaced: the processes, and the folder of checkpoints. One gang
does many small trainings, where a Ray Train run for each would take half a minute.
"""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch.distributed as dist
import torch.multiprocessing as mp

from delia_ray.finetune.loop import Job, train


class LocalCheckpoints:
    """Checkpoints in a folder that all ranks reach. After the save of step ``stop`` the
    training is broken off, like a crash would."""

    def __init__(self, folder: Path, stop: int | None) -> None:
        self.folder, self.stop = folder, stop

    @contextlib.contextmanager
    def last(self) -> Iterator[Path | None]:
        whole = sorted(self.folder.glob("whole-*")) if self.folder.exists() else []
        yield whole[-1] if whole else None

    def save(self, folder: Path, name: str, step: int, score: float) -> None:
        target = self.folder / f"whole-{name}"
        shutil.copytree(folder, target, dirs_exist_ok=True)
        shutil.rmtree(folder)
        dist.barrier()
        if step == self.stop:
            raise Stopped


class Stopped(Exception):
    """The training was broken off on purpose."""


def run_gang(world: int, jobs: Sequence[tuple[Job, int | None]]) -> None:
    """Do each job on ``world`` processes, up to the checkpoint of its step where one is given.

    Raises:
        ProcessRaisedException: one failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, (world, port, list(jobs)), nprocs=world)


def _rank(rank: int, world: int, port: int, jobs: list[tuple[Job, int | None]]) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world), DS_ACCELERATOR="cpu",
    )  # fmt: skip
    dist.init_process_group("gloo", rank=rank, world_size=world)
    for job, stop in jobs:
        kept = LocalCheckpoints(Path(job.out.path) / "checkpoints", stop)
        with contextlib.suppress(Stopped):
            train(job, kept)
        dist.barrier()
    dist.destroy_process_group()
