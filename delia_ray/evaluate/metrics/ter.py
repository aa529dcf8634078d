"""Translation edit rate (Snover et al. 2006, 2006.amta-papers.25) as sacrebleu computes it."""

import math
from collections.abc import Sequence
from typing import ClassVar

from delia_ray.evaluate.metrics.contract import CorpusMetric, CorpusScore
from delia_ray.evaluate.metrics.sacre import corpus_score


class Ter(CorpusMetric):
    """Edits (insertion, deletion, substitution, shift) in percent of the reference's words.

    0 is best; outputs that are much too long have more than 100. sacrebleu's defaults: case
    does not count, tokens as they stand.
    """

    higher_is_better: ClassVar[bool] = False

    def score(
        self,
        outputs: Sequence[str],
        references: Sequence[str],
        resamples: int,
        seed: int,
        confidence: float = 0.95,
    ) -> CorpusScore:
        from sacrebleu.metrics.ter import TER

        return corpus_score(TER(), outputs, references, resamples, seed, most=math.inf)
