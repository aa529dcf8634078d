"""The stage: every model answers every suite; scores are Ray tasks; what is done is kept.

Until the stage is finished, its folder holds ``parts/``: a file for each chunk of answers and
for each score. A killed evaluation goes on with what is missing.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from delia_ray import models, runtime
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig, Suite
from delia_ray.engines import Completion, Request, resolve
from delia_ray.evaluate.answering import Share, Took, answer, cut, lanes
from delia_ray.evaluate.parts import Part, run_parts
from delia_ray.evaluate.scoring import SuiteScore, assemble, check_suite, names_of, score_suite
from delia_ray.evaluate.systems import read_systems, systems_digest
from delia_ray.records import GENERATION, conform
from delia_ray.stage import Outcome, Stage, StageRun

PARTS = "parts"
CHUNK = {"transformers": 4, "vllm": 8}
"""Batches whose answers are kept together."""

Rows = Mapping[str, list[dict[str, Any]]]
"""Of each suite: ``prompt`` and ``answer``."""


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
        "systems": systems_digest(config.evaluate.systems),
        "model": models.fingerprint(config.model),
    }


def run(stage: StageRun) -> Outcome:
    """Write ``generations.parquet`` and ``scores.json``.

    Raises:
        UserError: a suite cannot be scored; found before any model is loaded.
        DeliaError: a task failed for good. What others did is kept for the next try.
    """
    config, suites = stage.config, stage.config.evaluate.suites
    rows = {s.name: _read_suite(stage.inputs["ingest"], s) for s in suites}
    for suite in suites:
        own = rows[suite.name]
        check_suite(suite, [r["answer"] for r in own], [r["prompt"] for r in own])
    systems = read_systems(config, {name: len(r) for name, r in rows.items()})
    runtime.connect(config)
    began = time.monotonic()

    done, took = _answer_all(stage, rows)
    answered = time.monotonic()
    done |= systems
    scored = _score_all(stage, rows, done)
    scores = assemble(config, scored)
    stage.out.write_table(
        "generations.parquet", conform(_generations(rows, done, scored), GENERATION)
    )
    stage.out.write_json("scores.json", scores)
    stage.out.remove(PARTS)

    ended = time.monotonic()
    counts = _counts(rows, done, took)
    counts["seconds"] = {
        "answering": round(answered - began, 2), "scoring": round(ended - answered, 2)
    }  # fmt: skip
    return Outcome(counts=counts, summary=_summary(names_of(config), rows, counts))


STAGE = Stage(
    name="evaluate", version=2, needs={"ingest": (), "finetune": ()}, settings=settings, run=run
)
"""Generations and scores of the base and every arm."""


# --- answers ----------------------------------------------------------------------------


def _answer_all(
    stage: StageRun, rows: Rows
) -> tuple[dict[str, dict[str, Completion]], dict[str, list[Took]]]:
    """Completions by model and key ``<suite>/<index>``, and where each task's time went."""
    import ray

    config, progress = stage.config, stage.progress
    engine = resolve(config.evaluate.engine)
    gpu = runtime.has_gpu()
    cpus = int(ray.cluster_resources()["GPU" if gpu else "CPU"])
    asked = _requests(config, rows)
    shares = _shares(config, stage.inputs["finetune"], asked, engine, cpus)
    at_once = 1 if gpu else lanes(len(shares), cpus) / cpus
    kept = stage.out / PARTS / "answers"
    parts = {
        f"{share.name}.json": Part(
            _answer, (engine, share, kept), f"answering as {share.name.rpartition('-')[0]}",
            cpus=1 if gpu else min(1.0, 1 / at_once),
            gpus=(1 if engine.type == "transformers" else _parallel(engine.kwargs)) if gpu else 0,
        )
        for share in shares
    }  # fmt: skip
    total = sum(len(s.requests) for s in shares)
    sizes = {name: len(chunk) for s in shares for name, chunk in s.chunks().items()}

    def tell(done: int) -> None:
        here = sum(sizes.get(name, 0) for name in kept.names())
        progress(here, total, f"{done} of {len(shares)} tasks done")

    progress(0, total)
    times = run_parts(parts, kept, tell)
    progress(total, total)
    done: dict[str, dict[str, Completion]] = {}
    took: dict[str, list[Took]] = {}
    for share in shares:
        for name in share.chunks():
            for row in kept.read_table(name).to_pylist():
                model, _, key = row["key"].partition("|")
                done.setdefault(model, {})[key] = Completion(**{**row, "key": key})
        label = share.name.rpartition("-")[0]
        took.setdefault(label, []).append(Took(**times[f"{share.name}.json"]))
    return done, took


def _answer(engine: Any, share: Share, kept: Folder) -> dict[str, Any]:
    return asdict(answer(engine, share, kept))


def _requests(config: RunConfig, rows: Rows) -> list[Request]:
    return [
        Request(f"{suite}/{i}", row["prompt"], config.evaluate.max_tokens)
        for suite, examples in rows.items()
        for i, row in enumerate(examples)
    ]


def _shares(
    config: RunConfig, finetuned: Folder, requests: Sequence[Request], engine: Any, cpus: int
) -> list[Share]:
    """Each model's requests, in as many tasks as fill the cluster: each loads a model once.

    Where vLLM can serve the arms' adapters beside the base, one engine answers for all.
    """
    names = [*(["base"] if config.evaluate.base else []), *config.models]
    chunk = CHUNK[engine.type] * engine.batch_size

    def keyed(model: str, own: Sequence[Request], adapter: str = "") -> list[Request]:
        return [Request(f"{model}|{r.key}", r.messages, r.max_tokens, adapter=adapter) for r in own]

    if engine.type == "vllm" and len(names) > 1 and _adapters_do(config):
        each = [keyed(n, requests, "" if n == "base" else f"{n}/adapter") for n in names]
        everything = [r for own in each for r in own]
        return [Share("all-0", config.model, None, everything, chunk, finetuned)]
    tasks = max(1, cpus // max(1, len(names))) if engine.type == "transformers" else 1
    return [
        Share(
            f"{name}-{number}", config.model if name == "base" else f"{name}/merged",
            None if name == "base" else finetuned, keyed(name, own), chunk,
        )
        for name in names
        for number, own in enumerate(cut(requests, tasks, engine.batch_size))
    ]  # fmt: skip


def _adapters_do(config: RunConfig) -> bool:
    """vLLM refuses adapters with rows for new tokens, and knows no DoRA."""
    return config.finetune.method == "lora" and not config.downstream.special_tokens


def _parallel(kwargs: Mapping[str, Any]) -> int:
    return int(kwargs.get("tensor_parallel_size", 1)) * int(kwargs.get("pipeline_parallel_size", 1))


# --- scores -----------------------------------------------------------------------------


def _score_all(
    stage: StageRun, rows: Rows, done: Mapping[str, Mapping[str, Completion]]
) -> dict[str, dict[str, SuiteScore]]:
    """Scores by suite and model, a light task for each pair."""
    config, evaluate = stage.config, stage.config.evaluate
    parts = {}
    for suite in evaluate.suites:
        examples = rows[suite.name]
        for model, completions in done.items():
            mine = [completions.get(f"{suite.name}/{i}") for i in range(len(examples))]
            answers = [c for c in mine if c is not None]
            if len(answers) < len(examples):
                continue  # a system that was not asked this suite
            parts[f"{suite.name}|{model}.json"] = Part(
                _score,
                (suite, [c.text for c in answers], [r["answer"] for r in examples],
                 [c.finish_reason == "error" for c in answers],
                 [r["prompt"] for r in examples],
                 evaluate.resamples, evaluate.confidence, config.seed),
                f"scoring {suite.name} of {model}",
            )  # fmt: skip
    total = len(parts)
    found = run_parts(
        parts, stage.out / PARTS / "scores", lambda n: stage.progress(n, total, "scoring")
    )
    scored: dict[str, dict[str, SuiteScore]] = {s.name: {} for s in evaluate.suites}
    for name, score in found.items():
        suite_name, _, model = name.removesuffix(".json").partition("|")
        scored[suite_name][model] = SuiteScore(**score)
    return scored


def _score(
    suite: Suite, outputs: list[str], references: list[str], failed: list[bool],
    prompts: list[Any], resamples: int, confidence: float, seed: int,
) -> dict[str, Any]:  # fmt: skip
    return asdict(
        score_suite(
            suite, outputs, references, failed, prompts=prompts,
            resamples=resamples, confidence=confidence, seed=seed,
        )
    )  # fmt: skip


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
            "output": done[model][f"{suite}/{i}"].text,
            "finish_reason": done[model][f"{suite}/{i}"].finish_reason,
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
        "seconds_loading": {m: round(sum(t.loading for t in ts), 2) for m, ts in took.items()},
        "seconds_answering": {m: round(sum(t.answering for t in ts), 2) for m, ts in took.items()},
        "prompts_per_second": {
            m: round(sum(t.prompts for t in ts) / max(1e-9, sum(t.answering for t in ts)), 1)
            for m, ts in took.items()
        },
    }


def _summary(names: Sequence[str], rows: Rows, counts: Mapping[str, Any]) -> str:
    sizes = [len(r) for r in rows.values()]
    prompts = f"x {sizes[0]} prompts" if len(set(sizes)) == 1 else f", {sum(sizes):,} prompts"
    summary = f"{len(names)} models x {len(rows)} suites {prompts}".replace(" ,", ",")
    if failures := sum(counts["errors"].values()):
        summary += f", {failures} failed and count as wrong"
    return summary
