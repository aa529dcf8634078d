"""Following of verifiable constraints, as in IFEval (Zhou et al. 2023, arXiv 2311.07911).

The four accuracies of the paper: by prompt and by instruction, strict and ``loose``.
"""

from collections.abc import Sequence

import numpy as np

from delia_ray.errors import UserError
from delia_ray.evaluate.metrics.contract import BaseMetric, CorpusMetric, CorpusScore, RowMetric
from delia_ray.evaluate.statistics import generator
from delia_ray.ifeval import ConstraintError, decode, followed

_CHUNK = 4_000_000
"""Indices drawn at a time, which bounds the memory (32 MB)."""


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
        if not outputs:
            raise ValueError("a corpus metric needs at least one row")
        rows = [self.followed(o, r) for o, r in zip(outputs, references, strict=True)]
        counts = np.array([[sum(row), len(row)] for row in rows], dtype=np.float64)
        n, rng = len(rows), generator(seed, "constraints_per_instruction")
        step = max(1, _CHUNK // n)
        sums = np.concatenate(
            [
                counts[rng.integers(0, n, size=(min(step, resamples - at), n))].sum(axis=1)
                for at in range(0, resamples, step)
            ]
        )
        low, high = np.quantile(
            sums[:, 0] / sums[:, 1], [(1 - confidence) / 2, (1 + confidence) / 2]
        )
        value = float(counts[:, 0].sum() / counts[:, 1].sum())
        return CorpusScore(
            value=value,
            low=min(float(low), value),
            high=max(float(high), value),
            signature=f"ratio over prompts|confidence:{confidence:g}|bs:{resamples}|seed:{seed}",
        )
