"""What the template shows, from what the stages left; no Ray, no files."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from delia_ray.config import RunConfig, describe
from delia_ray.report import plots
from delia_ray.report.counts import CountTable, by_arm, count_tables, ingest_table, matrix
from delia_ray.report.samples import SuiteSamples, choose, clip, reworded, tally
from delia_ray.report.words import (
    clock,
    judge,
    label,
    number,
    opponents,
    signed,
    verdict,
)

HERE = Path(__file__).parent
REJECTS = 12
"""Rejected rows shown."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """Everything the page is made of."""

    config: RunConfig
    manifests: Mapping[str, Mapping[str, Any]]
    """By stage, in the pipeline's order."""
    scores: Mapping[str, Any]
    generations: Sequence[Row]
    curves: Mapping[str, Sequence[Row]]
    """METRIC_POINT rows by arm."""
    answers: Sequence[Row] = ()
    """``reason`` of each self-sampled answer."""
    rewordings: Sequence[Row] = ()
    timeline: Sequence[Row] = ()
    """Of the synthesis: seconds, rows and tokens so far."""
    downstream: Sequence[Row] = ()
    """The original rows, ``id`` and ``prompt``."""
    rejects: Sequence[Row] = ()


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


def render(found: Found) -> str:
    """The whole page as one HTML text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    env = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": number, "label": label, "clock": clock}
    script = (HERE / "script.js.jinja").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return env.get_template("page.html.jinja").render(
        **context(found),
        style=Markup((HERE / "style.css.jinja").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
    )


def context(found: Found) -> dict[str, Any]:
    """The template's variables."""
    from markupsafe import Markup

    config, scores, manifests = found.config, found.scores, found.manifests
    arms = list(scores["arms"])
    ours, theirs = opponents(scores)
    counts = {stage: manifest["counts"] for stage, manifest in manifests.items()}
    ingest = ingest_table(counts["ingest"])
    seconds = {stage: float(m["seconds"]) for stage, m in manifests.items()}
    return {
        "config": config,
        "arms": arms,
        "ours": ours,
        "theirs": theirs,
        "verdict": verdict(scores),
        "facts": facts(found),
        "lines": comparison(scores),
        "confidence": f"{scores['confidence']:.0%}",
        "resamples": scores["resamples"],
        "signatures": scores["signatures"],
        "plots": [(Markup(p), text) for p, text in training_plots(found.curves, arms)],
        "training": _tables(counts["finetune"]),
        "mix": mix_tables(counts["mix"]),
        "answers": tally(r["reason"] for r in found.answers),
        "wordings": tally(r["reason"] for r in found.rewordings if r["variant"]),
        "reworded": reworded(found.rewordings, found.downstream),
        "synthesis": count_tables(counts["synthesize"]),
        "speed": [Markup(p) for p in speed_plot(found.timeline)],
        "ingest": [ingest] if ingest else count_tables(counts["ingest"]),
        "rejects": [{**r, "excerpt": clip(r["excerpt"], 300)} for r in found.rejects[:REJECTS]],
        "rejects_total": len(found.rejects),
        "evaluation": _tables({k: v for k, v in counts["evaluate"].items() if k != "suites"}),
        "times": [
            {
                "stage": stage,
                "seconds": took,
                "share": 100 * took / max(1e-9, *seconds.values()),
                "summary": manifests[stage]["summary"],
            }
            for stage, took in seconds.items()
        ],
        "total_seconds": sum(seconds.values()),
        "suites": _samples(found, arms, ours, theirs),
        "recipe": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=88),
        "documented": [
            (key, clip(str(value), 160), text)
            for key, value, text in describe(config)
            if not isinstance(value, list | dict)
        ],
        "manifests": manifests,
        "versions": {k: v for m in manifests.values() for k, v in m.get("versions", {}).items()},
        "created": max(str(m["created"]) for m in manifests.values()),
    }


def comparison(scores: Mapping[str, Any]) -> list[Line]:
    """A line for each metric of each suite, the mean first: it is the verdict's."""
    arms = list(scores["arms"])
    ours, _ = opponents(scores)
    lines = []
    for suite, figures in scores["suites"].items():
        for metric in figures[arms[0]]:
            bound = scores["scales"].get(metric, 1.0)
            # Without a bound the marks run to the largest value in the line.
            scale = float(bound or max(2.0, *(figures[arm][metric]["high"] for arm in arms)))
            less = metric in scores.get("lower_is_better", ())
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
                        *(
                            round(min(100.0, max(0.0, 100 * x / scale)), 2)
                            for x in (value, low, high)
                        ),
                    )
                )
            gap = scores["differences"].get(suite, {}).get(ours, {}).get(metric)
            lines.append(
                Line(
                    suite if suite != "mean" else f"mean of {len(scores['mean_of'])}",
                    metric,
                    figures[arms[0]][metric]["n"],
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


CURVES = (
    ("loss", "Loss of each arm over all its rows", ("loss",), "loss per supervised token",
     "All rows of each arm. Thin: each step; thick: moving average."),
    ("kinds", "Loss on downstream rows (solid) and on diverse rows (dashed)",
     ("loss_downstream", "loss_diverse"), "loss per supervised token",
     "Downstream rows and diverse rows apart."),
    ("distance", "Distance of the special tokens' state to that of their description",
     ("token_distance",), "L2 distance of the last state",
     "How far a prompt with the special token leaves the model from where the same prompt with "
     "the token's description leaves it: the paper's state-space curve."),
    ("cosine", "Cosine of the gradients of downstream and diverse rows", ("gradient_cosine",),
     "cosine",
     "The angle between what downstream rows and diverse rows ask of the weights, on the same few "
     "rows all the time: the buffering effect."),
)  # fmt: skip
"""Name, title, columns of METRIC_POINT, vertical axis and caption of each training plot."""


def training_plots(
    curves: Mapping[str, Sequence[Row]], arms: Sequence[str]
) -> list[tuple[str, str]]:
    """(drawing, caption) of each of ``CURVES`` that has data."""
    drawings = []
    for name, title, keys, axis, caption in CURVES:
        series: list[plots.Series] = []
        for arm, points in curves.items():
            for key in keys:
                some = [(p["step"], p[key]) for p in points if p[key] is not None]
                if not some:
                    continue
                steps, values = zip(*some, strict=True)
                suffix = key.removeprefix("loss").replace("_", ", ", 1) if "loss" in key else ""
                colour = f"var(--arm-{arms.index(arm)})"
                series.append((arm + suffix, steps, values, colour, key == "loss_diverse"))
        if series:
            drawings.append((plots.loss_plot(name, title, series, y=axis), caption))
    return drawings


def speed_plot(timeline: Sequence[Row]) -> list[str]:
    """Generated tokens per second over the synthesis; none for a few batches."""
    seconds, rates, at, tokens = [], [], 0.0, 0
    for point in timeline:
        if point["seconds"] - at >= 0.5:  # batches arrive in bursts
            rates.append((point["tokens"] - tokens) / (point["seconds"] - at))
            at, tokens = point["seconds"], point["tokens"]
            seconds.append(at)
    if len(seconds) < 4:
        return []
    line = ("generated tokens per second", seconds, rates, "var(--arm-1)", False)
    title = "Speed of the synthesis"
    return [plots.loss_plot("speed", title, [line], "seconds of generating", "tokens per second")]


def facts(found: Found) -> list[tuple[str, str]]:
    """The run in one strip under its name."""
    config, mix = found.config, found.manifests["mix"]["counts"]
    sizes = found.manifests["evaluate"]["counts"].get("suites", {})
    steps = {str(len(points)) for points in found.curves.values()}
    return [
        ("base model", config.model),
        ("seed", str(config.seed)),
        ("diverse rows per downstream row", ", ".join(_ratios(config, mix))),
        ("optimizer steps of each arm", " / ".join(sorted(steps))),
        ("held out", f"{len(sizes)} suites, {sum(sizes.values()):,} prompts"),
    ]


def mix_tables(counts: Mapping[str, Any]) -> list[CountTable]:
    """One column for each arm; then for each arm what every source gave it."""
    arms = counts.get("arms", {})
    plain = {arm: {k: v for k, v in c.items() if k != "sources"} for arm, c in arms.items()}
    return [
        *_tables({**counts, "arms": plain}),
        *(matrix(c["sources"], f"sources of {arm}") for arm, c in arms.items() if "sources" in c),
    ]


def _ratios(config: RunConfig, mix: Mapping[str, Any]) -> list[str]:
    out = []
    for arm in config.arms:
        realised = mix.get("arms", {}).get(arm, {}).get("ratio_realised")
        asked = config.arm_ratio(arm)
        differs = realised is not None and abs(realised - asked) > 0.005 * max(1, asked)
        out.append(f"{arm} {asked:g}" + (f" (realised {realised:.3g})" if differs else ""))
    return out


def _samples(found: Found, arms: Sequence[str], ours: str, theirs: str) -> list[SuiteSamples]:
    return choose(found.generations, arms, ours, theirs)


def _tables(counts: Mapping[str, Any]) -> list[Any]:
    """Free counts; where there are arms, one column for each."""
    rest = {k: v for k, v in counts.items() if k != "arms"}
    arms = counts.get("arms")
    first = [by_arm(arms)] if isinstance(arms, Mapping) and arms else []
    return first + (count_tables(rest) if rest else [])
