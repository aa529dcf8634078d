"""The settings of a sweep: what is tried, how, and what counts."""

from typing import Any, Literal

from pydantic import Field, model_validator

from delia_ray.config.data import Name, Settings, Storage
from delia_ray.config.finetune import BASELINES, Arm
from delia_ray.config.tree import Cluster

COSTS = ("seconds", "tokens", "answers")
"""What an objective may count as cost: seconds of training and evaluation, tokens trained on,
diverse answers that the trial reads."""


class Dimension(Settings):
    """The values of one setting; exactly one of the kinds."""

    choice: list[Any] | None = None
    """One of these values."""
    uniform: tuple[float, float] | None = None
    """A number from the first to the second."""
    log: tuple[float, float] | None = None
    """A number, evenly spread on a logarithmic scale."""
    integer: tuple[int, int] | None = None
    """A whole number from the first to the second, both included."""
    log_integer: tuple[int, int] | None = None
    """A whole number, evenly spread on a logarithmic scale."""
    when: dict[str, Any] = {}
    """Only where other dimensions have these values: a value, a list of them, or
    ``{above: 0}`` and ``{below: 1}``. Elsewhere the setting stays as the recipe has it."""

    @property
    def kind(self) -> str:
        """Which of the kinds."""
        return next(k for k in KINDS if getattr(self, k) is not None)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values of a choice, or both ends of a range."""
        return tuple(getattr(self, self.kind))

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        given = [k for k in KINDS if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}, got {given or 'none'}")
        if self.kind == "choice":
            if not self.choice:
                raise ValueError("choice is empty")
            return self
        low, high = self.ends
        if not low < high:
            raise ValueError(f"{self.kind}: [{low}, {high}] must rise")
        if self.kind.startswith("log") and low <= 0:
            raise ValueError(f"{self.kind}: [{low}, {high}] must begin above 0")
        return self


KINDS = ("choice", "uniform", "log", "integer", "log_integer")


class Objective(Settings):
    """One figure that trials are judged by."""

    of: list[str] = Field(["mean"], min_length=1)
    """Suites by their main metric, ``suite/metric`` for another one, or ``mean`` for that of
    ``evaluate.summary``; several are averaged. Or one cost: ``seconds``, ``tokens``,
    ``answers``."""
    goal: Literal["maximise", "minimise"] = "maximise"
    """Which way is better."""
    weight: float = Field(1.0, ge=0)
    """Share in the one score by which the best trial is chosen and trials are stopped; costs
    belong there with a small weight, or with 0, which leaves them to the Pareto front."""

    @model_validator(mode="after")
    def _costs_stand_alone(self) -> "Objective":
        if set(self.of) & set(COSTS) and len(self.of) > 1:
            raise ValueError(f"of={self.of}: a cost ({', '.join(COSTS)}) stands alone")
        return self


class Confirm(Settings):
    """The best trial against the recipe as it stands, trained anew."""

    seeds: int = Field(5, ge=0)
    """Trainings of each with seeds that the search has not seen; 0 leaves it out."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the interval of their difference, over seeds and prompts."""


class Budget(Settings):
    """What the recommended ratio may cost."""

    answers: int | None = Field(None, ge=0)
    """Diverse answers."""
    seconds: float | None = Field(None, gt=0)
    """Of synthesis, training and evaluation, on this cluster."""
    tolerance: float = Field(0.01, ge=0)
    """Of the score: a smaller ratio is preferred while it is not expected to lose more."""


class Sweep(Settings):
    """Many trainings on one synthesis, to find a mix and its settings."""

    name: Name = "sweep"
    """The folder under ``storage``; all trials live in it and share what they can."""
    storage: Storage = "runs"
    """Folder or fsspec URL; all nodes must reach it."""
    run: dict[str, Any] | str | list[str] = {}
    """What every trial has in common: settings as in a recipe, or a recipe's path (several
    compose left to right). ``name`` and ``storage`` are the sweep's."""
    arm: Name = "delia"
    """The arm that is trained: one of ``run.arms``, or a known name."""
    dimensions: dict[str, Dimension] = Field({}, min_length=1)
    """Dotted setting -> its values: ``{mix.ratio: {choice: [0, 32, 67]}, finetune.lr:
    {log: [1e-5, 1e-3]}}``."""
    searcher: Literal["random", "grid", "optuna", "bohb"] = "random"
    """``random`` spreads trials evenly (a shifted Halton sequence), ``grid`` tries every
    combination of choices, ``optuna`` and ``bohb`` learn from the trials that are done."""
    scheduler: Literal["none", "asha", "pbt", "hyperband"] = "none"
    """``asha`` stops the worse trials at ``rungs``; ``pbt`` goes on there from a copy of a better
    trial with another ``finetune.lr``, which gives ``finetune.phases``; ``hyperband`` goes with
    ``searcher: bohb``."""
    trials: int | None = Field(None, ge=1)
    """How many; None for all of a grid."""
    seed: int = Field(0, ge=0)
    """Of the search."""
    rungs: list[int] = []
    """Optimizer steps at which a trial is evaluated on its way."""
    rung_rows: int = Field(32, ge=1)
    """Rows of each suite that are asked there."""
    reduction: int = Field(2, ge=2)
    """Of ``scheduler: asha``: one of so many goes on at a rung."""
    objectives: dict[str, Objective] = {"score": Objective()}
    """What counts, by names of your choice, for example adapt, retain and cost."""
    search_rows: int | None = Field(None, ge=1)
    """Rows of each suite that trials are scored on, from its first; those after them are held
    back for the confirmation. None keeps half of each."""
    confirm: Confirm = Confirm()
    budget: Budget = Budget()
    side_by_side: int | None = Field(None, ge=1)
    """Trials at a time; None for as many as the cluster holds."""
    retries: int = Field(2, ge=0)
    """Further tries of a trial that failed, after all others; then it is reported as failed."""
    cluster: Cluster = Cluster()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Sweep":
        if self.searcher == "grid":
            if wide := [n for n, d in self.dimensions.items() if d.kind != "choice"]:
                raise ValueError(
                    f"searcher=grid takes choices only; give {wide[0]} as {{choice: [...]}}, or "
                    "take searcher=random"
                )
        elif self.trials is None:
            raise ValueError(f"searcher={self.searcher} needs trials=N")
        for name, dimension in self.dimensions.items():
            if unknown := [o for o in dimension.when if o not in self.dimensions]:
                raise ValueError(f"dimensions.{name}.when names {unknown}, which is no dimension")
        if self.scheduler != "none" and not self.rungs:
            raise ValueError(f"scheduler={self.scheduler} decides at rungs; give some")
        if sorted(set(self.rungs)) != self.rungs or (self.rungs and self.rungs[0] < 1):
            raise ValueError(f"rungs must rise from 1 or more, got {self.rungs}")
        if self.scheduler == "pbt":
            if "finetune.lr" not in self.dimensions:
                raise ValueError("scheduler=pbt changes finetune.lr; make it a dimension")
            if self.searcher not in ("random", "grid"):
                raise ValueError("scheduler=pbt takes searcher=random or grid")
        if (self.searcher == "bohb") != (self.scheduler == "hyperband"):
            raise ValueError("searcher=bohb and scheduler=hyperband go together")
        if not any(o.weight for o in self.objectives.values()):
            raise ValueError("objectives: one needs a weight above 0")
        return self

    def base_arm(self, arms: dict[str, Any] | None) -> Any:
        """The settings of ``arm``.

        Raises:
            ValueError: there is no such arm.
        """
        if arms and self.arm in arms:
            return arms[self.arm]
        if self.arm in BASELINES:
            return BASELINES[self.arm].model_dump(exclude_defaults=True)
        raise ValueError(f"arm={self.arm} is neither in run.arms nor one of {', '.join(BASELINES)}")


__all__ = ["COSTS", "Arm", "Budget", "Confirm", "Dimension", "Objective", "Sweep"]
