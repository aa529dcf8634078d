"""Training of a real model: ours, TRL packed, TRL padded, and bare matrix products as the limit.

    python benchmarks/real_model.py --model FOLDER --downstream ROWS --corpus ROWS \
        --trl trl/bin/python

The same rows, LoRA and precision (``finetune.precision: auto`` of this machine) on all sides, in
packs of ``--max-length`` tokens; each side in a process of its own, in turn, several times; see
``finetune_throughput.py``. The limit multiplies matrices of the shapes of the model's layers and
of its head, forward and backward to their inputs, for one pack, and nothing else; the head for
all tokens, though only supervised ones need it.

The last line is JSON: medians. ``ratio_packed`` and ``ratio_padded`` are our tokens per second
over the other side's, ``share_of_limit`` is over the limit's; ``cores_busy`` is CPU seconds over
wall seconds of the whole side, its start included; ``peak_gib`` is the most memory that a side's
processes held together (PSS). Without ``--trl`` only ours and the limit run.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import finetune_throughput as throughput
import psutil
from mix_and_pack import prepare

EVERY = 0.5
"""Seconds between two looks at the processes."""
Key = tuple[int, float]


class Observed:
    """CPU seconds and peak memory of every process that starts within the block; those of Ray
    are not all children of this one."""

    def __enter__(self) -> "Observed":
        self.before = {_key(p) for p in psutil.process_iter()}
        self.cpu: dict[Key, float] = {}
        self.peak, self.began = 0, time.monotonic()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.seconds = time.monotonic() - self.began

    def _watch(self) -> None:
        while not self.over.wait(EVERY):
            held = 0
            for process in psutil.process_iter():
                if _key(process) in self.before:
                    continue
                try:
                    times = process.cpu_times()
                    self.cpu[_key(process)] = times.user + times.system
                    held += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, held)

    def figures(self) -> dict[str, float]:
        """What was seen."""
        busy = sum(self.cpu.values()) / self.seconds
        return {"cores_busy": round(busy, 2), "peak_gib": round(self.peak / 2**30, 2)}


def _key(process: psutil.Process) -> Key:
    try:
        return process.pid, process.create_time()
    except psutil.NoSuchProcess:
        return process.pid, 0.0


def limit(model: Path, tokens: int, threads: int, seconds: float = 10.0) -> dict[str, Any]:
    """Tokens per second of the products alone."""
    import torch

    from delia_ray.causal_models import load_causal
    from delia_ray.finetune.engine import dtype

    torch.set_num_threads(threads)
    whole = load_causal(str(model), dtype=dtype("auto"))
    layers = [m for m in whole.modules() if isinstance(m, torch.nn.Linear)]
    weights = [m.weight.detach() for m in layers]
    inputs = {w.shape[1]: torch.randn(tokens, w.shape[1], dtype=w.dtype) for w in weights}
    outputs = {w.shape[0]: torch.randn(tokens, w.shape[0], dtype=w.dtype) for w in weights}

    def once() -> None:
        for weight in weights:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)
            torch.mm(outputs[weight.shape[0]], weight)

    once()
    began, cpu, made = time.monotonic(), time.process_time(), 0
    while time.monotonic() - began < seconds:
        once()
        made += tokens
    return {
        "side": "limit",
        "tokens_per_second": round(made / (time.monotonic() - began), 1),
        "tokens_per_cpu_second": round(made / (time.process_time() - cpu), 1),
    }


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.side:
        print(json.dumps(limit(arguments.work / "model", arguments.max_length, arguments.cores)))
        return
    work = Path(tempfile.mkdtemp(prefix="real-model-"))
    try:
        prepare(arguments, work)
        packs = throughput._mix(arguments, work)
        sides = _sides(arguments, work, packs)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for turn in range(arguments.repeats):
            for name in sorted(sides, reverse=bool(turn % 2)):
                with Observed() as seen:
                    found = sides[name]()
                runs[name].append(found | seen.figures())
                print(f"{turn + 1}/{arguments.repeats} {name:7} {runs[name][-1]}", flush=True)
        print(json.dumps(_summary(arguments, runs)))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sides(
    arguments: argparse.Namespace, work: Path, packs: int
) -> dict[str, Callable[[], dict[str, Any]]]:
    alone = [
        throughput.sys.executable, __file__, "--side", "limit", "--work", str(work),
        "--max-length", str(arguments.max_length), "--cores", str(arguments.cores),
        "--model", "", "--downstream", "", "--corpus", "",
    ]  # fmt: skip
    sides: dict[str, Callable[[], dict[str, Any]]] = {
        "ours": lambda: throughput._run_ours(arguments, work, arguments.cores),
        "limit": lambda: throughput._last_line(alone),
    }
    if arguments.trl:
        micro = 4
        sides["packed"] = lambda: throughput._run_trl(arguments, work, "packed", 1, packs)
        sides["padded"] = lambda: throughput._run_trl(
            arguments, work, "padded", micro, throughput.BATCH // micro
        )
    return sides


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder or hub id")
    parser.add_argument("--downstream", required=True, help="file of rows with answers")
    parser.add_argument("--corpus", required=True, help="file of diverse rows with answers")
    parser.add_argument("--trl", help="python of the environment with TRL")
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=4, help="in all")
    parser.add_argument("--warmup-steps", type=int, default=1, help="of them, not counted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--side", choices=["limit"], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(gpu=False, packs=1, profile=0, shape=None)
    return parser


def _summary(
    arguments: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    def median(side: str, key: str) -> float:
        return float(statistics.median(run[key] for run in runs[side]))

    speed = {side: median(side, "tokens_per_second") for side in runs}
    found: dict[str, Any] = {
        "benchmark": "real_model",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"CPU, {arguments.cores} cores",
        "model": Path(arguments.model).name,
        "repeats": arguments.repeats,
        "share_of_limit": round(speed["ours"] / speed["limit"], 3),
        "tokens_per_second": speed,
        "cores_busy": {side: median(side, "cores_busy") for side in runs},
        "peak_gib": {side: median(side, "peak_gib") for side in runs},
    }
    for side in ("packed", "padded"):
        if side in runs:
            found[f"ratio_{side}"] = round(speed["ours"] / speed[side], 3)
    return found


if __name__ == "__main__":
    main()
