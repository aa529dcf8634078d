"""Arms side by side, each trained by one process; the processes stay for the next arm.

Ray Train starts a worker group for half a minute, which is as long as a small model trains.
Where a study has a hundred small trainings, actors that have everything loaded take them in
turn. A step is the same as in a group of one: ``loop`` does not know the difference.
"""

import os
from typing import Any

from delia_ray import stopping
from delia_ray.errors import DeliaError
from delia_ray.finetune.job import Job
from delia_ray.finetune.progress import told
from delia_ray.stage import StageRun

_POLL = 1.0
"""Seconds between two looks at the progress."""


class Alone:
    """The body of an actor: a process group of one."""

    def __init__(self, backend: str) -> None:
        join_alone(backend)

    def train(self, job: Any, arm: str) -> str:
        """Train one arm to its end, from its last checkpoint where it has one, or until it is
        asked to stop."""
        from delia_ray.finetune.checkpoints import Checkpoints
        from delia_ray.finetune.loop import train_arm

        checkpoints = Checkpoints(job.out / "checkpoints", job.config.finetune.keep_checkpoints)
        if train_arm(job, arm, checkpoints):
            checkpoints.forget(arm)
        return arm


def join_alone(backend: str) -> None:
    """Make this process a group of one, if it is in none."""
    import torch.distributed as dist
    from torch._C._distributed_c10d import HashStore

    if dist.is_initialized():
        return
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    if backend == "gloo":
        os.environ["DS_ACCELERATOR"] = "cpu"
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)


def train_apart(stage: StageRun, gpus: float, arms: list[str], job: Job) -> None:
    """Train ``arms``, the longest first, ``finetune.side_by_side`` at a time.

    A process that dies is started again, and its arm goes on from its last checkpoint.

    Raises:
        DeliaError: a process died more often than ``finetune.max_failures``.
    """
    import ray

    own = stage.config.finetune
    labels = stage.config.cluster.training_labels
    actor = ray.remote(
        num_cpus=own.cpus_per_worker, num_gpus=gpus,
        max_restarts=own.max_failures, max_task_retries=own.max_failures,
        **({"label_selector": labels} if labels else {}),
    )(Alone)  # fmt: skip
    steps = _steps(stage)
    waiting = sorted(arms, key=lambda arm: -steps[arm])
    free = [
        actor.remote("nccl" if gpus else "gloo") for _ in range(min(len(arms), own.side_by_side))
    ]
    actors, done = list(free), 0
    busy: dict[Any, tuple[Any, str]] = {}
    try:
        while busy or (waiting and not stopping.asked()):
            while waiting and free and not stopping.asked():
                one, arm = free.pop(), waiting.pop(0)
                busy[one.train.remote(job, arm)] = (one, arm)
            ready, _ = ray.wait(list(busy), timeout=_POLL)
            for reference in ready:
                one, arm = busy.pop(reference)
                _result(reference, arm)
                free.append(one)
                done += 1
            running = [arm for _, arm in busy.values()]
            _tell(stage, running, steps, sum(steps[a] for a in waiting), len(arms), done)
    finally:
        for one in actors:
            ray.kill(one)


def _steps(stage: StageRun) -> dict[str, int]:
    counts = (stage.inputs["mix"].manifest() or {})["counts"]["arms"]
    return {arm: counts[arm]["steps"] for arm in stage.config.arms}


def _result(reference: Any, arm: str) -> None:
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DeliaError):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise DeliaError(
            f"the process that trains {arm} died more than finetune.max_failures times: {error}"
        ) from None


def _tell(
    stage: StageRun, running: list[str], steps: dict[str, int], waiting: int, arms: int, done: int
) -> None:
    total, made, said = sum(steps.values()), 0, []
    for arm in running:
        point = told(stage.out / arm)
        step = int(point["step"]) if point else 0
        made += step - steps[arm]
        said.append(f"{arm} {step}/{steps[arm]}")
    stage.progress(total - waiting + made, total, f"{done} of {arms} done; {', '.join(said)}")
