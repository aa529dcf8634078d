"""Evaluation: are all cores busy, and how often is an engine started?

Three models (the base and two arms that are copies of it) answer 2,000 prompts each, through the
stage as users run it, on this machine. Half a second apart, the share of all cores that this
process and those below it use is noted, from the first to the last answer.

    python benchmarks/evaluation.py

The last line is JSON; ``cores_busy`` is the median share of the cores, 1 for all.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

ARMS = ("one", "two")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=2000, help="of each model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="evaluation-"))
    try:
        runs = []
        for turn in range(arguments.repeats):
            runs.append(_run(arguments, work / str(turn)))
            print(f"{turn + 1}/{arguments.repeats} {runs[-1]}", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    figures = {
        "benchmark": "evaluation",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"CPU, {os.cpu_count()} cores",
        "repeats": arguments.repeats,
        "models": len(ARMS) + 1,
        "prompts_of_each": arguments.prompts,
        "engine_starts_of_a_model": max(r["engine_starts"] for r in runs),
    }
    for name in ("cores_busy", "seconds_answering", "prompts_per_second"):
        figures[name] = round(statistics.median(r[name] for r in runs), 3)
    print(json.dumps(figures))


def _run(arguments: argparse.Namespace, root: Path) -> dict[str, Any]:
    from delia_ray import miniature, runtime
    from delia_ray.artifacts import open_storage
    from delia_ray.config import RunConfig
    from delia_ray.evaluate.stage import STAGE
    from delia_ray.records import ANSWER, EXAMPLE, conform, content_id
    from delia_ray.stage import StageRun

    folder = open_storage(str(root))
    rows = []
    for row in miniature.rows("other_formats", arguments.prompts):
        prompt, answer = row["messages"][:-1], row["messages"][-1]["content"]
        origin = {"source": "s", "file": "f", "row": 1}
        rows.append(
            {"id": content_id(prompt, answer), **origin, "prompt": prompt, "answer": answer}
        )
    (folder / "ingest").write_table("suite-s.parquet", conform(rows, EXAMPLE))
    (folder / "ingest").write_table("downstream.parquet", conform(rows[:1], EXAMPLE))
    (folder / "synthesize").write_table("held_out.parquet", conform([], ANSWER))
    for arm in ARMS:
        shutil.copytree(miniature.MODEL_PATH, root / "finetune" / arm / "merged")
    suite = {"name": "s", "path": "other_formats", "format": "miniature"}
    config = RunConfig.model_validate(
        {
            "arms": {name: {} for name in ARMS},
            "finetune": {"workers": 1},
            "evaluate": {
                "engine": {"type": "transformers", "batch_size": arguments.batch_size},
                "suites": [suite], "summary": [], "probes": 0, "resamples": 100,
            },
        }
    )  # fmt: skip
    runtime.connect(config)
    watch = _Watch(folder / "evaluate" / "parts" / "answers", 3 * arguments.prompts)
    inputs = {name: folder / name for name in STAGE.needs}
    try:
        outcome = STAGE.run(StageRun(config, folder, folder / "evaluate", inputs, watch.progress))
    finally:
        watch.stop()
        runtime.disconnect()
    counts = outcome.counts
    if any(n != arguments.prompts for n in counts["answered"].values()):
        sys.exit(f"not all prompts were answered: {counts['answered']}")
    seconds = counts["seconds"]["answering"]
    return {
        "cores_busy": round(statistics.median(watch.shares), 3),
        "engine_starts": max(counts["engine_starts"].values()),
        "seconds_answering": seconds,
        "seconds_loading": counts["seconds_loading"],
        "prompts_per_second": round(3 * arguments.prompts / seconds, 1),
    }


class _Watch:
    """Notes how busy the cores are while answers come."""

    def __init__(self, kept: Any, total: int) -> None:
        self.kept, self.total = kept, total
        self.shares: list[float] = []
        self._answering, self._over = False, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def progress(self, done: float, total: float, note: str = "") -> None:
        self._answering = total == self.total and 0 < done < total

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        me, known = psutil.Process(), {}
        cores = psutil.cpu_count() or 1
        while not self._over.wait(0.5):
            used = 0.0
            for process in [me, *me.children(recursive=True)]:
                try:
                    known.setdefault(process.pid, process)
                    used += known[process.pid].cpu_percent()
                except psutil.NoSuchProcess:
                    continue
            if self._answering:
                self.shares.append(used / 100 / cores)


if __name__ == "__main__":
    main()
