"""Metrics: outputs and references in, scores out. One line each in ``METRICS``.

Adding one: a class with the contract of ``contract.RowMetric``, ``contract.BatchMetric`` (a
model that scores many rows at once, or one that sees the prompt) or ``contract.CorpusMetric``
in a file here, a line in the table, its name in ``MetricName`` and its options in ``_TAKES``
of ``delia_ray/config/evaluate.py``, a test.
"""

from delia_ray.config import Metric
from delia_ray.evaluate.metrics.bleu import Bleu
from delia_ray.evaluate.metrics.bleurt import Bleurt
from delia_ray.evaluate.metrics.chrf import Chrf, ChrfPlusPlus
from delia_ray.evaluate.metrics.classification import F1, Accuracy
from delia_ray.evaluate.metrics.comet import Comet
from delia_ray.evaluate.metrics.constraints import Constraints, ConstraintsPerInstruction
from delia_ray.evaluate.metrics.content_match import ContentMatch
from delia_ray.evaluate.metrics.contract import BatchMetric, CorpusMetric, CorpusScore, RowMetric
from delia_ray.evaluate.metrics.exact_match import ExactMatch
from delia_ray.evaluate.metrics.field_accuracy import FieldAccuracy
from delia_ray.evaluate.metrics.format_validity import FormatValidity
from delia_ray.evaluate.metrics.length import Length
from delia_ray.evaluate.metrics.repetition import Repetition
from delia_ray.evaluate.metrics.ter import Ter

METRICS: dict[str, type[BatchMetric] | type[CorpusMetric]] = {
    "exact_match": ExactMatch,
    "content_match": ContentMatch,
    "format_validity": FormatValidity,
    "field_accuracy": FieldAccuracy,
    "accuracy": Accuracy,
    "f1": F1,
    "constraints": Constraints,
    "constraints_per_instruction": ConstraintsPerInstruction,
    "bleu": Bleu,
    "chrf": Chrf,
    "chrf++": ChrfPlusPlus,
    "ter": Ter,
    "bleurt": Bleurt,
    "comet": Comet,
    "length": Length,
    "repetition": Repetition,
}
"""Metric name -> class."""


def make_metric(settings: Metric) -> BatchMetric | CorpusMetric:
    """The metric that ``settings`` asks for.

    Raises:
        UserError: it lacks a setting that it needs.
    """
    return METRICS[settings.name](settings)


__all__ = ["METRICS", "BatchMetric", "CorpusMetric", "CorpusScore", "RowMetric", "make_metric"]
