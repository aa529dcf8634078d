"""Following of verifiable constraints, as in IFEval (Zhou et al. 2023, arXiv 2311.07911).

The four accuracies of the paper: by prompt and by instruction, strict and ``loose``.
"""

from collections.abc import Sequence

import numpy as np

from delia_ray.errors import UserError
from delia_ray.evaluate.metrics.contract import BaseMetric, CorpusMetric, CorpusScore, RowMetric
from delia_ray.evaluate.metrics.resample import bootstrap_score
from delia_ray.ifeval import ConstraintError, decode, followed


class _Constrained(BaseMetric):
    """The reference is the text that ``delia_ray.ifeval.encode`` makes; a suite with
    ``format: ifeval`` has it."""

    def check(self, references: Sequence[str], sources: Sequence[str] | None = None) -> None:
        for number, reference in enumerate(references, 1):
            try:
                decode(reference)
            except ConstraintError as error:
                raise UserError(
                    f"{self.settings.name}: the reference answer of row {number} holds no "
                    f"constraints ({error}); read IFEval's file with `format: ifeval`"
                ) from None

    def followed(self, output: str, reference: str) -> list[bool]:
        return followed(output, decode(reference), loose=self.settings.loose)


class Constraints(_Constrained, RowMetric):
    """Prompt-level accuracy: 1 where every instruction of the prompt is followed."""

    def score(self, output: str, reference: str) -> float:
        return float(all(self.followed(output, reference)))


class ConstraintsPerInstruction(_Constrained, CorpusMetric):
    """Instruction-level accuracy: the share of all instructions that are followed.

    Percentile interval over resampled prompts, since instructions of one prompt belong
    together.
    """

    scale = 1.0

    def score(
        self,
        outputs: Sequence[str],
        references: Sequence[str],
        resamples: int,
        seed: int,
        confidence: float = 0.95,
    ) -> CorpusScore:
        rows = [self.followed(o, r) for o, r in zip(outputs, references, strict=True)]
        right = np.array([sum(row) for row in rows], dtype=np.float64)
        total = np.array([len(row) for row in rows], dtype=np.float64)
        return bootstrap_score(
            lambda drawn: right[drawn].sum(axis=1) / total[drawn].sum(axis=1),
            len(rows),
            name="instructions over prompts",
            resamples=resamples,
            seed=seed,
            confidence=confidence,
        )
