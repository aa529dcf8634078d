"""The stage: every model answers every suite; scores are Ray tasks; what is done is kept.

Until the stage is finished, its folder holds ``parts/``: a file for each chunk of answers and
for each score. A killed evaluation goes on with what is missing.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from delia_ray import models, runtime
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig, Suite
from delia_ray.engines import Completion, resolve
from delia_ray.evaluate.answering import Took
from delia_ray.evaluate.asking import Rows, key_of
from delia_ray.evaluate.fan_out import PARTS, answer_all, examine_all, score_all
from delia_ray.evaluate.phrasings import check_phrasings, phrasing_settings
from delia_ray.evaluate.retained import retained
from delia_ray.evaluate.scoring import SuiteScore, assemble, check_suite, names_of
from delia_ray.evaluate.systems import read_systems, systems_digest
from delia_ray.records import GENERATION, conform
from delia_ray.stage import Outcome, Stage, StageRun


def settings(config: RunConfig) -> Any:
    """What the outputs and scores depend on.

    Raises:
        UserError: the engine, the model or a system's file is not there.
    """
    return {
        **config.evaluate.model_dump(mode="json"),
        "engine": resolve(config.evaluate.engine).model_dump(mode="json"),
        "seed": config.seed,
        "arms": config.models,
        "phrasings": phrasing_settings(config),
        "tokens": config.downstream.special_tokens if config.evaluate.probes else {},
        "token_init": config.finetune.token_init,
        "order_seed": config.order_seed,
        "systems": systems_digest(config.evaluate.systems),
        "model": models.fingerprint(config.model),
    }


def run(stage: StageRun) -> Outcome:
    """Write ``generations.parquet``, ``scores.json`` and ``probes.json``; without suites no
    model is loaded and they are empty.

    Raises:
        UserError: a suite cannot be scored; found before any model is loaded.
        DeliaError: a task failed for good. What others did is kept for the next try.
    """
    config, suites = stage.config, stage.config.evaluate.suites
    rows = {s.name: _read_suite(stage.inputs["ingest"], s) for s in suites}
    for suite in suites:
        check_phrasings(suite)
        own = rows[suite.name]
        check_suite(suite, [r["answer"] for r in own], [r["prompt"] for r in own])
    systems = read_systems(config, {name: len(r) for name, r in rows.items()})
    runtime.connect(config)
    began = time.monotonic()

    asked, done, took = answer_all(stage, rows)
    answered = time.monotonic()
    done |= systems
    scored, phrased = score_all(stage, rows, asked, done)
    scores = assemble(config, scored)
    ended = time.monotonic()
    seen = examine_all(stage, rows) if suites else {}
    scores["robustness"] = phrased
    scores["retention"] = retained(
        scored,
        {name: [r["answer"] for r in own] for name, own in rows.items()},
        {m: own["retention"]["rows"] for m, own in seen.items() if own["retention"]},
        resamples=config.evaluate.resamples, confidence=config.evaluate.confidence,
        seed=config.seed,
    )  # fmt: skip
    stage.out.write_json("probes.json", seen)
    stage.out.write_table(
        "generations.parquet", conform(_generations(rows, done, scored), GENERATION)
    )
    stage.out.write_json("scores.json", scores)
    stage.out.remove(PARTS)

    counts = _counts(rows, done, took)
    counts["phrasings"] = asked.counts()
    counts["seconds"] = {
        "answering": round(answered - began, 2), "scoring": round(ended - answered, 2),
        "looking inside": round(time.monotonic() - ended, 2),
    }  # fmt: skip
    return Outcome(counts=counts, summary=_summary(names_of(config), rows, counts))


STAGE = Stage(
    name="evaluate",
    version=3,
    needs={"ingest": (), "synthesize": ("held_out.parquet",), "finetune": ()},
    settings=settings,
    run=run,
)
"""Generations and scores of the base and every arm."""


def _generations(
    rows: Rows,
    done: Mapping[str, Mapping[str, Completion]],
    scored: Mapping[str, Mapping[str, SuiteScore]],
) -> list[dict[str, Any]]:
    return [
        {
            "suite": suite,
            "arm": model,
            "index": i,
            "prompt": example["prompt"],
            "reference": example["answer"],
            "output": done[model][key_of(suite, i)].text,
            "finish_reason": done[model][key_of(suite, i)].finish_reason,
            "score": None if score.rows is None else score.rows[i],
        }
        for suite, examples in rows.items()
        for model, score in scored[suite].items()
        for i, example in enumerate(examples)
    ]


def _read_suite(ingest: Folder, suite: Suite) -> list[dict[str, Any]]:
    table = ingest.read_table(f"suite-{suite.name}.parquet", columns=["prompt", "answer"])
    return list(table.to_pylist())


# --- what it reports --------------------------------------------------------------------


def _counts(
    rows: Rows, done: Mapping[str, Mapping[str, Completion]], took: Mapping[str, list[Took]]
) -> dict[str, Any]:
    reasons = {m: [c.finish_reason for c in own.values()] for m, own in done.items()}
    return {
        "suites": {name: len(r) for name, r in rows.items()},
        "errors": {m: r.count("error") for m, r in reasons.items()},
        "cut_off": {m: r.count("length") for m, r in reasons.items()},
        "engine_starts": {m: sum(t.prompts > 0 for t in times) for m, times in took.items()},
        # Where an evaluation was broken off, less than all: what was kept is not asked again.
        "answered": {m: sum(t.prompts for t in times) for m, times in took.items()},
        "seconds_loading": {m: round(sum(t.loading for t in ts), 2) for m, ts in took.items()},
        "seconds_answering": {m: round(sum(t.answering for t in ts), 2) for m, ts in took.items()},
        "prompts_per_second": {
            m: round(sum(t.prompts for t in ts) / max(1e-9, sum(t.answering for t in ts)), 1)
            for m, ts in took.items()
        },
    }


def _summary(names: Sequence[str], rows: Rows, counts: Mapping[str, Any]) -> str:
    if not rows:
        return "nothing was held out (evaluate.suites is empty)"
    sizes = [len(r) for r in rows.values()]
    prompts = f"x {sizes[0]} prompts" if len(set(sizes)) == 1 else f", {sum(sizes):,} prompts"
    summary = f"{len(names)} models x {len(rows)} suites {prompts}".replace(" ,", ",")
    if failures := sum(counts["errors"].values()):
        summary += f", {failures} failed and count as wrong"
    return summary
