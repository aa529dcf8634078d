"""Which plots a study of the claims gets, and what stands under each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from delia_ray.report.words import label
from delia_ray.study import plots
from delia_ray.study.plots import Band, Line, Place, Point

Row = Mapping[str, Any]
Study = Mapping[str, Any]

MODES = {
    "equal_steps": ("var(--arm-1)", "o", False),
    "equal_exposure": ("var(--arm-2)", "s", True),
}
"""Colour, marker and dash of the two ways in which ratios are compared."""


@dataclass(frozen=True)
class Section:
    """Plots that belong together; the small ones are one for each suite."""

    id: str
    title: str
    words: str
    plots: list[tuple[str, str]] = field(default_factory=list)
    """(drawing, caption)."""
    small: list[tuple[str, str]] = field(default_factory=list)


def sections(study: Study) -> list[Section]:
    """Those for which the study has figures."""
    made = [distance(study), *by_task(study), retention(study)]
    return [s for s in made if s.plots or s.small]


def distance(study: Study) -> Section:
    """Distance of the state after the token to the state after its description, over steps."""
    groups = _by_mode(study.get("distance") or [])
    bands = {mode: _bands(rows) for mode, rows in groups.items()}
    within = plots.limits([v for found in bands.values() for b in found for v in b.high])
    made = [
        (
            plots.over_steps(
                f"distance-{mode}",
                f"State distance over steps, {label(mode)}",
                found,
                "L2 distance of the states",
                within,
            ),
            f"{_begin(mode)}. Line: mean over {_seeds(r['seed'] for r in groups[mode])}; band: "
            "from the lowest to the highest seed. Lower is nearer to the meaning of the "
            "description.",
        )
        for mode, found in bands.items()
    ]
    words = (
        "How far a prompt with the special token leaves the model from where the same prompt with "
        "the token's description leaves it. The paper: the more diverse rows, the nearer."
    )
    return Section("distance", "State distance over training", words, made)


TASKS = {
    "format": "What the new token stands for is taken up: accuracy of the answers by ratio.",
    "translation": "Translation of an invented language by ratio: new knowledge, not a new format.",
}


def by_task(study: Study) -> list[Section]:
    """For each task and metric, the mean of its suites in each mode, then every suite."""
    keys = dict.fromkeys((r["task"], r["metric"]) for r in study.get("by_ratio") or [])
    several = len({metric for _, metric in keys}) > len({task for task, _ in keys})
    return [_task(study, task, metric, several) for task, metric in keys]


def _task(study: Study, task: str, metric: str, several: bool) -> Section:
    rows = [r for r in study["by_ratio"] if (r["task"], r["metric"]) == (task, metric)]
    within = plots.limits(
        [r[k] for r in rows for k in ("value", "low", "high") if r[k] is not None]
    )
    sizes = study["design"].get("tasks", {}).get(task, {}).get("suites", {})
    intervals = _intervals(study)
    axis, slug = label(metric), f"{task}-{metric}".replace(" ", "-")
    made, small = [], []
    for mode, found in _by_mode([r for r in rows if r["suite"] == "mean"]).items():
        title = f"{label(task)}, mean {axis} by ratio, {label(mode)}"
        drawn = plots.over_ratios(f"{slug}-{mode}", title, [_line(mode, found)], axis, within)
        caption = (
            f"{_begin(mode)}: mean of {_suites(sizes)}, {_most(found)} at each ratio. {intervals}"
        )
        made.append((drawn, caption))
    for suite in dict.fromkeys(r["suite"] for r in rows if r["suite"] != "mean"):
        here = [r for r in rows if r["suite"] == suite]
        lines = [_line(mode, found) for mode, found in _by_mode(here).items()]
        drawn = plots.over_ratios(
            f"{slug}-{suite}", f"{suite}, {axis} by ratio", lines, axis, within, small=True
        )
        n = f"{sizes[suite]:,} prompts, " if suite in sizes else ""
        small.append((drawn, f"{suite}: {n}{_most(here)} at each ratio."))
    title = f"{label(task).capitalize()} by ratio" + (f": {axis}" if several else "")
    words = f"{TASKS.get(task, '')} {'' if made else intervals}".strip()
    return Section(f"ratio-{slug}", title, words, made, small)


def retention(study: Study) -> Section:
    """What was kept against what was learned, a plot for each mode."""
    groups = _by_mode(study.get("retention") or [])
    places = {
        mode: [
            Place(
                Point(r["ratio"], r["adapt"], *_ends(r, "adapt", "adapt_")),
                Point(r["ratio"], r["retain"], *_ends(r, "retain", "retain_")),
            )
            for r in rows
            if r["adapt"] is not None and r["retain"] is not None
        ]
        for mode, rows in groups.items()
    }
    every = [p for found in places.values() for p in found]
    within = (
        plots.close_limits([v for p in every for v in (p.adapt.low, p.adapt.high)]),
        plots.close_limits([v for p in every for v in (p.retain.low, p.retain.high)]),
    )
    seeds = study["design"].get("seeds")
    made = [
        (
            plots.plane(
                f"retention-{mode}",
                f"Retention against adaptation, {label(mode)}",
                found,
                within,
            ),
            f"{_begin(mode)}: a mark for each ratio{f', n = {seeds} seeds each' if seeds else ''}. "
            f"Up and right is better. {_intervals(study)} The axes do not begin at 0.",
        )
        for mode, found in places.items()
        if found
    ]
    words = "What a model learns of the new task, and how much of what it could before it keeps."
    return Section("retention", "Retention against adaptation", words, made)


def _bands(rows: Sequence[Row]) -> list[Band]:
    out = []
    for ratio in sorted({r["ratio"] for r in rows}):
        at: dict[float, list[float]] = {}
        for row in rows:
            if row["ratio"] == ratio:
                for step, value in zip(row["steps"], row["values"], strict=True):
                    if value is not None:
                        at.setdefault(step, []).append(value)
        steps = sorted(at)
        values = [at[s] for s in steps]
        mean = [sum(v) / len(v) for v in values]
        out.append(Band(ratio, steps, mean, [min(v) for v in values], [max(v) for v in values]))
    return out


def _line(mode: str, rows: Sequence[Row]) -> Line:
    colour, marker, dashed = MODES.get(mode, ("var(--arm-3)", "^", False))
    points = [Point(r["ratio"], r["value"], *_ends(r)) for r in rows if r["value"] is not None]
    return Line(label(mode), colour, marker, dashed, points)


def _ends(row: Row, value: str = "value", prefix: str = "") -> tuple[float, float]:
    low, high = row.get(f"{prefix}low"), row.get(f"{prefix}high")
    return (row[value] if low is None else low, row[value] if high is None else high)


def _by_mode(rows: Sequence[Row]) -> dict[str, list[Row]]:
    known = [m for m in MODES if any(r["mode"] == m for r in rows)]
    modes = dict.fromkeys([*known, *(r["mode"] for r in rows)])
    return {mode: [r for r in rows if r["mode"] == mode] for mode in modes}


def _begin(mode: str) -> str:
    return label(mode).capitalize()


def _seeds(seeds: Iterable[Any]) -> str:
    n = len(set(seeds))
    return f"{n} seed{'' if n == 1 else 's'}"


def _suites(sizes: Mapping[str, int]) -> str:
    return f"{len(sizes)} suites ({sum(sizes.values()):,} prompts)" if sizes else "the suites"


def _most(rows: Sequence[Row]) -> str:
    n = [int(r["seeds"]) for r in rows if r.get("seeds") is not None]
    if not n:
        return "seeds not stated"
    low, high = min(n), max(n)
    return f"n = {low if low == high else f'{low} to {high}'} seed{'' if high == 1 else 's'}"


def _intervals(study: Study) -> str:
    confidence = study["design"].get("confidence")
    return f"Bars: {f'{confidence:.0%} ' if confidence else ''}intervals."
