"""chrF2 (Popovic 2015, W15-3049) as sacrebleu computes it (Post 2018, arXiv 1804.08771)."""

from collections.abc import Sequence

from delia_ray.evaluate.metrics.contract import CorpusMetric, CorpusScore
from delia_ray.evaluate.metrics.sacre import corpus_score


class Chrf(CorpusMetric):
    """Corpus chrF with sacrebleu's defaults: character 6-grams, beta 2, no word n-grams.

    It needs no tokenizer, so it fits languages with rich endings, such as Icelandic.
    """

    def score(
        self, outputs: Sequence[str], references: Sequence[str], resamples: int, seed: int
    ) -> CorpusScore:
        from sacrebleu.metrics.chrf import CHRF

        return corpus_score(CHRF(), outputs, references, resamples, seed)
