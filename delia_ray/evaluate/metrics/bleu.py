"""BLEU (Papineni et al. 2002) as sacrebleu computes it (Post 2018, arXiv 1804.08771)."""

from collections.abc import Sequence
from typing import Any

from delia_ray.errors import UserError
from delia_ray.evaluate.metrics.contract import CorpusMetric, CorpusScore
from delia_ray.evaluate.metrics.sacre import corpus_score


class Bleu(CorpusMetric):
    """Corpus BLEU with sacrebleu's defaults: 13a tokens, exponential smoothing, cased.

    ``tokenize`` and ``lowercase`` are sacrebleu's; the signature names them.
    """

    def check(self, references: Sequence[str], sources: Sequence[str] | None = None) -> None:
        try:
            self._scorer()
        # A missing package, or no network for a tokenizer's model; each says it in its own way.
        except Exception as error:
            raise UserError(
                f"bleu: the tokenizer tokenize={self.settings.tokenize} cannot be loaded: {error}; "
                "13a, none, zh, intl and char need nothing else"
            ) from error

    def score(
        self,
        outputs: Sequence[str],
        references: Sequence[str],
        resamples: int,
        seed: int,
        confidence: float = 0.95,
    ) -> CorpusScore:
        return corpus_score(self._scorer(), outputs, references, resamples, seed)

    def _scorer(self) -> Any:
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(tokenize=self.settings.tokenize, lowercase=self.settings.lowercase)
