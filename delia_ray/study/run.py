"""Runs a study through the pipeline, and reads what its runs left."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from delia_ray import lock, pipeline
from delia_ray.artifacts import Folder, open_storage
from delia_ray.stored import reading
from delia_ray.study.design import Study

Table = list[list[float]]
"""(seeds, rows)."""


@dataclass
class Found:
    """What the runs of one task left, seed by seed."""

    scores: dict[str, dict[str, Table]] = field(default_factory=dict)
    """Model -> suite -> main metric of each row."""
    probes: list[dict[str, Any]] = field(default_factory=list)
    """``probes.json`` of each seed."""
    retention: list[dict[str, Any]] = field(default_factory=list)
    """``retention`` of ``scores.json`` of each seed."""
    suites: list[dict[str, Any]] = field(default_factory=list)
    """``suites`` of ``scores.json`` of each seed: metrics of whole suites too."""
    curves: list[dict[str, dict[str, list[float]]]] = field(default_factory=list)
    """Of each seed: arm -> column of METRIC_POINT -> values at all steps (nan where none)."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Fingerprint -> seconds of each stage; what runs share is in it once."""


def study_claims(
    study: Study, out: Sequence[Folder], watch: Callable[[str], pipeline.Watcher]
) -> dict[str, Any]:
    """Run what is missing, judge, and write ``claims.json``, ``claims.html`` and ``claims.md``.

    Seed by seed, and every seed with all ratios. What is done is not done again, so a study that
    was killed goes on, and one with more seeds adds to one with fewer.

    Args:
        study: the design.
        out: folders that get the three files.
        watch: from a run's title to its watcher, which the pipeline tells what happens.

    Raises:
        UserError, DeliaError: as the pipeline; what is done stays done.
    """
    with lock.held(open_storage(study.storage) / study.name):
        return _study(study, out, watch)


def _study(
    study: Study, out: Sequence[Folder], watch: Callable[[str], pipeline.Watcher]
) -> dict[str, Any]:
    from delia_ray.study.page import markdown, render
    from delia_ray.study.result import result

    runs = [(seed, task) for seed in range(study.seeds) for task in study.tasks]
    configs = {(seed, task): study.config(task, seed) for seed, task in runs}
    found = {task: Found() for task in study.tasks}
    for number, (seed, task) in enumerate(runs, start=1):
        watcher = watch(f"{number} of {len(runs)}: {task}, training seed {seed}")
        read_run(found[task], pipeline.run(configs[seed, task], watcher, until="evaluate"))
    took = {mark: s for own in found.values() for mark, s in own.seconds.items()}
    done = result(
        study, found, seconds=sum(took.values()),
        device=f"{os.cpu_count()} CPU cores", versions=pipeline.versions(),
        date=datetime.now(UTC).date().isoformat(),
    )  # fmt: skip
    for folder in out:
        folder.write_json("claims.json", done, seal=False)
        folder.write_text("claims.html", render(done))
        folder.write_text("claims.md", markdown(done))
    return done


def read_run(found: Found, plan: pipeline.Plan) -> None:
    """Add one run to ``found``."""
    with reading(f"{plan.run}"):
        _add_run(found, plan)


def _add_run(found: Found, plan: pipeline.Plan) -> None:
    evaluated, trained = plan.folder("evaluate"), plan.folder("finetune")
    scores = evaluated.read_json("scores.json")
    for model, suites in _rows(evaluated).items():
        for suite, row in suites.items():
            found.scores.setdefault(model, {}).setdefault(suite, []).append(row)
    found.probes.append(evaluated.read_json("probes.json"))
    found.retention.append(scores["retention"])
    found.suites.append(scores["suites"])
    found.curves.append({arm: _curve(trained / arm) for arm in plan.config.arms})
    for stage in ("ingest", "synthesize", "mix", "finetune", "evaluate"):
        manifest = plan.folder(stage).manifest() or {}
        found.seconds[plan.fingerprint(stage)] = manifest.get("seconds", 0.0)


def _rows(evaluated: Folder) -> dict[str, dict[str, list[float]]]:
    columns = ["arm", "suite", "index", "score"]
    table = evaluated.read_table("generations.parquet", columns).sort_by("index")
    rows: dict[str, dict[str, list[float]]] = {}
    for row in table.to_pylist():
        if row["score"] is not None:
            rows.setdefault(row["arm"], {}).setdefault(row["suite"], []).append(row["score"])
    return rows


def _curve(arm: Folder) -> dict[str, list[float]]:
    table = arm.read_table("curve.parquet")
    wanted = ("step", "loss", "token_distance", "gradient_cosine")
    return {
        name: np.asarray(table[name].to_numpy(zero_copy_only=False), float).tolist()
        for name in wanted
    }
