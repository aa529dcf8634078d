"""What the template shows, from what the stages left; no Ray, no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from delia_ray.config import RunConfig, describe
from delia_ray.redaction import redacted
from delia_ray.report import inside
from delia_ray.report.comparison import comparison
from delia_ray.report.counts import CountTable, by_arm, count_tables, ingest_table, matrix
from delia_ray.report.curves import length_plot, speed_plot, training_plots
from delia_ray.report.document import fill
from delia_ray.report.samples import PER_OUTCOME, by_kind, choose, clip, reworded, tally, trained_on
from delia_ray.report.words import opponents, verdict

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
    trained_on: Sequence[tuple[str, Sequence[Row]]] = ()
    """(kind, its first rows), for a run that held nothing out."""
    rejects: Sequence[Row] = ()
    diversity: Sequence[CountTable] = ()
    """Of the pool and its prefixes, where it was asked for."""
    probes: Row = field(default_factory=dict)
    """``probes.json`` of the evaluation."""


def render(found: Found) -> str:
    """The whole page as one HTML text."""
    return fill("page.html.jinja", context(found))


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
        "whose_words": by_kind(found.rewordings, found.downstream),
        "synthesis": count_tables(counts["synthesize"]),
        "speed": [Markup(p) for p in speed_plot(found.timeline)],
        "lengths": [Markup(p) for p in length_plot(counts["synthesize"].get("lengths", {}))],
        "synthesis_notes": manifests["synthesize"].get("notes", []),
        "ingest": [
            *([ingest] if ingest else count_tables(counts["ingest"])),
            *(count_tables(counts["ingest"].get("curation", {})) if ingest else []),
            *found.diversity,
        ],
        "rejects": [{**r, "excerpt": clip(r["excerpt"], 300)} for r in found.rejects[:REJECTS]],
        "rejects_total": len(found.rejects),
        "robustness": inside.robustness_tables(scores),
        "retention": inside.retention_tables(scores),
        "forgotten": inside.forgotten(scores, found.generations),
        "probes": inside.probe_tables(found.probes),
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
        "suites": choose(found.generations, arms, ours, theirs),
        "trained_on": trained_on(found.trained_on),
        "per_outcome": PER_OUTCOME,
        "recipe": yaml.safe_dump(
            redacted(config.model_dump(mode="json")), sort_keys=False, width=88
        ),
        "documented": [
            (key, clip(str(redacted(value)), 160), text)
            for key, value, text in describe(config)
            if not isinstance(value, list | dict)
        ],
        "manifests": manifests,
        "versions": {k: v for m in manifests.values() for k, v in m.get("versions", {}).items()},
        "created": max(str(m["created"]) for m in manifests.values()),
    }


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
        (
            "held out",
            f"{len(sizes)} suites, {sum(sizes.values()):,} prompts" if sizes else "nothing",
        ),
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


def _tables(counts: Mapping[str, Any]) -> list[Any]:
    """Free counts; where there are arms, one column for each."""
    rest = {k: v for k, v in counts.items() if k != "arms"}
    arms = counts.get("arms")
    first = [by_arm(arms)] if isinstance(arms, Mapping) and arms else []
    return first + (count_tables(rest) if rest else [])
