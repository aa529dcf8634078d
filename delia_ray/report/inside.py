"""What evaluation saw beside the scores: phrasings, what was kept, the states inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray.report.counts import CountTable
from delia_ray.report.samples import clip

Row = Mapping[str, Any]
FORGOTTEN = 12
"""Forgotten rows shown of each arm."""


@dataclass(frozen=True)
class Forgotten:
    """Rows that the base has right and an arm wrong."""

    arm: str
    total: int
    rows: list[dict[str, str]]
    """suite, index, prompt, before, after: the first ``FORGOTTEN``."""


def robustness_tables(scores: Row) -> list[CountTable]:
    """A table for each suite that was asked in several phrasings; a row for each arm."""
    tables = []
    for suite, arms in scores.get("robustness", {}).items():
        header = ["", "as written", "mean", "worst case", "worst phrasing", "spread",
                  "spread by chance", "same under all"]  # fmt: skip
        rows = [
            [arm, *(_cell(found[k]) for k in ("original", "mean", "worst_case", "worst_phrasing")),
             _cell(found["spread"]), f"{found['spread_by_chance']:.2f}",
             _cell(found["consistency"])]
            for arm, found in arms.items() if found
        ]  # fmt: skip
        if rows:
            tables.append(CountTable(suite, header, rows))
    return tables


def retention_tables(scores: Row) -> list[CountTable]:
    """Losses on held-out rows; accuracy by form before and after, and what changed."""
    kept = scores.get("retention", {})
    tables = []
    losses = [
        [arm, _cell(own["loss"]), _cell(own.get("loss_difference"), sign=True)]
        for arm, own in kept.items()
        if own.get("loss")
    ]
    if losses:
        header = ["", "nats per token", "more than the base"]
        tables.append(CountTable("loss on held-out self-sampled rows", header, losses))
    arms = {arm: own["groups"] for arm, own in kept.items() if own["groups"]}
    groups = list(dict.fromkeys(group for own in arms.values() for group in own))
    if groups:
        rows = []
        for group in groups:
            first = next(own[group] for own in arms.values() if group in own)
            cells = [_change(own.get(group)) for own in arms.values()]
            rows.append([group, str(first["rows"]), f"{first['before']:.2f}", *cells])
        header = ["", "rows", "base", *arms]
        title = "share right by form of the answer: after (− forgotten, + learned)"
        tables.append(CountTable(title, header, rows))
    return tables


def forgotten(scores: Row, generations: Sequence[Row]) -> list[Forgotten]:
    """The rows themselves, arm by arm."""
    said = {(r["arm"], r["suite"], r["index"]): r for r in generations}
    found = []
    for arm, own in scores.get("retention", {}).items():
        places = [(suite, i) for suite, rows in own["forgotten"].items() for i in rows]
        rows = []
        for suite, i in places[:FORGOTTEN]:
            after, before = said[arm, suite, i], said["base", suite, i]
            rows.append(
                {
                    "suite": suite,
                    "index": str(i),
                    "prompt": clip(after["prompt"][-1]["content"], 200),
                    "before": clip(before["output"], 200),
                    "after": clip(after["output"], 200),
                }
            )
        if places:
            found.append(Forgotten(arm, len(places), rows))
    return found


def probe_tables(probes: Row) -> list[CountTable]:
    """The special tokens' states by layer, their neighbours, and the gradients."""
    tokens = dict.fromkeys(t for own in probes.values() for t in own["probes"])
    tables = []
    for token in tokens:
        layers, near = [], []
        for arm, own in probes.items():
            found = own["probes"].get(token, {})
            distance = found.get("distance", {})
            layers += [_layer(arm, n, distance) for n in range(len(distance.get("l2", [])))]
            if rows := found.get("neighbours", {}).get("input"):
                near.append([arm, ", ".join(f"{text} {cosine:.2f}" for text, cosine in rows[:5])])
        if layers:
            header = ["", "layer", "L2", "cosine distance", "CKA", "L2 of random tokens"]
            title = f"state after {token} and after its description"
            tables.append(CountTable(title, header, layers))
        if near:
            tables.append(CountTable(f"nearest rows to {token}", ["", "cosine"], near))
    gradients = [
        [arm, *(f"{own['gradients']['norm'][k]:.3g}" for k in ("downstream", "diverse")),
         _angle(own["gradients"])]
        for arm, own in probes.items() if own["gradients"]
    ]  # fmt: skip
    if gradients:
        header = ["", "norm, downstream", "norm, held out", "cosine"]
        tables.append(CountTable("gradients of downstream and held-out rows", header, gradients))
    return tables


def _layer(arm: str, layer: int, distance: Row) -> list[str]:
    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.3g}"

    own = [shown(distance[k][layer]) for k in ("l2", "cosine", "cka")]
    return [arm, str(layer), *own, shown(distance["random"]["l2"][layer])]


def _angle(gradients: Row) -> str:
    found = gradients["cosine"]
    value = found["downstream"]["diverse"] if isinstance(found.get("downstream"), Mapping) else None
    return "–" if value is None else f"{value:.3f}"


def _cell(figures: Row | None, sign: bool = False) -> str:
    if not figures:
        return ""
    form = "+.2f" if sign else ".2f"
    value, low, high = (format(figures[k], form) for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _change(change: Row | None) -> str:
    if change is None:
        return ""
    return f"{change['after']:.2f} (−{change['forgotten']}, +{change['learned']})"
