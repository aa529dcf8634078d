"""The stage: one Ray Train run for each arm, one after the other."""

import threading
from typing import Any

import numpy as np

from delia_ray import runtime
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import DeliaError
from delia_ray.models import fingerprint
from delia_ray.stage import Outcome, Stage, StageRun


def settings(config: RunConfig) -> dict[str, Any]:
    """How each arm is trained; what it is trained on comes from the mix."""
    # Restarts and the spacing of checkpoints do not change what comes out.
    own = config.finetune.model_dump(mode="json", exclude={"max_failures", "checkpoint_every"})
    return {
        "finetune": own,
        "special_tokens": config.downstream.special_tokens,
        "arms": {name: arm.objective for name, arm in config.arms.items()},
        "seed": config.seed,
        "model": fingerprint(config.model),
    }


def run(stage: StageRun) -> Outcome:
    """Leave ``<arm>/adapter``, ``<arm>/merged`` and ``<arm>/curve.parquet`` for each arm."""
    arms = list(stage.config.arms)
    if any(_missing(stage, arm) for arm in arms):
        _train(stage)
    if missing := [arm for arm in arms if _missing(stage, arm)]:
        raise DeliaError(f"training ended without a result for {missing}; see the run's log")
    own = stage.config.finetune
    counts: dict[str, Any] = {
        "workers": own.workers,
        "zero": own.zero,
        "arms": {arm: _summarise(stage.out / arm) for arm in arms},
    }
    said = " | ".join(
        f"{arm} {c['steps']} steps, loss {c['loss']:.3f}" for arm, c in counts["arms"].items()
    )
    return Outcome(counts, f"{said}; {own.workers} workers, ZeRO-{own.zero}")


STAGE = Stage("finetune", version=1, needs={"mix": ()}, settings=settings, run=run)


def _missing(stage: StageRun, arm: str) -> bool:
    return not (stage.out / arm).exists("curve.parquet")  # the last file that an arm writes


def _train(stage: StageRun) -> None:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from delia_ray.finetune.loop import Job

    runtime.connect(stage.config)
    own = stage.config.finetune
    gpus = own.gpus_per_worker
    gpus = (1.0 if runtime.has_gpu() else 0.0) if gpus is None else gpus
    resources = {"CPU": float(own.cpus_per_worker)} | ({"GPU": gpus} if gpus else {})
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": Job(stage.config, stage.inputs["mix"], stage.out)},
        scaling_config=ScalingConfig(
            num_workers=own.workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            # The same place and name again: Ray Train then goes on at the last checkpoint.
            storage_path=str(stage.out),
            name="train",
            failure_config=FailureConfig(max_failures=own.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(stage, stop))
    watcher.start()
    try:
        trainer.fit()
    finally:
        stop.set()
        watcher.join()


def _worker(settings: dict[str, Any]) -> None:
    from delia_ray.finetune.loop import train

    train(settings["job"])


def _watch(stage: StageRun, stop: threading.Event) -> None:
    """Show what rank 0 last wrote: workers may be anywhere, the run's folder is shared."""
    from delia_ray.finetune.progress import PROGRESS

    arms = list(stage.config.arms)
    while not stop.wait(1.0):
        if not stage.out.exists(PROGRESS):
            stage.progress(0, 1, "starting workers")
            continue
        point = stage.out.read_json(PROGRESS)
        done = (arms.index(point["arm"]) + point["step"] / point["steps"]) / len(arms)
        said = f"{point['arm']}: step {point['step']}/{point['steps']}, loss {point['loss']:.3f}"
        stage.progress(done, 1, said)


def _summarise(out: Folder) -> dict[str, Any]:
    curve = out.read_table("curve.parquet")
    loss = curve["loss"].to_numpy()
    seconds = curve["seconds"].to_numpy()
    tokens = curve["supervised_tokens"].to_numpy()
    last = max(1, len(loss) // 20)
    return {
        "steps": len(loss),
        "loss": round(float(loss[-last:].mean()), 4),
        "seconds_per_step": round(float(np.median(seconds)), 4),
        "supervised_tokens_per_second": round(float(tokens.sum() / seconds.sum())),
    }
