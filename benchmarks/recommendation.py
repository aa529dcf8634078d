"""Does the fit know what it does not know? A ratio is hidden from it, and then looked at.

Seven ratios of the miniature are trained with ten seeds, all on one synthesis. For each seed, the
fit sees the trials of ratios up to 135 alone and says between which scores one training at 260
will come out, with 95 % confidence; ``inside`` is in how many of the ten it did.

    python benchmarks/recommendation.py

The last line is JSON. Killed, it goes on where it stopped if ``--storage`` is given.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sweep_overhead import run
from sweep_overhead import settings as small

SEEN = [0, 8, 16, 32, 67, 135]
HIDDEN = 260
CONFIDENCE = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100, help="of each training")
    parser.add_argument("--rows", type=int, default=64, help="of each suite")
    parser.add_argument("--storage", help="folder that stays")
    arguments = parser.parse_args()
    storage = arguments.storage or tempfile.mkdtemp(prefix="recommendation-")
    try:
        found = run(settings(storage, arguments))
    finally:
        if not arguments.storage:
            shutil.rmtree(storage, ignore_errors=True)
    rows = [judge(found["trials"], seed) for seed in range(arguments.seeds)]
    for row in rows:
        print(row, flush=True)
    figures = {
        "benchmark": "recommendation",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"CPU, {os.cpu_count()} cores",
        "seeds": len(rows),
        "steps": arguments.steps,
        "seen": SEEN,
        "hidden": HIDDEN,
        "confidence": CONFIDENCE,
        "median_width": round(sorted(r["high"] - r["low"] for r in rows)[len(rows) // 2], 3),
        "inside": sum(r["inside"] for r in rows),
        "syntheses": found["counters"]["syntheses"],
    }
    print(json.dumps(figures))


def settings(storage: str, arguments: argparse.Namespace) -> dict[str, Any]:
    tree = small(storage, arguments.steps, arguments.rows)
    own = tree["run"]
    own["downstream"]["rows"] = 64
    own["corpus"][0]["rows"] = 20000
    own["synthesize"]["engine"] = {"type": "vllm", "max_model_len": 512}
    own["finetune"]["lr"] = 3e-3
    tree["name"] = "recommendation"
    tree["dimensions"] = {
        "training_seed": {"choice": list(range(arguments.seeds))},
        "mix.ratio": {"choice": [*SEEN, HIDDEN]},
    }
    return tree


def judge(trials: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """What the fit of one seed says of the hidden ratio, and what came."""
    from delia_ray.sweep.fit import axis, fit, inputs

    own = {
        t["parameters"]["mix.ratio"]: t for t in trials if t["parameters"]["training_seed"] == seed
    }
    ratio = axis("mix.ratio", [*SEEN, HIDDEN], HIDDEN, "ratio")
    errors = [(own[r]["high"] - own[r]["low"]) / 2 / 1.96 for r in SEEN]
    learned = fit(
        inputs([ratio], [{"mix.ratio": r} for r in SEEN]), [own[r]["score"] for r in SEEN], errors
    )
    said = learned.predict(
        inputs([ratio], [{"mix.ratio": HIDDEN}]), new=True, error=sum(errors) / len(errors)
    )
    low, high = (float(end[0]) for end in said.interval(CONFIDENCE))
    came = own[HIDDEN]["score"]
    return {
        "seed": seed, "expected": round(float(said.mean[0]), 4), "low": round(low, 4),
        "high": round(high, 4), "came": round(came, 4), "inside": low <= came <= high,
    }  # fmt: skip


if __name__ == "__main__":
    main()
