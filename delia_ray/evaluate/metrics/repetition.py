"""How much of an output repeats itself (after seq-rep-4, Welleck et al. 2020, arXiv 1908.04319)."""

from typing import ClassVar

from delia_ray.evaluate.metrics.contract import RowMetric
from delia_ray.text import repetition


class Repetition(RowMetric):
    """Share of 4-word sequences that occurred in the output before; 0 is best.

    The same measure as ``synthesize.rules.max_repetition``, with 0 for short outputs. A
    failed generation counts as 1.
    """

    higher_is_better: ClassVar[bool] = False
    failed: ClassVar[float | None] = 1.0

    def score(self, output: str, reference: str) -> float:
        return repetition(output.strip())
