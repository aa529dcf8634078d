"""The comparison: a line for each metric of each suite, a cell for each arm."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from delia_ray.report.words import judge, opponents, signed


@dataclass(frozen=True)
class Cell:
    """A value with its interval, as text and as percentages of the scale."""

    arm: int
    value: str
    interval: str
    at: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The arm under test minus its opponent."""

    value: str
    interval: str
    tone: str


@dataclass(frozen=True)
class Line:
    """One row of the comparison."""

    suite: str
    metric: str
    n: int
    scale: str
    cells: list[Cell | None]
    """None where an arm was not asked."""
    difference: Difference | None
    main: bool = True
    kind: str = field(default="suite")
    """suite, or mean."""


def comparison(scores: Mapping[str, Any]) -> list[Line]:
    """A line for each metric of each suite, the mean first: it is the verdict's."""
    arms = list(scores["arms"])
    ours, _ = opponents(scores)
    lines = []
    for suite, figures in scores["suites"].items():
        asked = {arm: figures[arm] for arm in arms if arm in figures}
        if not asked:
            continue
        for metric, first in next(iter(asked.values())).items():
            bound = scores["scales"].get(metric, 1.0)
            # Without a bound the marks run to the largest value in the line.
            scale = float(bound or max(2.0, *(own[metric]["high"] for own in asked.values())))
            less = metric in scores.get("lower_is_better", ())
            cells = [
                _cell(place, asked[arm][metric], scale) if arm in asked else None
                for place, arm in enumerate(arms)
            ]
            gap = scores["differences"].get(suite, {}).get(ours, {}).get(metric)
            lines.append(
                Line(
                    suite if suite != "mean" else f"mean of {len(scores['mean_of'])}",
                    metric,
                    first["n"],
                    (f"0 to {bound:g}" if bound else "no bound")
                    + (", less is better" if less else ""),
                    cells,
                    gap
                    and Difference(
                        signed(gap["value"], scale),
                        f"{signed(gap['low'], scale)} to {signed(gap['high'], scale)}",
                        judge(gap, less),
                    ),
                    main=metric == scores["main"][suite],
                    kind="mean" if suite == "mean" else "suite",
                )
            )
    return sorted(lines, key=lambda line: line.kind != "mean")


def _cell(place: int, figures: Mapping[str, float], scale: float) -> Cell:
    digits = 1 if scale > 1 else 2
    value, low, high = (figures[k] for k in ("value", "low", "high"))
    at = (round(min(100.0, max(0.0, 100 * x / scale)), 2) for x in (value, low, high))
    return Cell(place, f"{value:.{digits}f}", f"{low:.{digits}f} – {high:.{digits}f}", *at)
