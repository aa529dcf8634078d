"""What a metric is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from delia_ray.config import Metric


class RowMetric(ABC):
    """Judges each row alone; a suite's value is the mean, its interval a bootstrap."""

    scale: ClassVar[float] = 1.0

    def __init__(self, settings: Metric) -> None:
        """Take what the metric needs from ``settings``; ``UserError`` where it is missing."""
        self.settings = settings

    def check(self, references: Sequence[str]) -> None:  # noqa: B027  # most have no need
        """Raise ``UserError`` where the references cannot be judged; before generation."""

    @abstractmethod
    def score(self, output: str, reference: str) -> float:
        """From 0 (wrong) to 1 (right)."""


@dataclass(frozen=True)
class CorpusScore:
    """Value and interval of a whole suite, and the library's signature of how."""

    value: float
    low: float
    high: float
    signature: str


class CorpusMetric(ABC):
    """Judges a whole suite at once, where the mean over rows would mean something else."""

    scale: ClassVar[float] = 100.0

    def __init__(self, settings: Metric) -> None:
        """As for ``RowMetric``."""
        self.settings = settings

    @abstractmethod
    def score(
        self, outputs: Sequence[str], references: Sequence[str], resamples: int, seed: int
    ) -> CorpusScore:
        """From 0 to ``scale``, with the interval of ``resamples`` bootstrap resamples."""
