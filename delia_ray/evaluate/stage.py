"""The stage: every (arm, share of the prompts) is a Ray task that loads one engine."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray import models, runtime
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig, Suite
from delia_ray.engines import Completion, Request, make_engine, resolve
from delia_ray.errors import DeliaError
from delia_ray.evaluate.scoring import SuiteScore, assemble, check_suite, score_suite
from delia_ray.records import GENERATION, conform
from delia_ray.stage import Outcome, Progress, Stage, StageRun

RETRIES = 2
"""Further tries of a task whose worker died or whose storage did not answer."""


def settings(config: RunConfig) -> Any:
    """What the outputs and scores depend on.

    Raises:
        UserError: the engine or the model is not there.
    """
    return {
        **config.evaluate.model_dump(mode="json"),
        "engine": resolve(config.evaluate.engine).model_dump(mode="json"),
        "seed": config.seed,
        "arms": list(config.arms),
        "model": models.fingerprint(config.model),
    }


def run(stage: StageRun) -> Outcome:
    """Write ``generations.parquet`` and ``scores.json``.

    Raises:
        UserError: a suite cannot be scored; found before any model is loaded.
        DeliaError: a task failed for good. There is no partial result.
    """
    config, suites = stage.config, stage.config.evaluate.suites
    rows = {s.name: _read_suite(stage.inputs["ingest"], s) for s in suites}
    for suite in suites:
        of_suite = rows[suite.name]
        check_suite(suite, [r["answer"] for r in of_suite], [r["prompt"] for r in of_suite])
    runtime.connect(config)

    arms = ["base", *config.arms]
    engine = resolve(config.evaluate.engine)
    work = shares(
        arms, _requests(config, rows), _tasks_per_arm(engine, len(arms)), engine.batch_size
    )
    done, seconds = _answer_all(config, stage.inputs["finetune"], work, stage.progress)
    scored = _score_all(config, rows, done)

    scores = assemble(config, scored)
    stage.out.write_table(
        "generations.parquet", conform(_generations(rows, done, scored), GENERATION)
    )
    stage.out.write_json("scores.json", scores)
    reasons = {arm: [c.finish_reason for c in done[arm].values()] for arm in arms}
    sizes = {name: len(r) for name, r in rows.items()}
    counts: dict[str, Any] = {
        "suites": sizes,
        "errors": {arm: r.count("error") for arm, r in reasons.items()},
        "cut_off": {arm: r.count("length") for arm, r in reasons.items()},
        "tasks": {arm: len(times) for arm, times in seconds.items()},
        "seconds_per_task": {arm: [round(t, 2) for t in ts] for arm, ts in seconds.items()},
    }
    each = set(sizes.values())
    prompts = f"x {each.pop()} prompts" if len(each) == 1 else f", {sum(sizes.values()):,} prompts"
    summary = f"{len(arms)} models x {len(suites)} suites {prompts}".replace(" ,", ",")
    if failures := sum(counts["errors"].values()):
        summary += f", {failures} failed and count as wrong"
    return Outcome(counts=counts, summary=summary)


# --- answers ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """What one task answers."""

    arm: str
    requests: list[Request]


def answer(
    engine: Any, model: str, finetuned: Folder | None, requests: Sequence[Request]
) -> tuple[list[Completion], float]:
    """Load one engine and answer ``requests``; the body of a Ray task.

    Args:
        engine: a member of ``config.Engine``.
        model: the base model, or the arm's folder inside ``finetuned``.
        finetuned: where the arm's model lies; None for the base.

    Returns:
        The completions and the seconds that loading and answering took.
    """
    start = time.perf_counter()
    if finetuned is None:
        return make_engine(engine, model).load()(requests), time.perf_counter() - start
    path = finetuned.download(model)
    try:
        return make_engine(engine, path).load()(requests), time.perf_counter() - start
    finally:
        if not finetuned.is_local:
            shutil.rmtree(path, ignore_errors=True)


def _requests(config: RunConfig, rows: Mapping[str, list[dict[str, Any]]]) -> list[Request]:
    return [
        Request(f"{suite}/{i}", row["prompt"], config.evaluate.max_tokens)
        for suite, examples in rows.items()
        for i, row in enumerate(examples)
    ]


def shares(
    arms: Sequence[str], requests: Sequence[Request], tasks: int, batch_size: int
) -> list[Share]:
    """Every arm's requests cut into at most ``tasks`` shares.

    Prompts of similar length stay together and shares end where batches end, so that the
    batches, and with them the last digits of the logits, do not depend on the cluster.
    """
    ordered = sorted(requests, key=lambda r: sum(len(m["content"]) for m in r.messages))
    batches = -(-len(ordered) // batch_size)
    size = -(-batches // tasks) * batch_size
    return [
        Share(arm, ordered[at : at + size]) for arm in arms for at in range(0, len(ordered), size)
    ]


def _tasks_per_arm(engine: Any, arms: int) -> int:
    """Enough to fill the cluster, and no more: each loads the model once."""
    import ray

    if engine.type != "transformers":
        return 1  # one vLLM engine batches all of an arm's prompts better than several
    kind = "GPU" if runtime.has_gpu() else "CPU"
    return max(1, int(ray.cluster_resources()[kind]) // arms)


def _answer_all(
    config: RunConfig, finetuned: Folder, work: Sequence[Share], progress: Progress
) -> tuple[dict[str, dict[str, Completion]], dict[str, list[float]]]:
    """Completions by arm and key, and the seconds of each task by arm."""
    import ray

    engine = resolve(config.evaluate.engine)
    gpus = 0
    if runtime.has_gpu():
        gpus = 1 if engine.type == "transformers" else _parallel(engine.kwargs)
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=[OSError])(
        answer
    )
    waiting = {}
    for share in work:
        where = (config.model, None) if share.arm == "base" else (f"{share.arm}/merged", finetuned)
        waiting[task.remote(engine, *where, share.requests)] = share
    total = sum(len(s.requests) for s in work)
    done: dict[str, dict[str, Completion]] = {s.arm: {} for s in work}
    seconds: dict[str, list[float]] = {s.arm: [] for s in work}
    answered = 0
    progress(0, total)
    try:
        while waiting:
            [reference], _ = ray.wait(list(waiting), num_returns=1)
            share = waiting.pop(reference)
            completions, took = _result(reference, f"answering as {share.arm}")
            done[share.arm].update((c.key, c) for c in completions)
            seconds[share.arm].append(took)
            answered += len(share.requests)
            progress(answered, total, share.arm)
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
    return done, seconds


def _parallel(kwargs: Mapping[str, Any]) -> int:
    return int(kwargs.get("tensor_parallel_size", 1)) * int(kwargs.get("pipeline_parallel_size", 1))


# --- scores -----------------------------------------------------------------------------


def _score_all(
    config: RunConfig,
    rows: Mapping[str, list[dict[str, Any]]],
    done: Mapping[str, Mapping[str, Completion]],
) -> dict[str, dict[str, SuiteScore]]:
    """Scores by suite and arm, one light task for each pair."""
    import ray

    task = ray.remote(num_cpus=1, max_retries=RETRIES)(score_suite)
    evaluate = config.evaluate
    waiting = {}
    for suite in evaluate.suites:
        references = [r["answer"] for r in rows[suite.name]]
        for arm, completions in done.items():
            mine = [completions[f"{suite.name}/{i}"] for i in range(len(references))]
            waiting[suite.name, arm] = task.remote(
                suite,
                [c.text for c in mine],
                references,
                [c.finish_reason == "error" for c in mine],
                resamples=evaluate.resamples,
                confidence=evaluate.confidence,
                seed=config.seed,
                prompts=[r["prompt"] for r in rows[suite.name]],
            )
    return {
        s.name: {arm: _result(waiting[s.name, arm], f"scoring {s.name} of {arm}") for arm in done}
        for s in evaluate.suites
    }


def _generations(
    rows: Mapping[str, list[dict[str, Any]]],
    done: Mapping[str, Mapping[str, Completion]],
    scored: Mapping[str, Mapping[str, SuiteScore]],
) -> list[dict[str, Any]]:
    out = []
    for suite, examples in rows.items():
        for arm, completions in done.items():
            main = scored[suite][arm].rows
            for i, example in enumerate(examples):
                completion = completions[f"{suite}/{i}"]
                out.append(
                    {
                        "suite": suite,
                        "arm": arm,
                        "index": i,
                        "prompt": example["prompt"],
                        "reference": example["answer"],
                        "output": completion.text,
                        "finish_reason": completion.finish_reason,
                        "score": None if main is None else main[i],
                    }
                )
    return out


def _read_suite(ingest: Folder, suite: Suite) -> list[dict[str, Any]]:
    table = ingest.read_table(f"suite-{suite.name}.parquet", columns=["prompt", "answer"])
    return list(table.to_pylist())


def _result(reference: Any, doing: str) -> Any:
    """A task's result; its failure as one paragraph.

    Raises:
        DeliaError: it failed on its last try.
    """
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DeliaError):
            raise cause from None
        raise DeliaError(
            f"{doing} failed: {type(cause).__name__}: {cause}; the worker's log has the traceback"
        ) from error
    except ray.exceptions.RayError as error:
        raise DeliaError(
            f"{doing} failed {RETRIES + 1} times: {type(error).__name__}: {error}"
        ) from error


STAGE = Stage(
    name="evaluate", version=1, needs={"ingest": (), "finetune": ()}, settings=settings, run=run
)
"""Generations and scores of the base and every arm."""
