"""The settings of stage 5."""

from typing import Literal

from pydantic import Field, model_validator

from delia_ray import miniature
from delia_ray.config.data import Settings, Source
from delia_ray.config.engines import Engine, TransformersEngine


class Metric(Settings):
    """How a suite's outputs are scored."""

    name: Literal["exact_match", "format_validity", "field_accuracy", "bleu", "chrf"]
    """Which metric; ``delia_ray/evaluate/__init__.py`` lists them."""
    field: str | None = None
    """The key whose value counts (``field_accuracy``)."""

    @model_validator(mode="after")
    def _field_fits(self) -> "Metric":
        if (self.name == "field_accuracy") != (self.field is not None):
            raise ValueError("field_accuracy, and no other metric, needs `field`")
        return self


class Suite(Source):
    """Held-out rows with reference answers, and how to score them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Its name in the tables and files."""
    metrics: list[Metric] = Field([Metric(name="exact_match")], min_length=1)
    """The first is the suite's main metric."""
    phrasings: int = Field(0, ge=0)
    """Other wordings under which every row is asked too, so that the mean, spread and worst
    case over phrasings are known; the main metric then has to be one that scores each row. For
    ``format: miniature`` they are the world's own, which mean the same for certain. Elsewhere
    the base model rewords each distinct instruction so many times, as ``synthesize.reword`` and
    ``synthesize.rules`` say; a wording that is set aside is not replaced, so a row may have
    fewer. Cost: ``1 + phrasings`` answers for each row."""

    @model_validator(mode="after")
    def _has_equal_wordings(self) -> "Suite":
        known = self.path in miniature.PARTS and self.path not in miniature.REWORDABLE
        if self.phrasings and self.format == "miniature" and known:
            raise ValueError(
                f"phrasings={self.phrasings}: the part {self.path} of the miniature has no equal "
                f"wordings; set phrasings to 0, or take {', '.join(miniature.REWORDABLE)}"
            )
        return self


def _miniature_suites() -> list[Suite]:
    exact = ("sep_unseen_tasks", "sep_unseen_phrasings", "sep_negated", "plain", "other_formats")
    suites = [Suite(name=n, path=n, format="miniature", rows=128) for n in exact]
    translation = [Metric(name="chrf"), Metric(name="bleu"), Metric(name="exact_match")]
    return [
        *suites,
        Suite(
            name="translation", path="translation", format="miniature", rows=128,
            metrics=translation,
        ),
    ]  # fmt: skip


class Evaluate(Settings):
    """Stage 5: every arm and the base model answer every suite."""

    engine: Engine = TransformersEngine()
    """What generates; each task loads its own copy."""
    suites: list[Suite] = Field(default_factory=_miniature_suites)
    """What to ask."""
    summary: list[str] = [
        "sep_unseen_tasks", "sep_unseen_phrasings", "sep_negated", "plain", "other_formats",
    ]  # fmt: skip
    """Suites whose main metrics are averaged into the line "mean"; empty for none."""
    max_tokens: int = Field(64, ge=1)
    """Longest answer, decoded greedily."""
    resamples: int = Field(2000, ge=100)
    """Bootstrap resamples behind each interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the intervals; those of BLEU and chrF are sacrebleu's own, always at 95 %."""
