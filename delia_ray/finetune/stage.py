"""The stage: one Ray Train run for each arm, one after the other."""

import importlib.util
import re
import threading
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from delia_ray import runtime, stopping
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import DeliaError, UserError
from delia_ray.finetune import micro_batch, trackers
from delia_ray.finetune.deaths import memory_death
from delia_ray.finetune.job import Job
from delia_ray.finetune.progress import PROGRESS, READY, SUMMARY, Story, told
from delia_ray.finetune.stop import STOP
from delia_ray.generation_settings import read, savable
from delia_ray.machine_memory import kills
from delia_ray.models import fingerprint, folder_digest, locate, locate_adapter
from delia_ray.stage import Outcome, Stage, StageRun

if TYPE_CHECKING:
    from delia_ray.finetune.layout import Layout

_HEX = re.compile("[0-9a-f]{8,64}")
PACKED = "packed"
"""How rows were computed, where nothing had to be kept from anything."""
GROUP = "group.json"
"""Placement group of the workers that train now; a controller that dies leaves it behind."""
NOT_IN_THE_RESULT = {
    "workers", "min_workers", "cpus_per_worker", "gpus_per_worker", "zero", "offload",
    "max_failures", "checkpoint_every", "keep_checkpoints", "watch", "profile",
    "trackers", "side_by_side", "grace", "micro_batch_size", "gradient_checkpointing",
}  # fmt: skip
"""Settings that may change when an interrupted run goes on: a step means the same on any
number of workers and under any ZeRO stage, and sums differ by rounding only."""


def settings(config: RunConfig) -> dict[str, Any]:
    """How each arm is trained; what it is trained on comes from the mix."""
    own = config.finetune
    trackers.check(own.trackers)
    if own.quantize != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"finetune.quantize={own.quantize} needs the package bitsandbytes; install it here and "
            "on the workers, or set finetune.quantize=none"
        )
    # No phases are the same as none being known of.
    left_out = NOT_IN_THE_RESULT if own.phases else {*NOT_IN_THE_RESULT, "phases"}
    return {
        "finetune": own.model_dump(mode="json", exclude=left_out),
        "adapter": None if own.adapter is None else folder_digest(locate_adapter(own.adapter)),
        "special_tokens": config.downstream.special_tokens,
        "arms": {
            name: arm.model_dump(mode="json", include={"objective", "snapshots"})
            for name, arm in config.arms.items()
        },
        "seed": config.order_seed,
        "model": fingerprint(config.model),
    }


def run(stage: StageRun) -> Outcome:
    """Leave ``<arm>/merged``, ``<arm>/curve.parquet`` and, unless every weight is trained,
    ``<arm>/adapter`` for each arm."""
    arms = list(stage.config.arms)
    _check_snapshots(stage)
    if any(_missing(stage, arm) for arm in arms):
        _train(stage)
    if missing := [arm for arm in arms if _missing(stage, arm)]:
        raise DeliaError(f"training ended without a result for {missing}; see the run's log")
    own = stage.config.finetune
    counts: dict[str, Any] = {
        "workers": own.workers,
        "zero": own.zero,
        **_how(stage, arms),
        "arms": {arm: _summarise(stage.out / arm) for arm in arms},
    }
    said = " | ".join(
        f"{arm} {c['steps']} steps, loss {c['loss']:.3f}" for arm, c in counts["arms"].items()
    )
    apart = "" if counts["rows"] == PACKED else "; rows computed apart"
    told = f"{said}; {own.workers} workers, ZeRO-{own.zero}{apart}"
    return Outcome(counts, told, notes=_chosen(stage, arms))


STAGE = Stage("finetune", version=5, needs={"mix": ()}, settings=settings, run=run)


def _chosen(stage: StageRun, arms: list[str]) -> list[str]:
    """How many packs each of ``arms`` computed at once and why, those alike in one line."""
    lines: dict[str, list[str]] = {}
    for arm in arms:
        if (choice := micro_batch.read(stage.out / arm)) is not None:
            lines.setdefault(str(choice), []).append(arm)
    return [f"{', '.join(names)}: {line}" for line, names in lines.items()]


def _how(stage: StageRun, arms: list[str]) -> dict[str, Any]:
    """What was found out about the model, and how it was trained therefore."""
    layout = _layout(stage.config)
    found: dict[str, Any] = {"rows": layout.why or PACKED, "attention": layout.kernel}
    if arms and stage.config.finetune.method != "full":
        adapter = stage.out / arms[0] / "adapter"
        layers = adapter.read_json("adapter_config.json")["target_modules"]
        found["adapted_layers"] = layers if isinstance(layers, str) else sorted(layers)
    _, left_out = savable(read(locate(stage.config.model)))
    if left_out:
        found["left_out_of_generation_config"] = list(left_out.values())
    return found


def _layout(config: RunConfig) -> "Layout":
    from delia_ray.finetune.layout import find_layout

    return find_layout(locate(config.model), config.finetune.attention)


def _missing(stage: StageRun, arm: str) -> bool:
    return not (stage.out / arm).exists("curve.parquet")  # the last file that an arm writes


def _check_snapshots(stage: StageRun) -> None:
    arms = (stage.inputs["mix"].manifest() or {"counts": {"arms": {}}})["counts"]["arms"]
    for name, counts in arms.items():
        late = [s for s in stage.config.arms[name].snapshots if s >= counts["steps"]]
        if late:
            raise UserError(
                f"arms.{name}.snapshots={late}: the arm has {counts['steps']} steps, and the last "
                f"is kept anyway; lower them or raise arms.{name}.steps"
            )


def _train(stage: StageRun) -> None:
    runtime.connect(stage.config)
    own = stage.config.finetune
    gpus = own.gpus_per_worker
    gpus = (1.0 if runtime.has_gpu() else 0.0) if gpus is None else gpus
    arms = [arm for arm in stage.config.arms if _missing(stage, arm)]
    places = [stage.out / arm for arm in arms] if own.side_by_side > 1 else [stage.out]
    stage.out.remove(STOP)  # of an earlier command, as is what it told
    for folder in places:
        folder.remove(PROGRESS)
        folder.remove(READY)

    def ask() -> bool:
        """For a checkpoint, if there are steps to make one of."""
        if not any(folder.exists(PROGRESS) for folder in places):
            return False
        stage.out.write_json(STOP, {})
        return True

    before = kills()
    with stopping.gently(ask, own.grace):
        try:
            if own.side_by_side > 1:
                from delia_ray.finetune.alone import train_apart

                train_apart(stage, gpus, arms, _job(stage))
            else:
                _train_together(stage, gpus)
        except UserError:
            raise
        except Exception as error:  # of Ray, Ray Train, or our own
            chosen = {arm: micro_batch.read(stage.out / arm) for arm in arms}
            if (known := memory_death(error, own, places, before, chosen)) is not None:
                traceback.print_exc()
                micro_batch.mark_dead(stage.out, arms)
                raise known from error
            raise


def _job(stage: StageRun) -> Job:
    from delia_ray.finetune.sizing import count

    layout = _layout(stage.config)
    footprint = count(stage.config, layout)
    return Job(stage.config, stage.inputs["mix"], stage.out, layout, footprint)


def _train_together(stage: StageRun, gpus: float) -> None:
    from ray.exceptions import RayActorError
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from delia_ray.finetune.rendezvous import FileRendezvous

    own = stage.config.finetune
    job = _job(stage)
    resources = {"CPU": float(own.cpus_per_worker)} | ({"GPU": gpus} if gpus else {})

    def fit() -> None:
        private = runtime.private_folder()  # of this try: a new cluster has another
        meeting = None if private is None else FileRendezvous(folder=private)
        TorchTrainer(
            _worker,
            train_loop_config={"job": job},
            torch_config=meeting,
            scaling_config=ScalingConfig(
                num_workers=(own.min_workers, own.workers) if own.min_workers else own.workers,
                use_gpu=gpus > 0,
                resources_per_worker=resources,
                label_selector=stage.config.cluster.training_labels or None,
            ),
            run_config=RunConfig(
                storage_path=str(stage.out),
                name="train",
                failure_config=FailureConfig(max_failures=own.max_failures),
            ),
        ).fit()

    stage.out.remove(GROUP)  # of a cluster that is gone
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(stage, stop))
    watcher.start()
    try:
        for left in reversed(range(own.max_failures + 1)):
            try:
                fit()
                break
            except RayActorError:  # Ray Train restarts workers, but nobody its controller
                if not left:
                    raise
                print("Ray Train's controller died; training goes on with another", flush=True)
                # Its workers' CPUs stay taken as long as their driver is connected.
                if not runtime.is_inside():
                    runtime.disconnect()
                    runtime.connect(stage.config)
                else:
                    free_workers(stage.out)
    finally:
        stop.set()
        watcher.join()
    stage.out.remove(GROUP)


def free_workers(out: Folder) -> bool:
    """End the workers of a training whose controller is dead, so that their CPUs come free.

    Args:
        out: the training's folder.

    Returns:
        False where none had begun.
    """
    if not out.exists(GROUP):
        return False
    noted = out.read_json(GROUP)
    if isinstance(noted, dict) and _HEX.fullmatch(str(noted.get("id"))):
        runtime.free_group(noted["id"])
    out.remove(GROUP)
    return True


def _worker(settings: dict[str, Any]) -> None:
    from ray.train import get_context as train_context

    from delia_ray.finetune.checkpoints import Checkpoints
    from delia_ray.finetune.loop import train

    job = settings["job"]
    if train_context().get_world_rank() == 0:
        job.out.write_json(GROUP, {"id": runtime.own_group()})
    train(job, Checkpoints(job.out / "checkpoints", job.config.finetune.keep_checkpoints))


def _watch(stage: StageRun, stop: threading.Event) -> None:
    """Show what rank 0 last wrote: workers may be anywhere, the run's folder is shared."""
    counts = (stage.inputs["mix"].manifest() or {}).get("counts", {}).get("arms", {})
    story = Story({arm: counts.get(arm, {}).get("steps", 1) for arm in stage.config.arms})
    while not stop.wait(1.0):
        if not stage.out.exists(PROGRESS):
            begun = story.beginning(stage.out.exists(GROUP), stage.out.exists(READY))
            stage.progress(0, 1, "; ".join([begun, *_chosen(stage, list(stage.config.arms)[:1])]))
        elif (point := told(stage.out)) is not None and point["arm"] in story.steps:
            done, said = story.tell(point)
            stage.progress(done, 1, said)


def _summarise(out: Folder) -> dict[str, Any]:
    curve = out.read_table("curve.parquet")
    loss = curve["loss"].to_numpy()
    seconds = curve["seconds"].to_numpy()
    tokens = curve["supervised_tokens"].to_numpy()
    last = max(1, len(loss) // 20)
    choice = micro_batch.read(out)
    return {
        **({"micro_batch_size": choice.micro_batch_size} if choice else {}),
        "steps": len(loss),
        "loss": round(float(loss[-last:].mean()), 4),
        "seconds_per_step": round(float(np.median(seconds)), 4),
        "tokens_per_second": round(float(curve["tokens"].to_numpy().sum() / seconds.sum())),
        "supervised_tokens_per_second": round(float(tokens.sum() / seconds.sum())),
        "memory_gib": round(float(curve["memory_gib"].to_numpy().max()), 2),
        **{name: _ends(curve[name]) for name in ("token_distance", "gradient_cosine", "mfu")},
        "checkpoint_seconds": round(pc.max(curve["checkpoint_seconds"]).as_py() or 0.0, 3),
        **({"profiled": out.read_json(SUMMARY)} if out.exists(SUMMARY) else {}),
    }


def _ends(column: pa.ChunkedArray) -> list[float] | None:
    """The first and the last value that was looked at."""
    found = column.drop_null().to_pylist()
    return [round(found[0], 4), round(found[-1], 4)] if found else None
