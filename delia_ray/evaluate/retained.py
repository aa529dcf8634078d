"""What every model kept of the base: losses on held-out rows, and what it got wrong since."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from delia_ray.evaluate.metrics.structure import form_name
from delia_ray.evaluate.probes.forgetting import forgetting
from delia_ray.evaluate.scoring import SuiteScore
from delia_ray.evaluate.statistics import mean_interval, paired_difference


def retained(
    scored: Mapping[str, Mapping[str, SuiteScore]],
    references: Mapping[str, Sequence[str]],
    losses: Mapping[str, Sequence[float]],
    **how: Any,
) -> dict[str, Any]:
    """Every model beside the base.

    Args:
        scored: suite -> model -> score.
        references: suite -> right answers, of which the form is what rows are grouped by.
        losses: model -> mean loss of each held-out row, nats per token; may be empty.
        how: ``resamples``, ``confidence`` and ``seed`` of the intervals.

    Returns:
        model -> ``loss`` and ``loss_difference`` (to the base; value, low, high), ``groups``
        ("<suite>: <form>" -> rows, before, after, forgotten, learned) and ``forgotten`` (suite
        -> indices of rows that the base has right and the model wrong). Only suites whose rows
        have a score of their own count.
    """
    models = list(dict.fromkeys(m for own in scored.values() for m in own)) or list(losses)
    found: dict[str, Any] = {}
    for model in models:
        own: dict[str, Any] = {"groups": {}, "forgotten": {}}
        if model in losses:
            own["loss"] = asdict(mean_interval({"held out": losses[model]}, **how))
            if "base" in losses and model != "base":
                gap = paired_difference(
                    {"held out": losses[model]}, {"held out": losses["base"]}, **how
                )
                own["loss_difference"] = asdict(gap)
        for suite, scores in scored.items() if model != "base" else ():
            before = scores["base"].rows if "base" in scores else None
            after = scores[model].rows if model in scores else None
            if before is None or after is None:
                continue
            groups = [f"{suite}: {form_name(r)}" for r in references[suite]]
            change = forgetting(before, after, groups)
            own["groups"] |= {name: asdict(c) for name, c in change.groups.items()}
            if change.forgotten:
                own["forgotten"][suite] = change.forgotten
        found[model] = own
    return found
