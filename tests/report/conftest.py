"""A small finished run, as the stages would leave it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig
from delia_ray.records import (
    ANSWER,
    EXAMPLE,
    GENERATION,
    METRIC_POINT,
    REJECT,
    REWORDING,
    conform,
    digest,
)
from delia_ray.stage import StageRun

EVIL = "<script>alert('row')</script> & \"<b>\" https://example.org/x.js </style></pre>"
ARMS = ("base", "common", "delia")
N = 8


def figures(value: float, half: float, n: int = N) -> dict[str, Any]:
    return {"value": value, "low": max(0, value - half), "high": value + half, "n": n}


def scores() -> dict[str, Any]:
    levels = dict(zip(ARMS, (0.0, 0.6123456789, 0.9), strict=True))
    words = {a: {"exact_match": figures(v, 0.05)} for a, v in levels.items()}
    texts = {
        a: {"chrf": figures(100 * v, 4.0), "exact_match": figures(v, 0.1)}
        for a, v in levels.items()
    }
    gap = {"delia": {"exact_match": {"value": 0.2876543211, "low": 0.1, "high": 0.4}}}
    return {
        "arms": list(ARMS), "baseline": "common",
        "suites": {"words": words, "texts": texts, "mean": words},
        "differences": {"words": gap, "mean": gap},
        "main": {"words": "exact_match", "texts": "chrf", "mean": "exact_match"},
        "mean_of": ["words"], "scales": {"exact_match": 1.0, "chrf": 100.0},
        "signatures": {"chrf": "nrefs:1|version:2.6.0"}, "confidence": 0.95, "resamples": 2000,
        "robustness": {"words": {arm: phrased(v) for arm, v in levels.items()}},
        "retention": {
            "base": {"loss": figures(0.5, 0.1), "groups": {}, "forgotten": {}},
            "delia": {
                "loss": figures(0.75, 0.1), "loss_difference": figures(0.25, 0.1),
                "groups": {
                    "words: json": {
                        "rows": 4, "before": 0.5, "after": 0.25, "forgotten": 2, "learned": 1,
                    }
                },
                "forgotten": {"words": [1, 3]},
            },
        },
    }  # fmt: skip


def phrased(value: float) -> dict[str, Any]:
    """As ``evaluate.robustness.Robustness``."""
    names = ("original", "mean", "worst_case", "worst_phrasing", "within_row_range",
             "consistency", "spread")  # fmt: skip
    return {
        **{name: figures(value, 0.1) for name in names}, "worst": 2, "spread_by_chance": 0.03,
        "phrasings": {}, "single": 0,
    }  # fmt: skip


def probes() -> dict[str, Any]:
    """As ``evaluate`` leaves it."""
    layers = {"l2": [0.0, 3.25], "cosine": [0.0, 0.1], "cka": [None, 0.9]}
    distance = {**layers, "last": {"l2": [3.0, 3.5], "cosine": [0.1, 0.1]}, "random": layers}
    near = {"input": [[EVIL, 0.7], ["json", 0.6]]}
    probe = {"token": "<sep>", "distance": distance, "patching": {}, "neighbours": near}
    angle = {"downstream": {"diverse": -0.125}, "diverse": {"downstream": -0.125}}
    gradients = {"norm": {"downstream": 2.0, "diverse": 0.5}, "cosine": angle, "projection": {}}
    skipped = {"skipped": "<sep> has no description"}
    return {
        "base": {
            "probes": {"<sep>": {**probe, "distance": skipped}}, "retention": {}, "gradients": {},
        },
        "delia": {"probes": {"<sep>": probe}, "retention": {}, "gradients": gradients},
    }  # fmt: skip


def counts() -> dict[str, Any]:
    source = {
        "files": 1, "read": 30, "records": 24, "rejects": {"layout": 2, "empty": 1},
        "duplicates": 2, "beyond_limit": 1,
    }  # fmt: skip
    arm = {
        "ratio_asked": 4.0, "ratio_realised": 4.0, "rows": {"downstream": 8, "diverse": 32},
        "supervised_tokens": {"downstream": 80, "diverse": 320}, "steps": 5,
    }  # fmt: skip
    return {
        "ingest": {"downstream": {EVIL: source}, "corpus": {"c": source}, "suites": {}, "files": 2},
        "synthesize": {
            "self_sample": {"asked": 40, "kept": 38, "set_aside": {"empty answer": 2}},
            "engine": "vllm", "tokens_per_second": 3912,
        },
        "mix": {"arms": {"common": arm, "delia": arm}, "seconds_spent": 3.5, "batch_size": 8},
        "finetune": {"arms": {"common": {"steps": 5, "loss": 0.1}}, "workers": 2},
        "evaluate": {"suites": {"words": N, "texts": N}, "errors": dict.fromkeys(ARMS, 0)},
    }  # fmt: skip


def write(root: Folder, seconds: float = 61.5, text: str = EVIL) -> StageRun:
    """The folders of all stages under ``root``."""
    config = RunConfig.model_validate(
        {
            "name": "tiny",
            "evaluate": {"suites": [{"name": "words", "path": "w"}], "summary": ["words"]},
        }
    )
    names = ("ingest", "synthesize", "mix", "finetune", "evaluate")
    at = {name: root / name for name in names}
    prompt = [{"role": "user", "content": f"{text}\n\nReverse the words."}]
    origin = {"source": "s", "file": text, "row": 1}
    at["ingest"].write_table(
        "downstream.parquet",
        conform([{"id": "d1", **origin, "prompt": prompt, "answer": "x"}], EXAMPLE),
    )
    at["ingest"].write_table(
        "rejects.parquet", conform([{**origin, "reason": text, "excerpt": text}] * 20, REJECT)
    )
    answer = {
        "source": "c", "prompt": prompt, "answer": text, "finish_reason": "stop",
        "completion_tokens": 3,
    }  # fmt: skip
    reasons = [None] * 38 + ["empty answer"] * 2
    answers = [{"id": str(i), **answer, "reason": r} for i, r in enumerate(reasons)]
    at["synthesize"].write_table("answers.parquet", conform(answers[:38], ANSWER))
    at["synthesize"].write_table("answers_set_aside.parquet", conform(answers[38:], ANSWER))
    timeline = [{"seconds": float(s), "rows": 9 * s, "tokens": 99 * s} for s in range(1, 9)]
    at["synthesize"].write_table("timeline.parquet", pa.Table.from_pylist(timeline))
    new = [{"role": "user", "content": f"{text}\n\nTurn the words round, please."}]
    at["synthesize"].write_table(
        "rewordings.parquet",
        conform(
            [
                {
                    "id": "d1",
                    "variant": 1,
                    "prompt": new,
                    "reason": None,
                    "register": "",
                    "placement": "after",
                }
            ],
            REWORDING,
        ),
    )
    for arm, diverse in (("common", None), ("delia", 1.5)):
        points = [
            {
                "step": s, "loss": 2.0 / s, "loss_downstream": 1.0 / s, "loss_diverse": diverse,
                "lr": 1e-4, "grad_norm": None, "tokens": 12, "supervised_tokens": 9,
                "supervised_downstream": 3, "regularisation": None, "seconds": seconds,
                "checkpoint_seconds": None, "memory_gib": 0.5, "mfu": None,
                "token_distance": 22.0 / s if s % 10 == 0 else None,
                "gradient_cosine": 0.1 - s / 100 if s % 10 == 0 else None,
                "gradient_norm_downstream": None, "gradient_norm_diverse": None,
            }
            for s in range(1, 31)
        ]  # fmt: skip
        (at["finetune"] / arm).write_table("curve.parquet", conform(points, METRIC_POINT))
    rows = [
        {
            "suite": suite, "arm": arm, "index": i, "prompt": prompt, "reference": text,
            "output": f"{text} {arm}", "finish_reason": "length" if i == 0 else "stop",
            "score": float(i < ARMS.index(arm) * 3) if suite == "words" else None,
        }
        for suite in ("words", "texts") for arm in ARMS for i in range(N)
    ]  # fmt: skip
    at["evaluate"].write_table("generations.parquet", conform(rows, GENERATION))
    at["evaluate"].write_json("scores.json", scores())
    at["evaluate"].write_json("probes.json", probes())
    for name in names:
        at[name].publish(
            {
                "stage": name, "fingerprint": digest(name), "settings": {},
                "inputs": {} if name == "ingest" else {"ingest": digest("ingest")},
                "counts": counts()[name], "summary": f"{name} {text}", "seconds": seconds,
                "created": f"2026-01-02T03:04:{seconds:04.1f}", "versions": {"ray": "2.60.0"},
            }
        )  # fmt: skip
    return StageRun(config, root, root / "report", at)


@pytest.fixture
def stage_run(tmp_path: Path) -> StageRun:
    return write(open_storage(str(tmp_path)))
