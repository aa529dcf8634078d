"""Metrics: outputs and references in, scores out. One file each, one line in ``METRICS``.

Adding one: a class with the contract of ``contract.RowMetric`` or ``contract.CorpusMetric``
in a file here, a line in the table, its name in ``delia_ray.config.Metric.name``, a test.
"""

from delia_ray.config import Metric
from delia_ray.evaluate.metrics.bleu import Bleu
from delia_ray.evaluate.metrics.chrf import Chrf
from delia_ray.evaluate.metrics.contract import CorpusMetric, CorpusScore, RowMetric
from delia_ray.evaluate.metrics.exact_match import ExactMatch
from delia_ray.evaluate.metrics.field_accuracy import FieldAccuracy
from delia_ray.evaluate.metrics.format_validity import FormatValidity

METRICS: dict[str, type[RowMetric] | type[CorpusMetric]] = {
    "exact_match": ExactMatch,
    "format_validity": FormatValidity,
    "field_accuracy": FieldAccuracy,
    "bleu": Bleu,
    "chrf": Chrf,
}
"""Metric name -> class."""


def make_metric(settings: Metric) -> RowMetric | CorpusMetric:
    """The metric that ``settings`` asks for.

    Raises:
        UserError: it lacks a setting that it needs.
    """
    return METRICS[settings.name](settings)


__all__ = ["METRICS", "CorpusMetric", "CorpusScore", "RowMetric", "make_metric"]
