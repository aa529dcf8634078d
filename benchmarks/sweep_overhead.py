"""What a sweep costs beside the training and evaluation of its trials.

Twelve trials of the miniature (ratio x rate, on one synthesis) as users run them, on this machine.
Each reports the seconds that its optimizer steps and its evaluation took; at the same parallelism
these alone would take their sum over the number of trials side by side. ``overhead`` is the wall
time of the whole sweep over that: the start of Ray, the synthesis, the start of the trials'
processes, mixes, checkpoints, the page and whatever Tune does are in it. ``overhead_of_trials``
leaves out what comes before the first trial.

    python benchmarks/sweep_overhead.py

The last line is JSON; ``syntheses`` is how many there were.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

RATIOS = [0, 16, 32, 64]
RATES = [1e-3, 3e-3, 6e-3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400, help="of each trial; the demo's")
    parser.add_argument("--rows", type=int, default=128, help="of each suite; the demo's")
    arguments = parser.parse_args()
    storage = tempfile.mkdtemp(prefix="sweep-overhead-")
    try:
        print(json.dumps(measure(settings(storage, arguments.steps, arguments.rows))))
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def settings(storage: str, steps: int, rows: int) -> dict[str, Any]:
    suites = ["sep_unseen_tasks", "sep_unseen_phrasings", "sep_negated", "plain", "other_formats"]
    return {
        "name": "overhead", "storage": storage, "searcher": "grid", "search_rows": rows,
        "dimensions": {"mix.ratio": {"choice": RATIOS}, "finetune.lr": {"choice": RATES}},
        "confirm": {"seeds": 0},
        "run": {
            "downstream": {
                "path": "downstream", "format": "miniature", "rows": 16,
                "special_tokens": {"<sep>": "json"},
            },
            "corpus": [{"path": "corpus", "format": "miniature", "rows": 4000}],
            "synthesize": {
                "engine": {"type": "transformers", "batch_size": 128},
                "sampling": {"max_tokens": 96}, "held_out": 0,
                "reword": {
                    "per_row": 2, "registers": [""], "placement": ["after"],
                    "sampling": {"temperature": 1.0, "max_tokens": 64},
                },
            },
            "mix": {"ratio": 64, "max_length": 512},
            "finetune": {
                "workers": 1, "zero": 1, "steps": steps, "batch_size": 32, "micro_batch_size": 32,
                "warmup_steps": 5, "checkpoint_every": 1000, "trackers": [], "watch": {"every": 0},
            },
            "evaluate": {
                "engine": {"type": "transformers", "batch_size": 128}, "probes": 0,
                "suites": [
                    {"name": s, "path": s, "format": "miniature", "rows": rows} for s in suites
                ],
                "summary": suites, "resamples": 200,
            },
        },
    }  # fmt: skip


def measure(tree: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    found = run(tree)
    wall = time.monotonic() - began
    done = [t for t in found["trials"] if t["state"] == "done"]
    if len(done) != len(found["trials"]):
        sys.exit(f"not all trials were finished: {[t['error'] for t in found['trials']]}")
    work = sum(t["seconds"]["training"] + t["seconds"]["evaluation"] for t in done)
    counted = found["counters"]
    at_once = min(counted["side_by_side"], len(done))
    return {
        "benchmark": "sweep_overhead",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"CPU, {os.cpu_count()} cores",
        "trials": len(done),
        "side_by_side": at_once,
        "steps": tree["run"]["finetune"]["steps"],
        "seconds_of_work": round(work, 1),
        "seconds_of_pool": counted["seconds_of_pool"],
        "seconds": round(wall, 1),
        "overhead_of_trials": round(counted["overhead"], 3),
        "overhead": round(wall * at_once / work, 3),
        "syntheses": counted["syntheses"],
    }


def run(tree: dict[str, Any]) -> dict[str, Any]:
    """A whole sweep, with a line for each stage and now and then one for the trials."""
    from delia_ray import runtime
    from delia_ray.config import Sweep, checked
    from delia_ray.sweep.run import Told, sweep

    class Stages:
        def begin(self, number: int, stage: Any) -> Any:
            return lambda done, total, note="": None

        def end(self, number: int, stage: Any, manifest: dict[str, Any], skipped: bool) -> None:
            print(f"{stage.name} {manifest['summary']} [{manifest['seconds']} s]", flush=True)

    @contextlib.contextmanager
    def trials(title: str) -> Iterator[Any]:
        said = {"over": -1.0}

        def tell(done: float, total: float, note: str = "") -> None:
            if done > said["over"]:
                said["over"] = done
                print(f"{title} {note}", flush=True)

        yield tell

    try:
        return sweep(checked(Sweep, tree), Told(lambda title: Stages(), trials, print))
    finally:
        runtime.disconnect()


if __name__ == "__main__":
    main()
