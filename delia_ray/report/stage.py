"""The stage: reads what the others left, writes ``report.html`` and ``results.json``."""

import math
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import DeliaError
from delia_ray.redaction import redact, redacted
from delia_ray.report.counts import CountTable, without_times
from delia_ray.report.page import Found, render
from delia_ray.report.pool import diversity_table, prefixes
from delia_ray.report.samples import PER_OUTCOME
from delia_ray.report.words import clock, verdict
from delia_ray.stage import Outcome, Stage, StageRun
from delia_ray.stored import reading

NEEDS = ("ingest", "synthesize", "mix", "finetune", "evaluate")


def settings(config: RunConfig) -> Any:
    """The whole recipe: the page shows it."""
    return config.model_dump(mode="json")


def run(stage: StageRun) -> Outcome:
    """Write the page and the figures; needs no Ray.

    Raises:
        DeliaError: a stage before this one is unfinished.
    """
    with reading(f"{stage.run}", _ADVICE):
        found = gather(stage)
    with reading(f"{stage.run}", _ADVICE):
        figures = redacted(results(found))
        page = redact(render(found))
    stage.out.write_json("results.json", figures, seal=False)
    stage.out.write_text("report.html", page)
    judged = verdict(found.scores)
    total = sum(float(m["seconds"]) for m in found.manifests.values())
    return Outcome(
        counts={"bytes": len(page.encode()), "seconds_reported": round(total, 1)},
        summary=f"{judged.headline}; {clock(total)} in all",
    )


_ADVICE = "the stage that it belongs to has to be made anew: remove its folder and run again"


def gather(stage: StageRun) -> Found:
    """Read manifests and tables.

    Raises:
        DeliaError: a stage is unfinished.
    """
    manifests = {}
    for name in NEEDS:
        manifest = stage.inputs[name].manifest()
        if manifest is None:
            raise DeliaError(f"the stage {name} is unfinished, so there is nothing to report yet")
        manifests[name] = manifest
    ingest, synthesize = stage.inputs["ingest"], stage.inputs["synthesize"]
    return Found(
        config=stage.config,
        manifests=manifests,
        scores=stage.inputs["evaluate"].read_json("scores.json"),
        generations=_rows(stage.inputs["evaluate"], "generations.parquet"),
        curves={
            arm: _rows(stage.inputs["finetune"] / arm, "curve.parquet") for arm in stage.config.arms
        },
        answers=_with_aside(synthesize, "answers", ["reason"]),
        trained_on=() if stage.config.evaluate.suites else _trained_on(ingest, synthesize),
        rewordings=_with_aside(synthesize, "rewordings"),
        timeline=_rows(synthesize, "timeline.parquet"),
        downstream=_rows(ingest, "downstream.parquet", ["id", "prompt"]),
        rejects=_rows(ingest, "rejects.parquet"),
        diversity=_diversity(stage),
        probes=stage.inputs["evaluate"].read_json("probes.json"),
    )


def _trained_on(ingest: Folder, synthesize: Folder) -> list[tuple[str, list[dict[str, Any]]]]:
    """(kind of row, the first rows of it)."""
    files = [
        ("downstream rows", ingest, "downstream.parquet"),
        ("diverse rows, self-sampled", synthesize, "answers.parquet"),
    ]
    columns = ["prompt", "answer"]
    return [
        (kind, list(folder.read_first(name, columns, PER_OUTCOME).to_pylist()))
        for kind, folder, name in files
        if folder.exists(name)
    ]


def _diversity(stage: StageRun) -> list[CountTable]:
    asked, ingest = stage.config.curate.diversity, stage.inputs["ingest"]
    pool = len(ingest.read_table("corpus.parquet", ["id"])) if asked else 0
    if asked is None or not pool:
        return []
    table = ingest.read_first("corpus.parquet", ["prompt"], asked.rows)
    texts = [turns[-1]["content"] for turns in table.column("prompt").to_pylist()]
    found = None
    if ingest.exists("embeddings.parquet"):
        column = ingest.read_table("embeddings.parquet").column("embedding").combine_chunks()
        found = column.flatten().to_numpy().reshape(len(column), -1)
    downstream = len(ingest.read_table("downstream.parquet", ["id"]))
    return [diversity_table(texts, found, prefixes(stage.config, downstream, pool))]


def results(found: Found) -> dict[str, Any]:
    """The figures of the run, to six digits after the point and without times: two runs of
    the same recipe give the same bytes."""
    config, scores = found.config, found.scores
    out = {
        "name": config.name,
        "seed": config.seed,
        "model": config.model,
        "arms": scores["arms"],
        "baseline": scores["baseline"],
        "confidence": scores["confidence"],
        "resamples": scores["resamples"],
        "suites": scores["suites"],
        "differences": scores["differences"],
        "main": scores["main"],
        "mean_of": scores["mean_of"],
        "signatures": scores["signatures"],
        "robustness": scores["robustness"],
        "retention": {
            arm: {key: value for key, value in own.items() if key != "forgotten"}
            for arm, own in scores["retention"].items()
        },
        "mix": without_times(found.manifests["mix"]["counts"]),
    }
    return dict(_rounded(out))


def _rows(folder: Folder, name: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return list(folder.read_table(name, columns).to_pylist()) if folder.exists(name) else []


def _with_aside(
    folder: Folder, name: str, columns: list[str] | None = None
) -> list[dict[str, Any]]:
    """Kept rows, and those that were set aside."""
    files = (f"{name}.parquet", f"{name}_set_aside.parquet")
    return [row for file in files for row in _rows(folder, file, columns)]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return None  # JSON has no word for it
        return round(value, 6) + 0.0  # no negative zero
    if isinstance(value, dict):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return value


STAGE = Stage(name="report", version=1, needs=dict.fromkeys(NEEDS, ()), settings=settings, run=run)
"""The page and the figures of the run."""
