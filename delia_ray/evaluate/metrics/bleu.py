"""BLEU (Papineni et al. 2002) as sacrebleu computes it (Post 2018, arXiv 1804.08771)."""

from collections.abc import Sequence

from delia_ray.evaluate.metrics.contract import CorpusMetric, CorpusScore
from delia_ray.evaluate.metrics.sacre import corpus_score


class Bleu(CorpusMetric):
    """Corpus BLEU with sacrebleu's defaults: 13a tokens, exponential smoothing, cased."""

    def score(
        self, outputs: Sequence[str], references: Sequence[str], resamples: int, seed: int
    ) -> CorpusScore:
        from sacrebleu.metrics.bleu import BLEU

        return corpus_score(BLEU(), outputs, references, resamples, seed)
