"""Everything about one run, in one tree."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pydantic import Field, model_validator

from delia_ray import miniature
from delia_ray.config.curate import Curate
from delia_ray.config.data import Downstream, Name, Settings, Source, Storage
from delia_ray.config.evaluate import Evaluate
from delia_ray.config.finetune import BASELINES, Arm, Finetune, named_arms
from delia_ray.config.kubernetes import Kubernetes
from delia_ray.config.mix import Mix
from delia_ray.config.paths import ModelPath
from delia_ray.config.synthesize import Synthesize


class Cluster(Settings):
    """Where Ray runs."""

    address: str | None = None
    """Ray address; None joins the cluster of the surrounding Ray job, or starts one here."""
    num_cpus: int | None = Field(None, ge=1)
    """Logical CPUs of a cluster started here; None takes the machine's, at least 2."""
    training_labels: dict[str, str] = {}
    """Ray labels that a node must have to get a training worker, such as ``{delia-role:
    training}``; empty takes any node. Engines run wherever there is room."""
    kubernetes: Kubernetes = Kubernetes()
    """Pods, queues and secrets of ``delia k8s render``."""


_TAKEN = ("base", "all", "checkpoints", "train", "rewordings")
"""What arms cannot be called: these stand for something else where files are named after arms."""


def _with_a_world(tree: Mapping[str, Any]) -> dict[str, Any]:
    """``tree``; where it names no downstream rows, with the miniature's world beneath it."""
    given = tree.get("downstream", {})
    if not isinstance(given, Mapping) or "path" in given or "format" in given:
        return dict(tree)
    world = miniature.world_settings()
    evaluate = tree.get("evaluate", {})
    if isinstance(evaluate, Mapping) and "suites" not in evaluate:
        evaluate = {**world["evaluate"], **evaluate}
    downstream = {**world["downstream"], **given}
    return {"corpus": world["corpus"], **tree, "downstream": downstream, "evaluate": evaluate}


class RunConfig(Settings):
    """Everything about one run."""

    name: Name = "demo"
    """The run's folder under ``storage``."""
    storage: Storage = "runs"
    """Folder or fsspec URL that runs live in; a cluster's nodes must all reach it."""
    seed: int = Field(0, ge=0)
    """Seeds the pool order, sampling, mix, initialisation and bootstrap."""
    training_seed: int | None = Field(None, ge=0)
    """Seeds what differs between two trainings on the same pool: the order of the mix, first
    values and dropout. None takes ``seed``."""
    model: ModelPath = "miniature"
    """The base chat model: ``miniature``, a folder, a URL or a hub id. It needs a chat
    template."""
    downstream: Downstream = Downstream()
    """The task to adapt to."""
    corpus: list[Source] = []
    """Diverse queries; reference answers help but are not needed."""
    curate: Curate = Curate()
    synthesize: Synthesize = Synthesize()
    mix: Mix = Mix()
    finetune: Finetune = Finetune()
    arms: dict[Name, Arm] = {name: BASELINES[name] for name in ("common", "delia")}
    """Models to train and compare; ``base`` (untrained) always stands beside them. A mapping
    from a name to its settings, or a list of known ones: common, rewording_only,
    self_sampling_only, replay, mixup, whole_chat, delia. These also stand for settings:
    ``{mine: replay}``."""
    evaluate: Evaluate = Evaluate()
    cluster: Cluster = Cluster()

    @model_validator(mode="before")
    @classmethod
    def _arms_by_name(cls, tree: Any) -> Any:
        if isinstance(tree, Mapping) and "arms" in tree:
            return {**tree, "arms": named_arms(tree["arms"])}
        return tree

    @model_validator(mode="before")
    @classmethod
    def _about_something(cls, tree: Any) -> Any:
        return _with_a_world(tree) if isinstance(tree, Mapping) else tree

    @model_validator(mode="after")
    def _names_fit(self) -> "RunConfig":
        names = [s.name for s in self.evaluate.suites]
        if taken := [n for n in self.arms if n in _TAKEN]:
            raise ValueError(
                f"arms: {taken[0]!r} is the name of something else in the stage's folder; choose "
                "another"
            )
        if "mean" in names:
            raise ValueError("evaluate.suites: 'mean' is the summary's name; choose another")
        if len(set(names)) < len(names):
            raise ValueError(f"evaluate.suites: names must differ, got {names}")
        for system, files in self.evaluate.systems.items():
            if system in ("base", *self.models):
                raise ValueError(f"evaluate.systems: {system!r} is a model's name; choose another")
            if unknown := [n for n in files if n not in names]:
                raise ValueError(
                    f"evaluate.systems.{system} names {unknown}, which evaluate.suites lacks (it "
                    f"has {names})"
                )
        if not (self.evaluate.base or self.models or self.evaluate.systems):
            raise ValueError(
                "nothing to evaluate: arms is empty, evaluate.base is false and evaluate.systems "
                "is empty"
            )
        if missing := [n for n in self.evaluate.summary if n not in names]:
            raise ValueError(
                f"evaluate.summary names {missing}, which evaluate.suites lacks (it has {names})"
            )
        return self

    @model_validator(mode="after")
    def _references_exist(self) -> "RunConfig":
        for name, arm in self.arms.items():
            if arm.answers != "reference":
                continue
            if arm.ratio == 0:
                raise ValueError(
                    f"arms.{name}: answers=reference says how diverse rows are answered, and "
                    "ratio=0 has none; leave one of the two out"
                )
            if self.synthesize.method == "magpie":
                raise ValueError(
                    f"arms.{name}: answers=reference needs queries of the corpus, and "
                    "synthesize.method=magpie invents its own; choose self_sample or plain"
                )
        return self

    @property
    def order_seed(self) -> int:
        """The seed of trainings, see ``training_seed``."""
        return self.seed if self.training_seed is None else self.training_seed

    @property
    def models(self) -> list[str]:
        """Every model that training leaves: the arms, and ``<arm>@<step>`` for what is kept of
        them as of a step on the way."""
        kept = [f"{name}@{step}" for name, arm in self.arms.items() for step in arm.snapshots]
        return [*self.arms, *kept]

    def arm_ratio(self, arm: str) -> float:
        """Diverse rows per downstream row of ``arm``; the largest of a schedule."""
        ratio = self.arms[arm].ratio
        if ratio is None and self.mix.schedule:
            return max(p.ratio for p in self.mix.schedule)
        return self.mix.ratio if ratio is None else ratio

    def arm_rows(self, arm: str, downstream: int) -> int:
        """Diverse rows of ``arm`` beside so many downstream rows: a prefix of the pool, a begun
        row whole, and as many times as many as ``mix.mosaic`` lays side by side."""
        exact = Fraction(str(self.arm_ratio(arm)))  # 0.1 means one tenth, as in ``mix.order``
        return math.ceil(exact * self.mix.mosaic * downstream)

    def uses_reference(self) -> bool:
        """Whether an arm trains on diverse rows with reference answers."""
        return any(a.answers == "reference" and self.arm_ratio(n) > 0 for n, a in self.arms.items())
