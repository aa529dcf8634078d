"""What a trial's scores and costs are worth, in the sweep's own words."""

import math
from collections.abc import Mapping, Sequence

from delia_ray.config import Sweep
from delia_ray.config.sweep import COSTS, Objective
from delia_ray.errors import UserError
from delia_ray.sweep.records import Point, Record

SCORE = "weighted score"
"""The name of the one figure by which trials are ranked."""


def values(sweep: Sweep, point: Point) -> dict[str, float]:
    """Each objective's figure, by its name.

    Raises:
        UserError: an objective names what nobody measured.
    """
    return {name: _value(name, own, point) for name, own in sweep.objectives.items()}


def score(sweep: Sweep, point: Point) -> float:
    """The weighted mean of the objectives, those to be minimised with a minus: more is better."""
    found, total = values(sweep, point), sum(o.weight for o in sweep.objectives.values())
    weighted = (
        own.weight * (found[name] if own.goal == "maximise" else -found[name])
        for name, own in sweep.objectives.items()
    )
    return float(sum(weighted)) / total


def spread(sweep: Sweep, point: Point) -> float:
    """The standard error that ``score`` has from the prompts that were asked, taken from the
    suites' intervals as if they were normal and the suites independent."""
    total = sum(o.weight for o in sweep.objectives.values())
    variance = 0.0
    for own in sweep.objectives.values():
        if own.of[0] in COSTS:
            continue
        each = [_figures(name, point) for name in own.of]
        errors = [(f["high"] - f["low"]) / 2 / 1.96 for f in each]
        share = own.weight / total / len(each)
        variance += sum((share * e) ** 2 for e in errors)
    return math.sqrt(variance)


def best(sweep: Sweep, records: Sequence[Record]) -> Record | None:
    """The finished trial of the best score; of equals the one that was planned first."""
    done = [r for r in records if r.state == "done" and r.last is not None]
    return max(done, key=lambda r: (score(sweep, r.points[-1]), -r.number), default=None)


def check(sweep: Sweep, suites: Mapping[str, Sequence[str]], summary: Sequence[str]) -> None:
    """Fail before anything runs where an objective names what nobody will measure.

    Args:
        sweep: with the objectives.
        suites: suite -> labels of its metrics.
        summary: ``evaluate.summary``.

    Raises:
        UserError: see above.
    """
    for name, own in sweep.objectives.items():
        for one in own.of:
            suite, _, metric = one.partition("/")
            known = one in COSTS or (one == "mean" and bool(summary))
            known = known or (suite in suites and (not metric or metric in suites[suite]))
            if not known:
                there = ", ".join([*suites, *(["mean"] if summary else []), *COSTS])
                raise UserError(
                    f"objectives.{name}.of={one} is not measured; there are {there} (and "
                    "suite/metric for a suite's other metrics)"
                )


def _value(name: str, own: Objective, point: Point) -> float:
    if own.of[0] in COSTS:
        return point.costs[own.of[0]]
    try:
        return sum(_figures(one, point)["value"] for one in own.of) / len(own.of)
    except KeyError as error:
        raise UserError(
            f"objectives.{name}.of={own.of}: {error.args[0]} was not measured; there are "
            f"{', '.join(point.scores)}"
        ) from None


def _figures(one: str, point: Point) -> Mapping[str, float]:
    suite, _, metric = one.partition("/")
    own = point.scores[suite]
    return own[metric] if metric else next(iter(own.values()))
