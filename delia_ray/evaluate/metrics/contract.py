"""What a metric is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from delia_ray.config import Metric


class BaseMetric:
    """What all metrics share."""

    scale: ClassVar[float | None] = 1.0
    """The best value of a scale from 0; None where there is no bound."""
    higher_is_better: ClassVar[bool] = True

    def __init__(self, settings: Metric) -> None:
        """Take what the metric needs from ``settings``; ``UserError`` where it is missing."""
        self.settings = settings

    def check(self, references: Sequence[str], sources: Sequence[str] | None = None) -> None:
        """Raise ``UserError`` where the rows cannot be judged; before generation."""


class BatchMetric(BaseMetric, ABC):
    """Gives each row a score; a suite's value is the mean, its interval a bootstrap."""

    failed: ClassVar[float | None] = 0.0
    """The score of a failed generation; None for that of an empty output."""

    @abstractmethod
    def score_all(
        self, outputs: Sequence[str], references: Sequence[str], sources: Sequence[str] | None
    ) -> list[float]:
        """A score for each row; ``sources`` are the rows' last user turns, where known."""


class RowMetric(BatchMetric):
    """Judges each row alone."""

    @abstractmethod
    def score(self, output: str, reference: str) -> float:
        """From 0 to ``scale``."""

    def score_all(
        self, outputs: Sequence[str], references: Sequence[str], sources: Sequence[str] | None
    ) -> list[float]:
        return [self.score(out, ref) for out, ref in zip(outputs, references, strict=True)]


@dataclass(frozen=True)
class CorpusScore:
    """Value and interval of a whole suite, and an account of how it was computed."""

    value: float
    low: float
    high: float
    signature: str


class CorpusMetric(BaseMetric, ABC):
    """Judges a whole suite at once, where the mean over rows would mean something else."""

    scale: ClassVar[float | None] = 100.0

    @abstractmethod
    def score(
        self,
        outputs: Sequence[str],
        references: Sequence[str],
        resamples: int,
        seed: int,
        confidence: float = 0.95,
    ) -> CorpusScore:
        """The value with the interval of ``resamples`` bootstrap resamples.

        Raises:
            ValueError: there is nothing to score.
        """
