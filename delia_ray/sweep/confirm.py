"""The best trial against the recipe as it stands: new seeds, rows that the search never saw."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from delia_ray.config import Sweep
from delia_ray.config.sweep import COSTS
from delia_ray.evaluate.hierarchical import Estimate, arm_mean, difference

Rows = Mapping[str, Sequence[float]]
"""Suite -> main metric of each row."""


@dataclass(frozen=True)
class Confirmed:
    """Best minus recipe, over seeds and held-back rows."""

    verdict: str
    """better, worse or cannot tell: whether the interval leaves out 0."""
    difference: dict[str, Any]
    best: dict[str, Any]
    recipe: dict[str, Any]
    suites: dict[str, dict[str, Any]]
    """The difference by suite."""
    seeds: int
    """Finished trainings of the one that has fewer."""
    rows: dict[str, int]
    """Held back, by suite."""


def suites_that_count(sweep: Sweep, summary: Sequence[str], names: Sequence[str]) -> list[str]:
    """Suites that the weighted score is made of; all where it is made of costs alone."""
    found: dict[str, None] = {}
    for own in sweep.objectives.values():
        if not own.weight or own.of[0] in COSTS:
            continue
        for one in own.of:
            for name in summary if one == "mean" else [one.partition("/")[0]]:
                found[name] = None
    return list(found) or list(names)


def confirmed(
    best: Sequence[Rows],
    recipe: Sequence[Rows],
    seen: Mapping[str, int],
    suites: Sequence[str],
    confidence: float,
) -> Confirmed | None:
    """Judge the difference; None where fewer than two trainings of each are finished, or no suite
    has rows of its own metric that were held back.

    Args:
        best: scores of the best trial's trainings.
        recipe: of the recipe's.
        seen: rows of each suite that the search has seen, from the first.
        suites: that count.
        confidence: of the intervals.
    """
    ours, theirs = _tables(best, seen, suites), _tables(recipe, seen, suites)
    both = [s for s in suites if s in ours and s in theirs]
    if min(len(best), len(recipe)) < 2 or not both:
        return None
    ours, theirs = {s: ours[s] for s in both}, {s: theirs[s] for s in both}
    gap = difference(ours, theirs, confidence=confidence)
    verdict = "better" if gap.low > 0 else "worse" if gap.high < 0 else "cannot tell"
    return Confirmed(
        verdict,
        _short(gap),
        _short(arm_mean(ours, confidence=confidence)),
        _short(arm_mean(theirs, confidence=confidence)),
        {s: _short(difference({s: ours[s]}, {s: theirs[s]}, confidence=confidence)) for s in both},
        min(len(best), len(recipe)),
        {s: len(ours[s][0]) for s in both},
    )


def _tables(
    runs: Sequence[Rows], seen: Mapping[str, int], suites: Sequence[str]
) -> dict[str, list[list[float]]]:
    found = {s: [list(run[s][seen[s] :]) for run in runs if s in run] for s in suites}
    return {s: t for s, t in found.items() if t and len(t) == len(runs) and t[0]}


def _short(estimate: Estimate) -> dict[str, Any]:
    kept = ("value", "low", "high", "confidence", "p", "detectable", "seeds", "rows")
    return {k: v for k, v in asdict(estimate).items() if k in kept}
