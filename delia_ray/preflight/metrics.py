"""Metrics that cannot be computed here."""

from collections.abc import Iterator

from delia_ray.errors import UserError
from delia_ray.evaluate.metrics import make_metric
from delia_ray.preflight.problem import Problem
from delia_ray.preflight.subject import Subject


def metrics(subject: Subject) -> Iterator[Problem]:
    """Packages, tokenizers and checkpoints of the suites' metrics, which the evaluation would
    miss after all trainings."""
    for suite in subject.config.evaluate.suites:
        for settings in suite.metrics:
            try:
                make_metric(settings).check([], None)
            except UserError as error:
                yield Problem(str(error), f"evaluate.suites, {suite.name}")
