"""How long the outputs are: no measure of quality, but what other figures are read beside."""

from typing import ClassVar

from delia_ray.evaluate.metrics.contract import RowMetric


class Length(RowMetric):
    """Words (set apart by white space) or characters of the stripped output."""

    scale: ClassVar[float | None] = None
    higher_is_better: ClassVar[bool] = False
    failed: ClassVar[float | None] = None

    def score(self, output: str, reference: str) -> float:
        said = output.strip()
        return float(len(said if self.settings.unit == "characters" else said.split()))
