"""The stage's Ray tasks: answers, scores and looks into the models, each kept when it is done."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from delia_ray import models, runtime
from delia_ray.artifacts import Folder
from delia_ray.chats.thoughts import Thoughts
from delia_ray.config import RunConfig, Suite
from delia_ray.engines import Completion, Request, resolve
from delia_ray.engines.sizes import cores
from delia_ray.evaluate.answering import Share, Took, answer, cut, lanes
from delia_ray.evaluate.asking import Asked, Asking, Rows, key_of
from delia_ray.evaluate.examining import Subject, examine, prompts_with
from delia_ray.evaluate.metrics import make_metric
from delia_ray.evaluate.parts import Part, run_parts
from delia_ray.evaluate.phrasings import Phrasings, phrasing_scores
from delia_ray.evaluate.robustness import robustness
from delia_ray.evaluate.scoring import SuiteScore, score_suite
from delia_ray.records import COMPLETION
from delia_ray.stage import StageRun
from delia_ray.stored import Damaged

PARTS = "parts"
"""Folder inside the stage's, until it is finished."""
CHUNK = {"transformers": 4, "vllm": 8}
"""Batches whose answers are kept together."""

Answers = dict[str, dict[str, Completion]]
"""Model -> key of ``asking.key_of`` -> completion."""


def answer_all(stage: StageRun, rows: Rows) -> tuple[Asked, Answers, dict[str, list[Took]]]:
    """What was asked, all answers, and where each task's time went (by model)."""
    import ray

    config = stage.config
    engine = resolve(config.evaluate.engine)
    kind = "GPU" if runtime.has_gpu() else "CPU"
    cpus = 1 if stage.here else int(ray.cluster_resources()[kind])
    asking = Asking(config, rows)
    words: dict[str, Completion] = {}
    if wordings := asking.requests():
        keyed = [replace(r, key=f"base|{r.key}") for r in wordings]
        share = Share("rewordings-0", config.model, None, keyed, _chunk(engine))
        words = _answer_shares(stage, engine, [share], cpus)[0]["base"]
    asked = asking.asked(words)
    requests = asked.requests(config.evaluate.max_tokens)
    shares = _shares(config, stage.inputs["finetune"], requests, engine, cpus)
    return asked, *_answer_shares(stage, engine, shares, cpus)


def _answer_shares(
    stage: StageRun, engine: Any, shares: Sequence[Share], cpus: int
) -> tuple[Answers, dict[str, list[Took]]]:
    gpu, progress = runtime.has_gpu(), stage.progress
    side_by_side = 1 if gpu or stage.here else lanes(len(shares), cpus)
    at_once = 1 if gpu else lanes(len(shares), cpus) / cpus
    engine = beside_others(engine, side_by_side)
    kept = stage.out / PARTS / "answers"
    gpus = (1 if engine.type == "transformers" else _parallel(engine.kwargs)) if gpu else 0
    parts = {
        f"{share.name}.json": Part(
            _answer, (engine, share, kept), f"answering as {share.name.rpartition('-')[0]}",
            cpus=1 if gpu else min(1.0, 1 / at_once), gpus=gpus,
        )
        for share in shares
    }  # fmt: skip
    total = sum(len(s.requests) for s in shares)
    sizes = {name: len(chunk) for s in shares for name, chunk in s.chunks().items()}

    def tell(done: int) -> None:
        here = sum(sizes.get(name, 0) for name in kept.names())
        progress(here, total, f"{done} of {len(shares)} tasks done")

    progress(0, total)
    times = run_parts(parts, kept, tell, stage.here)
    progress(total, total)
    done: Answers = {}
    took: dict[str, list[Took]] = {}
    for share in shares:
        for name, chunk in share.chunks().items():
            rows = kept.read_table(name, schema=COMPLETION).to_pylist()
            if sorted(row["key"] for row in rows) != sorted(request.key for request in chunk):
                raise Damaged(f"{kept}/{name}", "its answers are not those to what was asked")
            for row in rows:
                model, _, key = row["key"].partition("|")
                done.setdefault(model, {})[key] = Completion(**{**row, "key": key})
        label = share.name.rpartition("-")[0]
        took.setdefault(label, []).append(Took(**times[f"{share.name}.json"]))
    return done, took


def _answer(engine: Any, share: Share, kept: Folder) -> dict[str, Any]:
    return asdict(answer(engine, share, kept))


def beside_others(engine: Any, others: int) -> Any:
    """The engine where so many answer at once on CPUs: with its part of cores and memory.

    Each would take the whole machine: threads that wait for each other, and caches that together
    are more than its memory.
    """
    if others == 1 or engine.type != "vllm":
        return engine
    cluster, node = runtime.cpus_of_cluster()
    on_a_node = max(1, math.ceil(others * node / cluster))
    threads = engine.cpus or cores(cluster, node, others).threads
    return engine.model_copy(update={"cpus": threads, "replicas": on_a_node})


def _shares(
    config: RunConfig, finetuned: Folder, requests: Sequence[Request], engine: Any, cpus: int
) -> list[Share]:
    """Each model's requests, in as many tasks as fill the cluster: each loads a model once.

    Where vLLM can serve the arms' adapters beside the base, one engine answers for all.
    """
    names = [*(["base"] if config.evaluate.base else []), *config.models]

    def keyed(model: str, own: Sequence[Request], adapter: str = "") -> list[Request]:
        return [replace(r, key=f"{model}|{r.key}", adapter=adapter) for r in own]

    if engine.type == "vllm" and len(names) > 1 and _adapters_do(config):
        each = [keyed(n, requests, "" if n == "base" else f"{n}/adapter") for n in names]
        everything = [r for own in each for r in own]
        return [Share("all-0", config.model, None, everything, _chunk(engine), finetuned)]
    tasks = max(1, cpus // max(1, len(names))) if engine.type == "transformers" else 1
    return [
        Share(
            f"{name}-{number}", config.model if name == "base" else f"{name}/merged",
            None if name == "base" else finetuned, keyed(name, own), _chunk(engine),
        )
        for name in names
        for number, own in enumerate(cut(requests, tasks, engine.batch_size))
    ]  # fmt: skip


def _chunk(engine: Any) -> int:
    return CHUNK[engine.type] * int(engine.batch_size)


def _adapters_do(config: RunConfig) -> bool:
    """vLLM refuses adapters with rows for new tokens, and knows no DoRA."""
    return config.finetune.method == "lora" and not config.downstream.special_tokens


def _parallel(kwargs: Mapping[str, Any]) -> int:
    return int(kwargs.get("tensor_parallel_size", 1)) * int(kwargs.get("pipeline_parallel_size", 1))


# --- scores -----------------------------------------------------------------------------


def score_all(
    stage: StageRun, rows: Rows, asked: Asked, done: Mapping[str, Mapping[str, Completion]]
) -> tuple[dict[str, dict[str, SuiteScore]], dict[str, dict[str, Any]]]:
    """Scores, and robustness where there are phrasings, by suite and model: a light task each."""
    config, evaluate = stage.config, stage.config.evaluate
    thoughts = models.thoughts_of(config.model)
    how = (evaluate.resamples, evaluate.confidence, config.seed, thoughts)
    parts = {}
    for suite in evaluate.suites:
        examples = rows[suite.name]
        for model, completions in done.items():
            mine = [completions.get(key_of(suite.name, i)) for i in range(len(examples))]
            answers = [c for c in mine if c is not None]
            if len(answers) < len(examples):
                continue  # a system that was not asked this suite
            parts[f"{suite.name}|{model}.json"] = Part(
                _score, (suite, answers, examples, *how), f"scoring {suite.name} of {model}"
            )
            if suite.phrasings and model not in evaluate.systems:
                phrasings = asked.phrasings[suite.name]
                said = [completions[key_of(suite.name, *cell)] for cell in phrasings.cells()]
                parts[f"{suite.name}|{model}|phrasings.json"] = Part(
                    _score_phrasings, (suite, phrasings, said, examples, *how),
                    f"comparing phrasings of {suite.name} for {model}",
                )  # fmt: skip
    kept = stage.out / PARTS / "scores"
    found = run_parts(parts, kept, lambda n: stage.progress(n, len(parts), "scoring"), stage.here)
    scored: dict[str, dict[str, SuiteScore]] = {s.name: {} for s in evaluate.suites}
    phrased: dict[str, dict[str, Any]] = {}
    for name, score in found.items():
        suite_name, model, *more = name.removesuffix(".json").split("|")
        if more:
            phrased.setdefault(suite_name, {})[model] = score
        else:
            scored[suite_name][model] = SuiteScore(**score)
    return scored, phrased


def _score(
    suite: Suite, answers: list[Completion], examples: list[dict[str, Any]],
    resamples: int, confidence: float, seed: int, thoughts: Thoughts | None,
) -> dict[str, Any]:  # fmt: skip
    return asdict(
        score_suite(
            suite, [c.text for c in answers], [r["answer"] for r in examples],
            [c.finish_reason == "error" for c in answers], prompts=[r["prompt"] for r in examples],
            resamples=resamples, confidence=confidence, seed=seed, thoughts=thoughts,
        )
    )  # fmt: skip


def _score_phrasings(
    suite: Suite, asked: Phrasings, said: list[Completion], examples: list[dict[str, Any]],
    resamples: int, confidence: float, seed: int, thoughts: Thoughts | None,
) -> dict[str, Any] | None:  # fmt: skip
    scores = phrasing_scores(
        suite, asked, [r["answer"] for r in examples], [c.text for c in said],
        [c.finish_reason == "error" for c in said], thoughts,
    )  # fmt: skip
    found = robustness(
        suite.name, scores, resamples=resamples, confidence=confidence, seed=seed,
        higher_is_better=make_metric(suite.metrics[0]).higher_is_better,
    )  # fmt: skip
    return None if found is None else asdict(found)


# --- looking inside ---------------------------------------------------------------------


def examine_all(stage: StageRun, rows: Rows) -> dict[str, Any]:
    """``examining.examine`` of every model, a task for each; empty where nobody asked."""
    config, count = stage.config, stage.config.evaluate.probes
    if not count:
        return {}
    tokens = config.downstream.special_tokens
    held_out = stage.inputs["synthesize"].read_table("held_out.parquet")
    downstream = stage.inputs["ingest"].read_table("downstream.parquet")
    subject = Subject(
        tokens, prompts_with(tokens, rows, count),
        downstream.slice(0, count).select(["prompt", "answer"]).to_pylist(),
        held_out.select(["prompt", "answer", "source"]).to_pylist(),
        config.finetune.token_init, config.order_seed,
    )  # fmt: skip
    places: dict[str, tuple[str, Folder | None]] = {}
    if config.evaluate.base:
        places["base"] = models.locate(config.model), None
    places |= {name: (f"{name}/merged", stage.inputs["finetune"]) for name in config.models}
    gpus = 1.0 if runtime.has_gpu() else 0.0
    parts = {
        f"{name}.json": Part(examine, (*place, subject), f"looking into {name}", gpus=gpus)
        for name, place in places.items()
    }
    kept = stage.out / PARTS / "probes"
    found = run_parts(
        parts, kept, lambda n: stage.progress(n, len(parts), "looking inside"), stage.here
    )
    return {name.removesuffix(".json"): own for name, own in found.items()}
