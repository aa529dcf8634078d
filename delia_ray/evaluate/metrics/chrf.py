"""chrF2 and chrF2++ as sacrebleu computes them (Post 2018, arXiv 1804.08771)."""

from collections.abc import Sequence
from typing import ClassVar

from delia_ray.evaluate.metrics.contract import CorpusMetric, CorpusScore
from delia_ray.evaluate.metrics.sacre import corpus_score


class Chrf(CorpusMetric):
    """Corpus chrF (Popovic 2015, W15-3049): character 6-grams, beta 2, no word n-grams.

    It needs no tokenizer, so it fits languages with rich endings, such as Icelandic.
    """

    word_order: ClassVar[int] = 0

    def score(
        self,
        outputs: Sequence[str],
        references: Sequence[str],
        resamples: int,
        seed: int,
        confidence: float = 0.95,
    ) -> CorpusScore:
        from sacrebleu.metrics.chrf import CHRF

        scorer = CHRF(word_order=self.word_order, lowercase=self.settings.lowercase)
        return corpus_score(scorer, outputs, references, resamples, seed)


class ChrfPlusPlus(Chrf):
    """chrF++ (Popovic 2017, W17-4770): character 6-grams and word bigrams, beta 2."""

    word_order: ClassVar[int] = 2
