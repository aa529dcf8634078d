"""The comparison as rows of text, for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(
    scores: Mapping[str, Any], arms: Sequence[str], every_metric: bool = False
) -> list[list[str]]:
    """Header and one row per suite: suite, metric, then ``0.98 [0.94, 1.00]`` for each arm.

    Args:
        scores: the content of ``scores.json``.
        arms: the columns, in this order; a dash where one was not asked.
        every_metric: also a row for each metric beside the suite's main one.
    """
    rows = [["suite", "metric", *arms]]
    for suite, by_arm in scores["suites"].items():
        asked = [arm for arm in arms if arm in by_arm]
        if not asked:
            continue
        names = list(by_arm[asked[0]]) if every_metric else [scores["main"][suite]]
        for place, metric in enumerate(names):
            scale = scores["scales"].get(metric, 1.0)
            cells = [cell(by_arm[arm][metric], scale) if arm in by_arm else "–" for arm in arms]
            less = " (less is better)" if metric in scores.get("lower_is_better", ()) else ""
            rows.append([suite if place == 0 else "", metric + less, *cells])
    return rows


def cell(figures: Mapping[str, float], scale: float | None) -> str:
    """Value and interval: two decimals on the scale 0 to 1, one on 0 to 100 or without bound."""
    digits = 2 if scale == 1 else 1
    value, low, high = (f"{figures[k]:.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
