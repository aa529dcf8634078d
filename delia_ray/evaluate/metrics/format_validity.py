"""The output has the form of the reference, whatever it says.

The paper's formatted text generation asks for answers such as ``{'thought': "...",
'hallucination': 'yes'}`` (arXiv 2408.10841); this is the part of its accuracy that
concerns the format alone. A plain reference asks for a plain answer, so a model that
formats where it was told not to is caught too.
"""

from delia_ray.evaluate.metrics.contract import RowMetric
from delia_ray.evaluate.metrics.structure import form


class FormatValidity(RowMetric):
    """1 where both parse as the same type (JSON or Python literal) with the same keys."""

    def score(self, output: str, reference: str) -> float:
        return float(form(output) == form(reference))
