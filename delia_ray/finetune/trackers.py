"""Where curves go beside the run's own table: TensorBoard, MLflow, Weights & Biases."""

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from delia_ray.artifacts import Folder
from delia_ray.errors import UserError
from delia_ray.metrics import Meter

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""What each tracker needs on the workers."""


class Tracker(Protocol):
    """Takes one point of the curve at a time, on rank 0."""

    def log(self, point: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def check(names: Sequence[str]) -> None:
    """See that the trackers' packages are installed.

    Raises:
        UserError: one is not.
    """
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise UserError(
                f"finetune.trackers={list(names)} needs the package {PACKAGES[name]}; install it "
                f"(pip install {PACKAGES[name]}), or leave {name} out"
            )


def open_trackers(names: Sequence[str], out: Folder, run: str, arm: str) -> list[Tracker]:
    """The trackers of ``arm``, Ray's own metrics first; ``out`` is its folder, ``run`` the run's
    name."""
    check(names)
    return [_Metrics(run, arm), *(_OPEN[name](out, run, arm) for name in names)]


class _Metrics:
    """Ray's metrics, for Prometheus."""

    def __init__(self, run: str, arm: str) -> None:
        self.meter, self.arm = Meter(run), arm

    def log(self, point: Mapping[str, Any]) -> None:
        for name, key in (("step", "step"), ("step_seconds", "seconds"), ("loss", "loss")):
            self.meter.set(f"delia_{name}", float(point[key]), arm=self.arm)
        self.meter.add("delia_trained_tokens_total", float(point["tokens"]), arm=self.arm)

    def close(self) -> None:
        """Nothing is kept open."""


class _TensorBoard:
    """Event files in ``<arm>/tensorboard``; of remote storage they are uploaded at the end."""

    def __init__(self, out: Folder, run: str, arm: str) -> None:
        from tensorboardX import SummaryWriter

        self.out = out
        self.folder = out.file("tensorboard") if out.is_local else tempfile.mkdtemp()
        self.writer = SummaryWriter(self.folder)

    def log(self, point: Mapping[str, Any]) -> None:
        for name, value in _numbers(point).items():
            self.writer.add_scalar(name, value, point["step"])

    def close(self) -> None:
        self.writer.close()
        if not self.out.is_local:
            self.out.upload(Path(self.folder), "tensorboard")


class _MLflow:
    """One MLflow run for each arm, in the experiment named like the run."""

    def __init__(self, out: Folder, run: str, arm: str) -> None:
        import mlflow

        self.mlflow = mlflow
        mlflow.set_experiment(run)
        mlflow.start_run(run_name=arm)

    def log(self, point: Mapping[str, Any]) -> None:
        self.mlflow.log_metrics(_numbers(point), step=point["step"])

    def close(self) -> None:
        self.mlflow.end_run()


class _WandB:
    """One W&B run for each arm, in the project named like the run; a resumed arm goes on."""

    def __init__(self, out: Folder, run: str, arm: str) -> None:
        import wandb

        self.run = wandb.init(project=run, name=arm, id=f"{run}-{arm}", resume="allow")

    def log(self, point: Mapping[str, Any]) -> None:
        self.run.log(_numbers(point), step=point["step"])

    def close(self) -> None:
        self.run.finish()


_OPEN: dict[str, Callable[[Folder, str, str], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _WandB,
}


def _numbers(point: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in point.items() if k != "step" and v is not None}
