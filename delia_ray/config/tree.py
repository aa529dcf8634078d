"""Everything about one run, in one tree."""

from pydantic import Field, model_validator

from delia_ray.config.data import Downstream, Settings, Source
from delia_ray.config.evaluate import Evaluate
from delia_ray.config.finetune import Arm, Finetune
from delia_ray.config.mix import Mix
from delia_ray.config.synthesize import Synthesize


class Cluster(Settings):
    """Where Ray runs."""

    address: str | None = None
    """Ray address; None joins the cluster of the surrounding Ray job, or starts one here."""
    num_cpus: int | None = Field(None, ge=1)
    """Logical CPUs of a cluster started here; None takes the machine's, at least 2."""


class RunConfig(Settings):
    """Everything about one run. The defaults are the miniature demo."""

    name: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The run's folder under ``storage``."""
    storage: str = "runs"
    """Folder or fsspec URL that runs live in; a cluster's nodes must all reach it."""
    seed: int = Field(0, ge=0)
    """Seeds the pool order, sampling, mix, initialisation and bootstrap."""
    model: str = "miniature"
    """The base chat model: ``miniature``, a folder, a URL or a hub id. It needs a chat
    template."""
    downstream: Downstream = Downstream()
    """The task to adapt to."""
    corpus: list[Source] = [Source(path="corpus", format="miniature", rows=20000)]
    """Diverse queries; reference answers help but are not needed."""
    synthesize: Synthesize = Synthesize()
    mix: Mix = Mix()
    finetune: Finetune = Finetune()
    arms: dict[str, Arm] = {"common": Arm(ratio=0, reworded=False), "delia": Arm()}
    """Models to train and compare; ``base`` (untrained) always stands beside them."""
    evaluate: Evaluate = Evaluate()
    cluster: Cluster = Cluster()

    @model_validator(mode="after")
    def _names_fit(self) -> "RunConfig":
        names = [s.name for s in self.evaluate.suites]
        if "mean" in names:
            raise ValueError("evaluate.suites: 'mean' is the summary's name; choose another")
        if len(set(names)) < len(names):
            raise ValueError(f"evaluate.suites: names must differ, got {names}")
        if missing := [n for n in self.evaluate.summary if n not in names]:
            raise ValueError(
                f"evaluate.summary names {missing}, which evaluate.suites lacks (it has {names})"
            )
        if "base" in self.arms:
            raise ValueError("arms: 'base' is the untrained model's name; choose another")
        return self

    def arm_ratio(self, arm: str) -> float:
        """Diverse rows per downstream row of ``arm``; the largest of a schedule."""
        ratio = self.arms[arm].ratio
        if ratio is None and self.mix.schedule:
            return max(p.ratio for p in self.mix.schedule)
        return self.mix.ratio if ratio is None else ratio
