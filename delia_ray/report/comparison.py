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
    cells: list[Cell]
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
        for metric in figures[arms[0]]:
            scale = float(scores["scales"].get(metric, 1.0))
            digits = 1 if scale > 1 else 2
            cells = []
            for place, arm in enumerate(arms):
                f = figures[arm][metric]
                value, low, high = (f[k] for k in ("value", "low", "high"))
                cells.append(
                    Cell(
                        place,
                        f"{value:.{digits}f}",
                        f"{low:.{digits}f} – {high:.{digits}f}",
                        *(round(100 * x / scale, 2) for x in (value, low, high)),
                    )
                )
            gap = scores["differences"].get(suite, {}).get(ours, {}).get(metric)
            lines.append(
                Line(
                    suite if suite != "mean" else f"mean of {len(scores['mean_of'])}",
                    metric,
                    figures[arms[0]][metric]["n"],
                    "0 to 100" if scale > 1 else "0 to 1",
                    cells,
                    gap
                    and Difference(
                        signed(gap["value"], scale),
                        f"{signed(gap['low'], scale)} to {signed(gap['high'], scale)}",
                        judge(gap),
                    ),
                    main=metric == scores["main"][suite],
                    kind="mean" if suite == "mean" else "suite",
                )
            )
    return sorted(lines, key=lambda line: line.kind != "mean")
