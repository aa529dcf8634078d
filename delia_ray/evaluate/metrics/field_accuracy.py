"""One key of the answer has the right value, for example the label beside the reasoning.

The accuracy of the paper's formatted text generation (arXiv 2408.10841): the answer is
``{'thought': "...", 'hallucination': 'yes'}`` and only the label can be right or wrong.
"""

from collections.abc import Sequence

from delia_ray.config import Metric
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics.contract import RowMetric
from delia_ray.evaluate.metrics.structure import parse, same


class FieldAccuracy(RowMetric):
    """1 where the output parses as a dict whose ``field`` has the reference's value."""

    def __init__(self, settings: Metric) -> None:
        super().__init__(settings)
        assert settings.field is not None  # the config sees to it
        self.field = settings.field

    def check(self, references: Sequence[str], sources: Sequence[str] | None = None) -> None:
        bad = [i for i, r in enumerate(references) if not self._has(parse(r))]
        if bad:
            raise UserError(
                f"field_accuracy: {len(bad)} of {len(references)} reference answers are not a "
                f"dict (JSON or Python literal) with the key {self.field!r}, first row "
                f"{bad[0] + 1}: {references[bad[0]][:80]!r}"
            )

    def score(self, output: str, reference: str) -> float:
        got, want = parse(output), parse(reference)
        if not (self._has(got) and self._has(want)):
            return 0.0
        return float(same(got[self.field], want[self.field]))

    def _has(self, value: object) -> bool:
        return isinstance(value, dict) and self.field in value
