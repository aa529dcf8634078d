"""Curves as inline SVG that takes the page's fonts and colours."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Series = tuple[str, Sequence[float], Sequence[float], str, bool]
"""Name, steps, values, CSS colour, dashed."""

POINTS = 1200
"""Points drawn of a raw curve; longer ones are averaged in bins, so that the page of a run
of many thousand steps stays small."""

SIZE = (4.8, 3.1)
"""Inches. So small that the text of a plot 360 CSS pixels wide, as on a phone, is still more
than 10 pixels high."""

_INK, _FAINT = "#010203", "#010204"


def drawing(
    name: str,
    title: str,
    colours: Sequence[str],
    paint: Callable[[Any, list[str]], None],
    size: tuple[float, float] = SIZE,
) -> str:
    """One set of axes in the page's style.

    Args:
        name: makes the ids inside the drawing differ from those of the page's other plots.
        title: what a screen reader says.
        colours: CSS colours, custom properties among them.
        paint: gets the axes and a colour for each of ``colours`` that it may give to
            matplotlib; the drawing has the CSS colour in its place.
        size: width and height in inches.

    Returns:
        One ``<svg>`` element without ids, links or fonts from elsewhere; the same bytes for
        the same figures.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    stand_ins = {f"#0102{16 + i:02x}": colour for i, colour in enumerate(colours)}
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # a name may hold a dollar sign
        "text.color": _INK,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK,
        "xtick.color": _FAINT,
        "ytick.color": _FAINT,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "grid.color": _FAINT,
        "font.size": 10,
    }
    with matplotlib.rc_context(style):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        try:
            axes.grid(axis="y", lw=0.5, alpha=0.35)
            axes.spines[["top", "right"]].set_visible(False)
            paint(axes, list(stand_ins))
            sink = io.StringIO()
            nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(sink, format="svg", transparent=True, metadata=nothing)
        finally:
            plt.close(figure)
    return _inline(
        sink.getvalue(), title, {_INK: "var(--ink)", _FAINT: "var(--faint)", **stand_ins}
    )


def legend_columns(labels: Sequence[str]) -> int:
    """As many as fit above axes of the usual width, four at most."""
    longest = max((len(label) for label in labels), default=0)
    return max(1, min(4, len(labels), 60 // (longest + 7)))


def legend(axes: Any, columns: int | None = None) -> None:
    """The names of what is drawn, in a row or rows above the axes."""
    labels = axes.get_legend_handles_labels()[1]
    columns = columns or legend_columns(labels)
    rows = -(-len(labels) // columns) if labels else 0
    if rows:
        axes.legend(
            frameon=False,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=columns,
            fontsize=10 if rows < 3 else 9,
        )


def loss_plot(
    name: str,
    title: str,
    series: Sequence[Series],
    x: str = "optimizer step",
    y: str = "loss per supervised token",
) -> str:
    """Raw values (thin) under their moving average (thick), one colour for each series.

    Args:
        name: as in ``drawing``.
        title: as in ``drawing``.
        series: what to draw; empty ones are left out.
        x: label of the horizontal axis.
        y: label of the vertical axis.

    Returns:
        The drawing.
    """

    def paint(axes: Any, colours: list[str]) -> None:
        for (label, steps, values, _, dashed), colour in zip(series, colours, strict=True):
            steps, values = thin(steps, values)
            kind = (0, (4, 2)) if dashed else "-"
            if len(values) >= 30:  # of fewer an average would hide where they begin
                axes.plot(steps, values, color=colour, lw=0.8, alpha=0.22)
                values = smooth(values)
            axes.plot(steps, values, color=colour, lw=2, ls=kind, label=label)
        drawn = [v for s in series for v in s[2]]
        if drawn and min(drawn) > 0 and max(drawn) / min(drawn) > 30:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(lambda value, _: "")
        elif not drawn or min(drawn) >= 0:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.margins(x=0.01)
        legend(axes)

    rows = -(-len(series) // legend_columns([s[0] for s in series])) if series else 0
    size = (SIZE[0], SIZE[1] + 0.2 * max(0, rows - 1))  # a long legend takes room of its own
    return drawing(name, title, [s[3] for s in series], paint, size)


def smooth(values: Sequence[float]) -> list[float]:
    """Centred moving average over a twentieth of the curve, shorter at its ends."""
    half = max(1, len(values) // 40)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    out = []
    for i in range(len(values)):
        low, high = max(0, i - half), min(len(values), i + half + 1)
        out.append((sums[high] - sums[low]) / (high - low))
    return out


def thin(steps: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most ``POINTS`` points: means of equal bins."""
    size = -(-len(values) // POINTS) or 1
    bins = range(0, len(values), size)
    return (
        [_mean(steps[i : i + size]) for i in bins],
        [_mean(values[i : i + size]) for i in bins],
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _inline(svg: str, title: str, colours: Mapping[str, str]) -> str:
    """Only the ``<svg>`` element, fit to stand inside a page."""
    from markupsafe import escape

    svg = svg[svg.index("<svg") :]
    before, _, behind = svg.partition("<metadata>")
    svg = before + behind.partition("</metadata>")[2] if behind else svg
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # figure_1, axes_1: the same in every plot
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    for stand_in, colour in colours.items():
        svg = svg.replace(stand_in, colour)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
