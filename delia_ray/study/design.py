"""What a study of the claims runs: its settings, and the runs that come of them."""

import math
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from delia_ray.config import BASELINES, Name, RunConfig, Settings, Storage

RECIPE = Path(__file__).parent / "claims.yaml"
"""The study of the miniature."""

MODES = ("equal_steps", "equal_exposure")
"""How trainings of different ratios are compared."""
FORMAT, TRANSLATION = "format", "translation"
"""Names of the tasks that the paper's claims are of."""
CONFIDENCE = 0.95
OTHERS = ("rewording_only", "self_sampling_only", "replay", "mixup", "whole_chat")


def times_of(ratio: float) -> str:
    """A ratio's name on the page."""
    return f"{ratio:g}x" if ratio else "common"


class Task(Settings):
    """One downstream task, and what shows that it was learned."""

    run: dict[str, Any]
    """Settings of a run, as in a recipe; ``name``, ``storage``, ``arms`` and
    ``training_seed`` are the study's."""
    adapt: list[str] = Field(min_length=1)
    """Suites that show how well the task was learned."""
    retain: list[str] = []
    """Suites that show what else is still known."""
    baselines: bool = False
    """Train the other baselines too."""
    exposure: int | None = Field(None, ge=1)
    """Of this task, instead of the study's."""


class Study(Settings):
    """Ratios x seeds, at equal optimizer steps and at equal downstream exposure."""

    name: Name = "claims"
    """The folder under ``storage``; all runs of the study live in it and share what they can."""
    storage: Storage = "runs"
    """Folder or fsspec URL."""
    ratios: list[float] = [0, 8, 16, 32, 67, 135, 260, 520]
    """Diverse rows per downstream row; 0 is common instruction tuning."""
    paper_ratios: list[float] = [67, 135, 260, 520]
    """Those of ``ratios`` that stand for the method when it is judged: the paper's."""
    reference: float = 67
    """The ratio at which the baselines are held against the method."""
    seeds: int = Field(5, ge=2)
    """Trainings of everything: the order of the mix, first values and dropout differ."""
    steps: int = Field(400, ge=1)
    """Optimizer steps of equal trainings."""
    exposure: int = Field(128, ge=1)
    """Downstream rows seen in trainings of equal exposure, repetitions counted."""
    tasks: dict[Name, Task] = Field(min_length=1)
    """What is adapted to."""

    @model_validator(mode="after")
    def _ratios_fit(self) -> "Study":
        if 0 not in self.ratios or sorted(set(self.ratios)) != self.ratios:
            raise ValueError(f"ratios must begin with 0 and rise, got {self.ratios}")
        wanted = {*self.paper_ratios, self.reference}
        if not wanted <= set(self.ratios):
            raise ValueError(
                f"paper_ratios={self.paper_ratios} and reference={self.reference:g} must be among "
                f"ratios={self.ratios}"
            )
        return self

    def arm(self, ratio: float) -> str:
        """The arm's name."""
        return f"ratio_{ratio:g}".replace("+", "") if ratio else "common"

    def steps_of_exposure(self, task: str, ratio: float) -> int:
        """Optimizer steps after which a training has seen ``exposure`` downstream rows."""
        rows = self.tasks[task].exposure or self.exposure
        batch_size = self.tasks[task].run.get("finetune", {}).get("batch_size", 64)
        return math.ceil(rows * (ratio + 1) / int(batch_size))

    def model(self, task: str, ratio: float, mode: str) -> str:
        """The model of a ratio in ``mode`` (equal_steps, equal_exposure): an arm, or what was
        kept of it as of a step. One training serves both, since its rate is constant."""
        steps = {"equal_steps": self.steps, "equal_exposure": self.steps_of_exposure(task, ratio)}
        arm = self.arm(ratio)
        return arm if steps[mode] == max(steps.values()) else f"{arm}@{steps[mode]}"

    def config(self, task: str, seed: int) -> RunConfig:
        """The run that trains and evaluates every arm of ``task`` with one training seed.

        Raises:
            ValueError: the task's ``run`` is no run's settings, or its rate is not constant.
        """
        own, arms = self.tasks[task], {}
        for ratio in self.ratios:
            both = {self.steps, self.steps_of_exposure(task, ratio)}
            arms[self.arm(ratio)] = {
                "ratio": ratio, "reworded": ratio > 0, "steps": max(both),
                "snapshots": sorted(both - {max(both)}),
            }  # fmt: skip
        for name in OTHERS if own.baselines else ():
            arm = BASELINES[name].model_dump(exclude_defaults=True)
            arms[name] = {"ratio": self.reference, **arm, "steps": self.steps}
        config = RunConfig.model_validate(
            {
                **own.run,
                "name": self.name,
                "storage": self.storage,
                "training_seed": seed,
                "arms": arms,
            }
        )
        if config.finetune.schedule != "constant":
            raise ValueError(
                f"tasks.{task}.run.finetune.schedule={config.finetune.schedule}: a training is "
                "looked at on its way too, which a falling rate would falsify; leave it constant"
            )
        names = [s.name for s in config.evaluate.suites]
        if missing := sorted({*own.adapt, *own.retain} - set(names)):
            raise ValueError(f"tasks.{task}: no suites {missing}; there are {names}")
        return config
