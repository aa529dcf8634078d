"""How a model does on the first rows of each suite, asked in this process; no stage."""

from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.engines import Request, resolve
from delia_ray.evaluate.answering import Share, answer
from delia_ray.evaluate.asking import key_of
from delia_ray.evaluate.fan_out import CHUNK
from delia_ray.evaluate.scoring import assemble, score_suite
from delia_ray.models import thoughts_of
from delia_ray.records import COMPLETION


def quick_scores(
    config: RunConfig, ingest: Folder, finetuned: Folder, model: str, rows: int, scratch: Folder
) -> dict[str, dict[str, dict[str, float]]]:
    """Suite (and ``mean``) -> metric, the main one first -> value, low, high, n.

    In their own wording only: phrasings are for the end.

    Args:
        config: with one arm, whose name the figures go by inside.
        ingest: has the suites.
        finetuned: has ``<model>/merged``.
        model: whose scores.
        rows: of each suite.
        scratch: for the answers.
    """
    evaluate, engine = config.evaluate, resolve(config.evaluate.engine)
    suites = evaluate.suites
    examples = {s.name: _read(ingest, s.name, rows) for s in suites}
    asked = [
        Request(key_of(name, i), row["prompt"], evaluate.max_tokens)
        for name, own in examples.items()
        for i, row in enumerate(own)
    ]
    asked.sort(key=lambda r: sum(len(m["content"]) for m in r.messages))
    chunk = CHUNK[engine.type] * int(engine.batch_size)
    share = Share(model, f"{model}/merged", finetuned, asked, chunk)
    answer(engine, share, scratch)
    tables = [scratch.read_table(name, schema=COMPLETION) for name in share.chunks()]
    found = [row for table in tables for row in table.to_pylist()]
    said = {row["key"]: row for row in found}
    arm = next(iter(config.arms))
    scored: dict[str, dict[str, Any]] = {}
    for suite in suites:
        own = examples[suite.name]
        mine = [said[key_of(suite.name, i)] for i in range(len(own))]
        scored[suite.name] = {
            arm: score_suite(
                suite, [m["text"] for m in mine], [r["answer"] for r in own],
                [m["finish_reason"] == "error" for m in mine], prompts=[r["prompt"] for r in own],
                resamples=evaluate.resamples, confidence=evaluate.confidence, seed=config.seed,
                thoughts=thoughts_of(config.model),
            )
        }  # fmt: skip
    only = config.model_copy(
        update={"arms": {arm: _plain(config, arm)}, "evaluate": _alone(config)}
    )
    return {suite: own[arm] for suite, own in assemble(only, scored)["suites"].items()}


def _plain(config: RunConfig, arm: str) -> Any:
    return config.arms[arm].model_copy(update={"snapshots": []})


def _alone(config: RunConfig) -> Any:
    return config.evaluate.model_copy(update={"base": False, "systems": {}})


def _read(ingest: Folder, suite: str, rows: int) -> list[dict[str, Any]]:
    table = ingest.read_table(f"suite-{suite}.parquet", columns=["prompt", "answer"])
    return list(table.slice(0, rows).to_pylist())
