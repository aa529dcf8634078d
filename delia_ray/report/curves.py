"""Which plots the training and the synthesis get, and what stands under them."""

from collections.abc import Mapping, Sequence
from typing import Any

from delia_ray.report import plots

Row = Mapping[str, Any]

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
                some = [(p["step"], p[key]) for p in points if p.get(key) is not None]
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


def length_plot(lengths: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Distributions of the lengths of answers, of what the manifest of the synthesis says of
    each kind: a figure for each share, as ``"50 %": 120``; none where nothing was counted."""
    colours = {"kept": "var(--arm-1)", "cut off": "var(--arm-2)", "references": "var(--faint)"}
    kinds = [kind for kind in colours if kind in lengths]
    if not kinds:
        return []

    def paint(axes: Any, shown: list[str]) -> None:
        for kind, colour in zip(kinds, shown, strict=True):
            marks = [(int(k[:-2]), v) for k, v in lengths[kind].items() if k.endswith(" %")]
            shares, tokens = zip(*marks, strict=True)
            axes.plot(tokens, shares, color=colour, label=f"{kind} ({lengths[kind]['rows']:,})",
                      ls="--" if kind == "references" else "-", marker="o", ms=3)  # fmt: skip
        axes.set_xlabel("tokens")
        axes.set_ylabel("% that are no longer")
        plots.legend(axes)

    drawn = plots.drawing("lengths", "Lengths of the answers", [colours[k] for k in kinds], paint)
    return [drawn]
