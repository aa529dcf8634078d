"""A study whose figures are invented: smooth formulas, so that nobody takes them for real."""

import math
from typing import Any

import pytest

from delia_ray.study.page import render

RATIOS = [0, 8, 16, 32, 67, 135, 260, 520]
SEEDS = 5
SUITES = {
    "format": {
        "sep_unseen_tasks": 128,
        "sep_unseen_phrasings": 128,
        "sep_negated": 96,
        "plain": 64,
    },
    "translation": {"new_sentences": 128, "words": 64},
}
MODES = ("equal_steps", "equal_exposure")
EVIL = "<script>alert('x')</script> | https://example.org/x.js"


def invented() -> dict[str, Any]:
    return {
        "design": {
            "ratios": RATIOS, "seeds": SEEDS, "steps": 400, "exposure": 128, "batch_size": 16,
            "baselines": ["common", "replay", "no rewording", "gold answers"],
            "tasks": {task: {"suites": suites} for task, suites in SUITES.items()},
            "model": "miniature", "seconds": 4321.0, "device": "2 CPU cores", "confidence": 0.95,
        },
        "claims": claims(),
        "by_ratio": by_ratio(),
        "baselines": baselines(),
        "contrasts": [
            {"name": name, "value": v, "low": v - 0.05, "high": v + 0.05, "p": p, "says": says}
            for name, v, p, says in (
                ("self-sampling", 0.11, 0.0004, "the model's own answers against the gold ones"),
                ("rewording", 0.03, 0.21, "many phrasings of the task against one"),
                ("volume", -0.07, 0.012, "520 diverse rows for each downstream row against 67"),
            )
        ],
        "distance": [
            {
                "ratio": r, "mode": mode, "seed": seed, "steps": list(range(0, 401, 20)),
                "values": [
                    floor + (22 - floor) * math.exp(-s / (60 + r / 10)) + 0.2 * seed * (s > 0)
                    for s in range(0, 401, 20)
                ],
            }
            for mode in MODES for r in RATIOS for seed in range(SEEDS)
            for floor in [7 - 0.7 * math.log10(1 + r)]
        ],
        "retention": [
            {
                "ratio": r, "mode": mode, "adapt": a, "adapt_low": a - 0.03, "adapt_high": a + 0.03,
                "retain": k, "retain_low": k - 0.02, "retain_high": k + 0.015,
            }
            for mode in MODES for i, r in enumerate(RATIOS)
            for a in [score("translation", mode, "mean", r)] for k in [0.5 + 0.48 * (1 - 2**-i)]
        ],
        "forgotten": [
            {
                "ratio": r, "mode": "equal_steps", "group": group, "before": 64,
                "after": 64 - n, "forgotten": n, "learned": 2,
            }
            for i, r in enumerate(RATIOS) for group in ("json", "list") for n in [24 // (i + 1)]
        ],
        "probes": [
            {
                "arm": arm, "layer": layer, "l2": 10.0 / layer, "cosine": 0.9, "cka": 0.8,
                "control_l2": 22.0,
            }
            for arm in ("common", "delia") for layer in (1, 2, 3)
        ],
        "neighbours": [
            {"arm": "delia", "token": "<sep>", "neighbours": [["json", 0.71], ["format", 0.55]]},
            {"arm": "common", "token": "<sep>", "neighbours": [[EVIL, 0.31]]},
        ],
    }  # fmt: skip


def score(task: str, mode: str, suite: str, ratio: float) -> float:
    x = math.log2(1 + ratio) / 10
    height = 0.55 + 0.4 * x if task == "format" else 0.62 - 0.45 * x**2
    loss = 0.12 * x if mode == "equal_steps" else 0.0
    return round(max(0.02, min(0.97, height - loss + 0.01 * (len(suite) % 5 - 2))), 4)


def by_ratio() -> list[dict[str, Any]]:
    return [
        {
            "task": task, "mode": mode, "metric": "exact_match", "suite": suite, "ratio": r,
            "value": v, "low": max(0.0, v - 0.06), "high": min(1.0, v + 0.05), "seeds": SEEDS,
        }
        for task, suites in SUITES.items() for mode in MODES
        for suite in ["mean", *suites] for r in RATIOS for v in [score(task, mode, suite, r)]
    ]  # fmt: skip


def baselines() -> list[dict[str, Any]]:
    return [
        {
            "arm": arm, "metric": "exact_match", "suite": suite, "value": v, "low": v - 0.04,
            "high": v + 0.04,
            "difference": None if arm == "delia" else {
                "value": 0.9 - v, "low": 0.85 - v, "high": 0.95 - v, "p": p,
            },
        }
        for suite in ("mean", "plain")
        for arm, v, p in (
            ("delia", 0.9, None), ("common", 0.7, 0.0002), ("replay", 0.88, 0.34),
            ("no rewording", 0.82, 0.03), ("gold answers", 0.97, 0.04),
        )
    ]  # fmt: skip


def claims() -> list[dict[str, Any]]:
    return [
        {
            "id": "format", "claim": "Formatted text generation gets more accurate.",
            "paper": "+36.1 % accuracy, Llama2-7b-chat.",
            "ours": "+0.20 exact match over common instruction tuning at ratio 67.",
            "interval": [0.14, 0.26], "value": 0.2, "verdict": "holds",
            "because": "The interval excludes zero in both modes.", "smallest_seen": 0.06,
        },
        {
            "id": "translation", "claim": "Translation gets better than with common tuning.",
            "paper": "+17.07 % to +33.41 % BLEURT, Icelandic-English, gemma-7b-it.",
            "ours": "−0.13 exact match on new sentences at equal exposure.",
            "interval": [-0.2, -0.06], "value": -0.13, "verdict": "does not hold",
            "because": "On the miniature the invented language is learned less well at any ratio.",
            "smallest_seen": 0.05,
        },
        {
            "id": "meaning", "claim": f"A new token takes the meaning of its description. {EVIL}",
            "paper": "“DO NOT the <sep> format” gives a plain answer.",
            "ours": "+0.02 on negated requests.", "interval": [-0.03, 0.07], "value": 0.02,
            "verdict": "cannot tell", "because": "The interval includes zero.",
            "smallest_seen": 0.09,
        },
        {
            "id": "state", "claim": "More diverse data brings the internal state nearer.",
            "paper": "Distance ends near 6.9 (none), 5.5 (135), 5.1 (260), 4.8 (520).",
            "ours": "No figure: the probe was not run.", "interval": None, "value": None,
            "verdict": "cannot tell", "because": "Nothing was measured.", "smallest_seen": 0.5,
        },
    ]  # fmt: skip


@pytest.fixture(scope="session")
def page() -> str:
    """The whole study, rendered once: its many plots take a while."""
    return render(invented())


@pytest.fixture
def study() -> dict[str, Any]:
    return invented()
