"""Drawings over the ratio of diverse to downstream rows, in the report page's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray.report.plots import SIZE, drawing, legend

RAMP = 8
"""Steps of the colour ramp in the page's style, ``--ramp-0`` to ``--ramp-7``."""

SMALL = (3.6, 2.4)


@dataclass(frozen=True)
class Point:
    """A value with its interval; ``low`` and ``high`` are the value where there is none."""

    ratio: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One line over the ratios."""

    label: str
    colour: str
    marker: str
    dashed: bool
    points: Sequence[Point]


@dataclass(frozen=True)
class Band:
    """A mean over seeds, and how far the seeds lie apart, at each step."""

    ratio: float
    steps: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Place:
    """A ratio's two scores: what it learned and what it kept."""

    adapt: Point
    retain: Point


def ramp(ratios: Sequence[float]) -> dict[float, str]:
    """A CSS colour for each ratio, in order: the first and the last step of the ramp are the
    smallest and the largest ratio."""
    known = sorted(set(ratios))
    last = max(1, len(known) - 1)
    return {r: f"var(--ramp-{round(i * (RAMP - 1) / last)})" for i, r in enumerate(known)}


def positions(ratios: Sequence[float]) -> dict[float, float]:
    """Where each ratio lies on an axis that is logarithmic (base 2) from the smallest positive
    ratio on, with 0 one unit before it."""
    known = sorted(set(ratios))
    smallest = min((r for r in known if r > 0), default=1)
    return {r: 1 + math.log2(r / smallest) if r > 0 else 0.0 for r in known}


def over_ratios(
    name: str,
    title: str,
    lines: Sequence[Line],
    y: str,
    limits: tuple[float, float],
    small: bool = False,
) -> str:
    """Values by ratio with their intervals; several lines stand slightly beside each other so
    that none hides another's interval.

    Args:
        name: as in ``drawing``.
        title: as in ``drawing``.
        lines: what to draw.
        y: label of the vertical axis.
        limits: of the vertical axis, the same for plots that stand side by side.
        small: for one of many.

    Returns:
        One ``<svg>`` element.
    """

    def paint(axes: Any, colours: list[str]) -> None:
        at = positions([p.ratio for line in lines for p in line.points])
        for i, (line, colour) in enumerate(zip(lines, colours, strict=True)):
            points = sorted(line.points, key=lambda p: p.ratio)
            shift = 0.09 * (i - (len(lines) - 1) / 2)
            axes.errorbar(
                [at[p.ratio] + shift for p in points],
                [p.value for p in points],
                yerr=_reach(points),
                color=colour,
                lw=2,
                elinewidth=1.2,
                capsize=2.5,
                marker=line.marker,
                ms=5,
                ls=(0, (4, 2)) if line.dashed else "-",
                label=line.label,
            )
        axes.set_xticks(list(at.values()), [f"{r:g}" for r in at])
        axes.set_ylim(*limits)
        axes.set_xlabel("diverse rows per downstream row")
        axes.set_ylabel(y)
        if len(lines) > 1:
            legend(axes)

    return drawing(name, title, [line.colour for line in lines], paint, SMALL if small else SIZE)


def over_steps(
    name: str, title: str, bands: Sequence[Band], y: str, limits: tuple[float, float]
) -> str:
    """Means over steps, coloured along the ramp, each in the band of its seeds.

    Args:
        name: as in ``drawing``.
        title: as in ``drawing``.
        bands: one for each ratio.
        y: label of the vertical axis.
        limits: of the vertical axis.

    Returns:
        One ``<svg>`` element.
    """
    bands = sorted(bands, key=lambda b: b.ratio)
    colours = ramp([b.ratio for b in bands])

    def paint(axes: Any, stand_ins: list[str]) -> None:
        for band, colour in zip(bands, stand_ins, strict=True):
            axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.14, lw=0)
            axes.plot(band.steps, band.mean, color=colour, lw=2, label=f"{band.ratio:g}×")
        axes.set_ylim(*limits)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(y)
        axes.margins(x=0.01)
        legend(axes, min(4, len(bands)))

    size = (SIZE[0], SIZE[1] + 0.2 * max(0, -(-len(bands) // 4) - 1))
    return drawing(name, title, [colours[b.ratio] for b in bands], paint, size)


def plane(
    name: str,
    title: str,
    places: Sequence[Place],
    limits: tuple[tuple[float, float], tuple[float, float]],
) -> str:
    """What was kept against what was learned: one cross for each ratio, up and right is better.

    Args:
        name: as in ``drawing``.
        title: as in ``drawing``.
        places: one for each ratio; a thin line leads from the smallest ratio to the largest.
        limits: of the horizontal and of the vertical axis.

    Returns:
        One ``<svg>`` element.
    """
    places = sorted(places, key=lambda p: p.adapt.ratio)
    colours = ramp([p.adapt.ratio for p in places])

    def paint(axes: Any, stand_ins: list[str]) -> None:
        axes.plot(
            [p.adapt.value for p in places],
            [p.retain.value for p in places],
            color=stand_ins[-1],
            lw=0.8,
            alpha=0.6,
        )
        for place, colour in zip(places, stand_ins, strict=False):
            axes.errorbar(
                [place.adapt.value],
                [place.retain.value],
                xerr=_reach([place.adapt]),
                yerr=_reach([place.retain]),
                color=colour,
                elinewidth=1.2,
                marker="o",
                ms=6,
            )
            axes.annotate(
                f"{place.adapt.ratio:g}×",
                (place.adapt.value, place.retain.value),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=9,
            )
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
        axes.set_xlabel("adaptation: score on the new task")
        axes.set_ylabel("retention: what it could before")
        axes.grid(axis="x", lw=0.5, alpha=0.35)

    drawn = [*(colours[p.adapt.ratio] for p in places), "var(--faint)"]
    return drawing(name, title, drawn, paint)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Of an axis from 0, to 1 for shares, else a little above the largest value."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low >= 0 and high <= 1:
        return (-0.02, 1.02)
    return (min(0.0, 1.05 * low), 1.05 * max(high, 0.0) or 1.0)


def close_limits(values: Sequence[float]) -> tuple[float, float]:
    """Of an axis that shows differences: the values and a margin, room for a label above."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) or 0.1
    return (low - 0.08 * room, high + 0.16 * room)


def _reach(points: Sequence[Point]) -> list[list[float]]:
    return [
        [max(0.0, p.value - p.low) for p in points],
        [max(0.0, p.high - p.value) for p in points],
    ]
