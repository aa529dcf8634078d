"""What a sweep searches, how, and for what."""

from typing import Any, Literal

from pydantic import Field, model_validator

from delia_ray.config import Settings


class Dimension(Settings):
    """A setting of the run that trials differ in: ``choice``, or from ``low`` to ``high``."""

    choice: list[Any] = []
    """Values to choose from."""
    low: float | None = None
    """Smallest value of a range."""
    high: float | None = None
    """Largest value of a range."""
    log: bool = False
    """Draw evenly on the scale of logarithms (a range whose ends are above 0)."""
    integer: bool = False
    """Whole numbers only (a range)."""
    when: dict[str, list[Any]] = {}
    """Only where other settings of the sweep have one of these values, for example
    ``{finetune.method: [lora, dora]}``; elsewhere the recipe's own value stands."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> "Dimension":
        ranged = self.low is not None and self.high is not None
        if bool(self.choice) == ranged or (self.low is None) != (self.high is None):
            raise ValueError("give either `choice` or both `low` and `high`")
        if not self.choice:
            assert self.low is not None
            assert self.high is not None
            if self.low >= self.high:
                raise ValueError(f"low={self.low:g} must be below high={self.high:g}")
            if self.log and self.low <= 0:
                raise ValueError(f"log needs low above 0, got {self.low:g}")
        return self


class Objective(Settings):
    """What is wanted of a trial."""

    metric: str
    """``mean`` (of ``evaluate.summary``), a suite's name (its main metric),
    ``<suite>.<metric>``, ``retention`` (loss on held-out rows), ``tokens`` (trained on) or
    ``seconds`` (of training and answering)."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less is better."""


class Sweep(Settings):
    """The whole sweep; ``recipe`` is what ``delia run`` takes."""

    name: str = Field("sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The sweep's folder under ``storage``."""
    storage: str = "runs"
    """Folder or fsspec URL; a cluster's nodes must all reach it."""
    recipe: dict[str, Any] = {}
    """Settings of a run: where every trial starts, and the default that the best is held
    against."""
    over: dict[str, Dimension] = Field(min_length=1)
    """Dotted setting -> what it may be; a list stands for a ``choice``."""
    trials: int = Field(16, ge=1)
    """Configurations to try; ``searcher: grid`` tries all."""
    searcher: Literal["random", "grid", "optuna", "bohb"] = "random"
    """Who proposes them; optuna and bohb need their packages."""
    scheduler: Literal["none", "asha", "pbt"] = "none"
    """Who ends bad trials early (asha), or changes them on the way (pbt), by their scores at
    ``rungs``."""
    rungs: list[int] = []
    """Optimizer steps after which a trial is evaluated, before its last; each costs one
    evaluation."""
    objectives: list[Objective] = Field([Objective(metric="mean")], min_length=1)
    """The first is searched for; all of them make the Pareto front."""
    held_back: float = Field(0.5, gt=0, lt=1)
    """Share of every suite's rows on which no trial is chosen: the best one's score is stated
    on them."""
    finalists: int = Field(1, ge=1)
    """Best trials that are trained again, with the default, to be compared."""
    final_seeds: int = Field(3, ge=2)
    """Trainings of each finalist and of the default, behind the stated interval."""
    parallel: int | None = Field(None, ge=1)
    """Trials at a time; None for as many as the cluster has CPUs (GPUs) for."""
    retries: int = Field(1, ge=0)
    """Times that a failed trial is tried again before it counts as failed."""

    @model_validator(mode="before")
    @classmethod
    def _lists_are_choices(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and isinstance(tree.get("over"), dict):
            over = {
                path: {"choice": found} if isinstance(found, list) else found
                for path, found in tree["over"].items()
            }
            return {**tree, "over": over}
        return tree

    @model_validator(mode="after")
    def _fits(self) -> "Sweep":
        for path, dimension in self.over.items():
            for other in dimension.when:
                if other not in self.over:
                    raise ValueError(
                        f"over.{path}.when names {other}, which the sweep does not vary "
                        f"(it varies {', '.join(self.over)})"
                    )
        ranged = [path for path, d in self.over.items() if not d.choice]
        if self.searcher == "grid" and ranged:
            raise ValueError(
                f"searcher=grid tries every value, and {', '.join(ranged)} is a range; give a "
                "`choice`, or take searcher=random"
            )
        if self.scheduler != "none" and not self.rungs:
            raise ValueError(
                f"scheduler={self.scheduler} compares trials on their way; give rungs, for "
                "example [50, 100]"
            )
        if sorted(set(self.rungs)) != self.rungs or (self.rungs and self.rungs[0] < 1):
            raise ValueError(f"rungs must rise from 1, got {self.rungs}")
        return self
