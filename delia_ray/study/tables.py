"""Every figure of a study, in tables that sort."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray.report.words import label

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """What is shown, and what sorts it."""

    text: str
    value: str
    number: bool


@dataclass(frozen=True)
class FigureTable:
    """A column for each key of the rows."""

    id: str
    title: str
    header: list[str]
    rows: list[list[Cell]]


TITLES = {
    "by_ratio": "Scores by ratio",
    "baselines": "Baselines",
    "contrasts": "Contrasts",
    "distance": "State distance at the first and the last step",
    "retention": "Retention and adaptation",
    "forgotten": "Forgotten and learned",
    "probes": "Probes by layer",
}


def tables(study: Mapping[str, Any]) -> list[FigureTable]:
    """A table for each list of ``TITLES`` that holds something."""
    return [
        table(f"all-{key.replace('_', '-')}", title, study[key])
        for key, title in TITLES.items()
        if study.get(key)
    ]


def table(name: str, title: str, rows: Sequence[Row]) -> FigureTable:
    """Nested dicts become columns of their own; of a curve its first and last value are kept."""
    flat = [_flat(row) for row in rows]
    keys = list(dict.fromkeys(key for row in flat for key in row))
    return FigureTable(
        name, title, [label(k) for k in keys], [[cell(r.get(k), k) for k in keys] for r in flat]
    )


def cell(value: Any, key: str = "") -> Cell:
    """One figure or word; nothing, and what is not a number, is a dash."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            return Cell("–", "", True)
        text = probability(value) if key.split()[-1] == "p" else figure(value)
        return Cell(text, repr(value), True)
    text = "–" if value is None else label(str(value)) if key == "mode" else str(value)
    return Cell(text, "" if value is None else text, False)


def figure(value: float | None) -> str:
    """To two digits after the point below ten, to one below a hundred, else to none."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    size = abs(value)
    text = f"{value:,.{2 if size < 10 else 1 if size < 100 else 0}f}"
    return (text if text.strip("-0.,") else text.lstrip("-")).replace("-", "−")


def signed(value: float | None) -> str:
    """``figure`` with its sign."""
    text = figure(value)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.–") else text


def probability(value: float | None) -> str:
    """A p value to three digits, and not below what three digits can say."""
    if value is None or not math.isfinite(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _flat(row: Row, prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{prefix} {key}".strip()
        if isinstance(value, Mapping):
            out |= _flat(value, name)
        elif isinstance(value, list | tuple):
            if value:
                one = key.removesuffix("s")
                out |= {f"first {one}": value[0], f"last {one}": value[-1]}
        else:
            out[name] = value
    return out
