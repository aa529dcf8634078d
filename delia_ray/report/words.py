"""Figures in words: how a number is written, and what a difference allows one to say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Scores = Mapping[str, Any]
"""The content of evaluate's ``scores.json``."""


@dataclass(frozen=True)
class Verdict:
    """What the run says about the arm under test, first thing on the page."""

    headline: str
    tone: str
    """better, worse or open."""
    detail: str
    caveat: str
    by_suite: dict[str, list[str]]
    """better, worse, open -> names of suites."""


NOTHING_HELD_OUT = Verdict(
    "Nothing was held out",
    "open",
    "evaluate.suites names no rows, so no model was asked anything and none can be called better "
    "than another. This page shows training, mix, synthesis, and samples of what was trained on.",
    "With rows that training does not see under evaluate.suites, the same command evaluates and "
    "trains nothing anew.",
    {"better": [], "worse": [], "open": []},
)
"""Of a run without suites."""


def opponents(scores: Scores) -> tuple[str, str]:
    """(the arm under test, what it is compared with)."""
    arms: list[str] = list(scores["arms"])
    theirs: str = scores["baseline"]
    candidates = [a for a in arms if a not in ("base", theirs)]
    if "delia" in candidates:
        return "delia", theirs
    if candidates:
        return candidates[-1], theirs
    return theirs, "base"  # one trained arm only: what did training change?


def judge(difference: Mapping[str, float], lower_is_better: bool = False) -> str:
    """better or worse where the interval excludes zero, else open."""
    if difference["low"] > 0:
        return "worse" if lower_is_better else "better"
    if difference["high"] < 0:
        return "better" if lower_is_better else "worse"
    return "open"


def verdict(scores: Scores) -> Verdict:
    """The careful sentence: a difference counts when its interval excludes zero."""
    if not scores["suites"]:
        return NOTHING_HELD_OUT
    ours, theirs = opponents(scores)
    gaps = {
        suite: by_arm[ours][scores["main"][suite]]
        for suite, by_arm in scores["differences"].items()
        if ours in by_arm
    }
    by_suite: dict[str, list[str]] = {"better": [], "worse": [], "open": []}
    for suite, gap in gaps.items():
        if suite != "mean":
            less = scores["main"][suite] in scores.get("lower_is_better", ())
            by_suite[judge(gap, less)].append(suite)
    caveat = (
        f"Intervals are {scores['confidence']:.0%} bootstrap intervals over the prompts. They "
        "say how much the choice of prompts matters; how much the training seed matters, only "
        "runs with other seeds can say."
    )
    if "mean" not in gaps:
        return Verdict(
            f"{ours} beside {theirs}" if gaps else "No paired comparison in this run",
            "open",
            f"No suites are averaged (evaluate.summary), so each suite speaks for itself: {ours} "
            f"is better than {theirs} on {_list(by_suite['better'])}, worse on "
            f"{_list(by_suite['worse'])}, not told apart on {_list(by_suite['open'])}."
            if gaps
            else "There is no second trained model to compare with; the table shows each model's "
            "own interval.",
            caveat,
            by_suite,
        )
    gap, tone = gaps["mean"], judge(gaps["mean"])
    metric = scores["main"]["mean"]
    mine, other = (scores["suites"]["mean"][arm][metric]["value"] for arm in (ours, theirs))
    headline = {
        "better": f"{ours} does better than {theirs}",
        "worse": f"{ours} does worse than {theirs}",
        "open": f"{ours} and {theirs} cannot be told apart",
    }[tone]
    meaning = {
        "better": "The interval excludes zero: the choice of prompts does not explain it.",
        "worse": "The interval excludes zero: the choice of prompts does not explain it.",
        "open": "The interval includes zero: these prompts do not settle which is better.",
    }[tone]
    suites = scores["mean_of"]
    over = f"the mean of {len(suites)} suites" if len(suites) > 1 else suites[0]
    return Verdict(
        headline,
        tone,
        f"On {over}, {ours} reaches {mine:.2f} and {theirs} {other:.2f}. The paired difference "
        f"is {signed(gap['value'])}, {scores['confidence']:.0%} interval "
        f"[{signed(gap['low'])}, {signed(gap['high'])}]. {meaning}",
        caveat,
        by_suite,
    )


def signed(value: float, scale: float = 1.0) -> str:
    """With its sign, a real minus, and no negative zero: ``+0.13``."""
    text = f"{value:+.{1 if scale > 1 else 2}f}"
    if not text.strip("+-0."):
        return text[1:]
    return text.replace("-", "−")


def number(value: Any) -> str:
    """A count or a figure as people write it: ``4,096``, ``0.987``, ``yes``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:,.4g}"
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(number(v) for v in value) or "none"
    return str(value)


def clock(seconds: float) -> str:
    """``0:03``, ``2:10``, ``1:02:45``; below ten seconds ``3.2 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def label(key: str) -> str:
    """A JSON key as words."""
    return key.replace("_", " ")


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
