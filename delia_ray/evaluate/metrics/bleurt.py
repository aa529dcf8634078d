"""BLEURT (Sellam et al. 2020, arXiv 2004.04696) through google-research/bleurt."""

from collections.abc import Sequence
from typing import ClassVar

from delia_ray.evaluate.metrics.learned import LearnedMetric

_BATCH = 16


class Bleurt(LearnedMetric):
    """The mean of ``BleurtScorer.score``; the source text plays no part.

    Written after the library's documentation. Neither the package (TensorFlow) nor a
    checkpoint is part of this project, so no test runs the model.
    """

    package: ClassVar[str] = "bleurt"
    install: ClassVar[str] = "pip install git+https://github.com/google-research/bleurt"
    is_folder: ClassVar[bool] = True

    def score_all(
        self, outputs: Sequence[str], references: Sequence[str], sources: Sequence[str] | None
    ) -> list[float]:
        from bleurt.score import BleurtScorer

        # The batch size is given, for its default is a command line flag that nobody parsed.
        found = BleurtScorer(self.checkpoint).score(
            references=list(references), candidates=list(outputs), batch_size=_BATCH
        )
        return [float(x) for x in found]
