"""Drawings of a sweep, in the report page's style."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from delia_ray.report.plots import drawing

RAMP = 8
"""Steps of the colour ramp in the page's style, from the worst trial to the best."""
_WIDE = (9.6, 3.6)

Trial = Mapping[str, Any]


def colours(scores: Sequence[float]) -> list[str]:
    """A colour of the ramp for each score, by rank: the best gets its last step."""
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    last = max(1, len(scores) - 1)
    found = [""] * len(scores)
    for rank, i in enumerate(order):
        found[i] = f"var(--ramp-{round(rank * (RAMP - 1) / last)})"
    return found


def heights(values: Sequence[Any], logarithmic: bool) -> tuple[list[float | None], list[Any]]:
    """Where each value stands on an axis from 0 to 1, and the ticks (height, text) of the axis.

    Numbers by their size (from the smallest positive on by their logarithm, where the axis is
    logarithmic), anything else evenly spaced; None stays None.
    """
    known = [v for v in values if v is not None]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
    if not known:
        return [None] * len(values), []
    if not numbers:
        names = list(dict.fromkeys(json.dumps(v, default=str) for v in known))
        at = {n: (i + 0.5) / len(names) for i, n in enumerate(names)}
        places = [None if v is None else at[json.dumps(v, default=str)] for v in values]
        return places, [(at[n], _short(json.loads(n))) for n in names]
    scaled = [_scaled(v, logarithmic, known) for v in known]
    low, high = min(scaled), max(scaled)
    width = (high - low) or 1.0

    def height(value: Any) -> float:
        return (_scaled(value, logarithmic, known) - low) / width

    places = [None if v is None else height(v) for v in values]
    shown = sorted(set(known))
    if len(shown) > 9:
        shown = [shown[round(i * (len(shown) - 1) / 4)] for i in range(5)]
    return places, [(height(v), _short(v)) for v in shown]


def parallel(trials: Sequence[Trial], names: Sequence[str], logarithmic: Sequence[str]) -> str:
    """A line for each finished trial through its values, coloured by its score."""
    shades = colours([t["score"] for t in trials])
    axes_of = [heights([t["parameters"].get(n) for t in trials], n in logarithmic) for n in names]
    axes_of.append(heights([t["score"] for t in trials], False))
    order = sorted(range(len(trials)), key=lambda i: trials[i]["score"])
    ramp = [f"var(--ramp-{i})" for i in range(RAMP)]

    def paint(axes: Any, stand_ins: list[str]) -> None:
        for i in order:
            line = [
                (x, places[i]) for x, (places, _) in enumerate(axes_of) if places[i] is not None
            ]
            colour = stand_ins[ramp.index(shades[i])]
            xs, ys = [p[0] for p in line], [p[1] for p in line]
            axes.plot(xs, ys, color=colour, lw=1.4, alpha=0.85, marker="o", ms=3)
        for x, (_, ticks) in enumerate(axes_of):
            axes.axvline(x, color="#010204", lw=0.8)
            for y, text in _apart(ticks):
                axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points",
                              va="center", fontsize=10)  # fmt: skip
        axes.set_xticks(range(len(axes_of)), [*(_name(n) for n in names), "score"])
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xlim(-0.1, len(axes_of) - 0.55)

    title = "Parallel coordinates: each line is a trial, darker (or lighter) towards better scores"
    return drawing("parallel", title, ramp, paint, _WIDE)


def by_dimension(name: str, trials: Sequence[Trial], logarithmic: bool) -> str:
    """The scores over one dimension, with the interval that their prompts give."""
    own = [t for t in trials if name in t["parameters"]]
    places, ticks = heights([t["parameters"][name] for t in own], logarithmic)

    def paint(axes: Any, stand_ins: list[str]) -> None:
        reach = [
            [t["score"] - t["low"] for t in own],
            [t["high"] - t["score"] for t in own],
        ]
        axes.errorbar(
            places, [t["score"] for t in own], yerr=reach, color=stand_ins[0], ls="", marker="o",
            ms=4, elinewidth=0.9, alpha=0.8,
        )  # fmt: skip
        shown = _apart(ticks, 0.09)
        axes.set_xticks([t[0] for t in shown], [t[1] for t in shown])
        axes.set_xlim(-0.07, 1.07)
        axes.set_xlabel(name)
        axes.set_ylabel("score")

    return drawing(f"by-{name}", f"Score by {name}", ["var(--ramp-3)"], paint)


def curves(
    name: str, title: str, lines: Sequence[tuple[float, Sequence[Sequence[float]]]], y: str,
    logarithmic: bool = False,
) -> str:  # fmt: skip
    """A line for each trial, (its score, points), coloured by the score."""
    shades = colours([score for score, _ in lines])
    ramp = [f"var(--ramp-{i})" for i in range(RAMP)]

    def paint(axes: Any, stand_ins: list[str]) -> None:
        for (_, points), shade in sorted(
            zip(lines, shades, strict=True), key=lambda pair: pair[0][0]
        ):
            axes.plot(
                [p[0] for p in points], [p[1] for p in points],
                color=stand_ins[ramp.index(shade)], lw=1.3, alpha=0.85,
                marker="o" if len(points) < 12 else "", ms=3,
            )  # fmt: skip
        if logarithmic and all(p[1] > 0 for _, points in lines for p in points):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(y)

    return drawing(name, title, ramp, paint)


def plane(first: str, second: str, points: Sequence[tuple[float, float, str, bool]]) -> str:
    """Two objectives: a mark for each trial (x, y, its name, whether it is on the front)."""

    def paint(axes: Any, stand_ins: list[str]) -> None:
        others = [p for p in points if not p[3]]
        ahead = sorted(p for p in points if p[3])
        axes.plot([p[0] for p in others], [p[1] for p in others], ls="", marker="o", ms=4,
                  color=stand_ins[0], alpha=0.5, label="beaten by another")  # fmt: skip
        axes.plot([p[0] for p in ahead], [p[1] for p in ahead], ls=(0, (3, 2)), lw=1, marker="o",
                  ms=6, color=stand_ins[1], label="on the front")  # fmt: skip
        for x, y, text, _ in ahead:
            axes.annotate(text, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=10)
        axes.set_xlabel(first)
        axes.set_ylabel(second)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    title = f"{second} against {first}, by trial"
    return drawing(f"plane-{first}-{second}", title, ["var(--faint)", "var(--ramp-3)"], paint)


def fitted(
    curve: Sequence[Mapping[str, float]], trials: Sequence[tuple[float, float]], x: str, key: str,
    recommended: float | None,
) -> str:  # fmt: skip
    """The expected score over the ratio (``key`` ratio) or a cost, in its band."""
    places = [_place(key, c[key]) for c in curve]

    def paint(axes: Any, stand_ins: list[str]) -> None:
        low, high = [c["low"] for c in curve], [c["high"] for c in curve]
        axes.fill_between(places, low, high, color=stand_ins[0], alpha=0.16, lw=0)
        axes.plot(places, [c["value"] for c in curve], color=stand_ins[0], lw=2)
        axes.plot([_place(key, t[0]) for t in trials], [t[1] for t in trials], ls="", marker="o",
                  ms=4, color=stand_ins[1], alpha=0.8)  # fmt: skip
        if recommended is not None:
            axes.axvline(_place(key, recommended), color=stand_ins[1], lw=1, ls=(0, (4, 2)))
        if key == "ratio":
            shown = [c[key] for c in curve]
            ticks = [(p, f"{v:g}") for p, v in zip(places, shown, strict=True)]
            width = (places[-1] - places[0]) or 1.0
            kept = _apart([((p - places[0]) / width, text) for p, text in ticks], 0.09)
            axes.set_xticks([places[0] + at * width for at, _ in kept], [t for _, t in kept])
        axes.set_xlabel(x)
        axes.set_ylabel("expected score")

    return drawing(f"fit-{key}", f"Expected score over {x}", ["var(--ramp-3)", "var(--ink)"], paint)


def _place(key: str, value: float) -> float:
    return math.log2(1 + value) if key == "ratio" else value


def _scaled(value: Any, logarithmic: bool, known: Sequence[Any]) -> float:
    if not logarithmic:
        return float(value)
    smallest = min((float(v) for v in known if v > 0), default=1.0)
    # 0 stands one doubling before the smallest.
    return math.log2(float(value) / smallest) if value > 0 else -1.0


def _apart(ticks: Sequence[tuple[float, str]], least: float = 0.06) -> list[tuple[float, str]]:
    """Ticks that do not run into each other; the last one always stays."""
    kept: list[tuple[float, str]] = []
    for at, text in sorted(ticks):
        if kept and at - kept[-1][0] < least:
            if at == max(t[0] for t in ticks):
                kept[-1] = (at, text)
            continue
        kept.append((at, text))
    return kept


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 18 else f"{text[:17]}…"


def _name(dotted: str) -> str:
    return dotted if len(dotted) <= 20 else dotted.rsplit(".", 1)[-1]
