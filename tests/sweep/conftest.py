"""A small sweep of the miniature, and a result whose figures are invented."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delia_ray.config import Sweep
from delia_ray.sweep.records import Point, Record

RUN: dict[str, Any] = {
    "model": "miniature",
    "downstream": {"path": "downstream", "format": "miniature", "rows": 8,
                   "special_tokens": {"<sep>": "json"}},
    "corpus": [{"path": "corpus", "format": "miniature", "rows": 400}],
    "synthesize": {
        "engine": {"type": "transformers", "batch_size": 64}, "held_out": 0,
        "sampling": {"max_tokens": 48},
        "reword": {"per_row": 1, "registers": [""], "placement": ["after"],
                   "sampling": {"temperature": 1.0, "max_tokens": 48}},
    },
    "mix": {"ratio": 4, "max_length": 256, "overlong": "set_aside", "repeat": True},
    "finetune": {
        "workers": 1, "zero": 1, "steps": 6, "batch_size": 8, "micro_batch_size": 8,
        "warmup_steps": 1, "lr": 1e-3, "checkpoint_every": 3, "trackers": [],
        "watch": {"every": 0},
    },
    "evaluate": {
        "engine": {"type": "transformers", "batch_size": 32}, "max_tokens": 24,
        "suites": [
            {"name": "plain", "path": "plain", "format": "miniature", "rows": 8},
            {"name": "sep", "path": "sep_unseen_tasks", "format": "miniature", "rows": 8},
        ],
        "summary": ["plain", "sep"], "resamples": 100, "probes": 0,
    },
}  # fmt: skip


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., Sweep]:
    """A function that makes a sweep; keywords replace its settings."""

    def make(**settings: Any) -> Sweep:
        base: dict[str, Any] = {
            "name": "s",
            "storage": str(tmp_path / "runs"),
            "run": RUN,
            "dimensions": {
                "mix.ratio": {"choice": [0, 2, 8]},
                "finetune.lr": {"log": [1e-4, 1e-2]},
            },
            "trials": 4,
            "search_rows": 4,
            "cluster": {"num_cpus": 2},
        }
        return Sweep.model_validate(base | settings)

    return make


def point(step: int, plain: float, sep: float, answers: float = 8.0, half: float = 0.1) -> Point:
    """How an invented trial did."""

    def own(value: float) -> dict[str, dict[str, float]]:
        return {
            "exact_match": {"value": value, "low": value - half, "high": value + half, "n": 4},
            "chrf": {"value": 100 * value, "low": 0.0, "high": 100.0, "n": 4},
        }

    scores = {"plain": own(plain), "sep": own(sep), "mean": own((plain + sep) / 2)}
    return Point(step, scores, {"seconds": 2.0 * step, "tokens": 100.0 * step, "answers": answers})


def record(number: int, state: str = "done", **settings: Any) -> Record:
    """An invented trial."""
    base: dict[str, Any] = {
        "key": f"key{number}", "number": number, "purpose": "search", "parameters": {},
        "config": {}, "steps": 6, "points": [point(6, 0.5, 0.5)], "state": state,
        "facts": {
            "seconds": {"training": 10.0, "evaluation": 2.0, "all": 13.0}, "began": 100.0,
            "ended": 113.0, "stages": {"synthesize": "pool", "finetune": "f", "evaluate": "e"},
        } if state == "done" else {},
    }  # fmt: skip
    return Record(**(base | settings))
