"""Fine-tuning under fire: kills a part of it at a random step, over and over.

A real local cluster, Ray Train, DeepSpeed and ``delia finetune`` as users start it. Each run
loses one thing at a random step: a worker, Ray Train's controller, or the driver. What was
killed is not helped, but for what an operator does: a driver that ended is started again with
the same command, and in every fourth run with another number of workers. In the end the
adapter must be that of an undisturbed run to the bit, or (another number of workers) every
later loss within 1e-4 of its; and no more steps may be made again than lie between two
checkpoints.

    python benchmarks/chaos_finetune.py --runs 20 --out benchmarks/results     (make chaos)

The last line is JSON; the exit code is 1 when any run broke a promise.
"""

import argparse
import json
import os
import random
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import under_fire
from safetensors.numpy import load_file

from delia_ray.artifacts import Folder

KINDS = ("worker", "controller", "driver")
TITLES = {"worker": "ray::RayTrainWorker", "controller": "ray::TrainController"}
"""How the processes of a kind call themselves."""
SHAPES = ((2, 2), (1, 1), (3, 3), (2, 3), (3, 1), (1, 2))
"""(ZeRO stage, workers), in turn."""
EVERY = 10
LIMIT = 420.0
COLUMNS = ("run", "killed", "ZeRO", "workers", "at step", "went on after", "driver starts",
           "steps made again", "equal", "good", "seconds")  # fmt: skip
_RESUMED = re.compile(r"goes on after step (\d+) on (\d+) workers")


@dataclass
class Result:
    """What one run came to."""

    run: int
    killed: str
    zero: int
    workers: str
    """At the start, and after the kill where it is another number."""
    at_step: int
    """The last one that was told of before the (first) kill."""
    went_on_at: list[int]
    starts: int
    """Times the driver was started."""
    lost: int
    """Steps made again after a kill, at most."""
    equal: str
    """``bits``, or the largest relative difference of a loss."""
    good: bool
    seconds: float


class Place(under_fire.Place):
    """One node."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments.keep, cpus=4)
        self.arguments = arguments

    def command(self, verb: str, storage: Path, zero: int, workers: int) -> list[str]:
        steps = self.arguments.steps
        own = {
            "zero": zero, "workers": workers, "steps": steps, "checkpoint_every": EVERY,
            "batch_size": 48, "micro_batch_size": 4, "precision": "fp32", "max_failures": 3,
            "lr": 2e-4,
            "lora": {"dropout": 0.0 if self.arguments.no_dropout else 0.05},
        }  # fmt: skip
        return [
            sys.executable, "-m", "delia_ray.cli", verb, "name=chaos", f"storage={storage}",
            f"cluster.address={self.cluster.address}", "downstream.rows=16", "mix.ratio=8",
            "corpus=[{path: corpus, format: miniature, rows: 400}]",
            "synthesize.engine={type: transformers, batch_size: 64}", "arms=[delia]",
            'synthesize.reword={per_row: 1, registers: [""]}', f"finetune={json.dumps(own)}",
        ]  # fmt: skip

    def start(self, storage: Path, zero: int, workers: int) -> under_fire.Driver:
        return under_fire.start(self.command("finetune", storage, zero, workers), storage)

    def finish(
        self, driver: under_fire.Driver, storage: Path, zero: int, workers: int, began: float
    ) -> int:
        def again() -> under_fire.Driver:
            return self.start(storage, zero, workers)

        return under_fire.finish(driver, again, storage, began, LIMIT)

    def mixed(self, name: str) -> Path:
        """A storage folder whose mix is done."""
        return self.fresh(name, lambda storage: self.command("mix", storage, 1, 1))


def main() -> int:
    arguments = _parser().parse_args()
    os.environ.update(under_fire.ENV)
    place = Place(arguments)
    try:
        return _all(place, arguments)
    finally:
        place.close()


def _all(place: Place, arguments: argparse.Namespace) -> int:
    rng = random.Random(arguments.seed)
    kinds, shapes = arguments.kinds.split(","), SHAPES[: arguments.shapes]
    wanted: dict[tuple[int, int], Path] = {}
    results = []
    for number in range(1, arguments.runs + 1):
        shape = shapes[(number - 1) % len(shapes)]
        if shape not in wanted:
            wanted[shape] = place.mixed(f"undisturbed-{shape[0]}-{shape[1]}")
            began = time.monotonic()
            place.finish(place.start(wanted[shape], *shape), wanted[shape], *shape, began)
            print(f"undisturbed {shape}: {time.monotonic() - began:.0f} s", flush=True)
        kind = kinds[(number - 1) % len(kinds)]
        result = _run(place, number, kind, shape, rng, wanted[shape])
        print("ok    " if result.good else "BROKEN", result, flush=True)
        results.append(result)
    figures = {
        "benchmark": "chaos_finetune",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"CPU, {os.cpu_count()} cores",
        "runs": len(results),
        "broken": sum(not r.good for r in results),
        "steps": arguments.steps,
        "checkpoint_every": EVERY,
        "equal_to_the_bit": sum(r.equal == "bits" for r in results),
        "most_steps_lost": max(r.lost for r in results),
    }
    if arguments.out:
        under_fire.report(
            arguments.out, "Fine-tuning under fire",
            f": {figures['runs']} runs of {figures['steps']} steps, a checkpoint every {EVERY}; "
            f"{figures['broken']} broken. `equal`: `bits` where the adapter is that of the "
            "undisturbed run to the bit, else the largest relative difference of a loss.",
            COLUMNS, figures, results,
        )  # fmt: skip
    print(json.dumps(figures))
    return int(figures["broken"] > 0)


def _parser() -> argparse.ArgumentParser:
    parser = under_fire.parser(__doc__, "chaos_finetune")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of each run")
    parser.add_argument("--kinds", default=",".join(KINDS), help="in turn; one+other in one run")
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="how many of them")
    # Dropout differs with the number of workers, so losses could not be compared.
    parser.add_argument("--dropout", dest="no_dropout", action="store_false")
    return parser


def _run(
    place: Place, number: int, kind: str, shape: tuple[int, int], rng: random.Random, whole: Path
) -> Result:
    began, (zero, workers) = time.monotonic(), shape
    storage = place.mixed(f"run-{number}")
    driver, starts, after = place.start(storage, zero, workers), 1, workers
    died, at = [], []
    for one, target in zip(kind.split("+"), _targets(place, kind, rng), strict=True):
        while _step(storage) < target and driver.poll() is None:
            if time.monotonic() - began > LIMIT:
                sys.exit(f"no step {target} within {LIMIT:g} s\n{under_fire.tail(storage)}")
            time.sleep(0.02)
        if driver.poll() is not None:
            sys.exit(f"{storage}: ended before anything was killed; take more --steps")
        died.append(_kill(one, driver))
        at.append(_step(storage))
        if one == "driver":
            driver.wait()
            if number % 4 == 3:  # the operator has fewer or more nodes now
                after = 1 + workers % 3
            driver, starts = place.start(storage, zero, after), starts + 1
    starts += place.finish(driver, storage, zero, after, began)
    log = (storage / "chaos" / "log.txt").read_text(errors="replace")
    resumed = [int(step) for step, _ in _RESUMED.findall(log)]
    # A worker group that finds no checkpoint says nothing, and begins at the beginning.
    lost = max(a - r for a, r in zip(at, resumed or [0], strict=len(at) > 1))
    good, equal = _compare(_found(storage), _found(whole), exactly=after == workers)
    shown = str(workers) if after == workers else f"{workers}, then {after}"
    return Result(
        number, ", ".join(died), zero, shown, at[0], resumed, starts, lost, equal,
        good and lost <= EVERY, round(time.monotonic() - began, 1),
    )  # fmt: skip


def _targets(place: Place, kind: str, rng: random.Random) -> list[int]:
    """The step of each kill; where there are several, each after a checkpoint of its own."""
    # What is told of the steps is a second old, so not the last ones.
    end, kills = place.arguments.steps - 2 * EVERY, kind.count("+") + 1
    if kills == 1:
        return [rng.randrange(EVERY // 2, end)]
    width = (end - EVERY) // kills
    return [EVERY + 2 + i * width + rng.randrange(max(1, width - EVERY)) for i in range(kills)]


def _kill(kind: str, driver: under_fire.Driver) -> str:
    """Kill one thing of ``kind``; says what."""
    if kind in TITLES and under_fire.kill(TITLES[kind]):
        return kind
    driver.kill()
    return "driver" if kind == "driver" else f"driver (no {kind} was up)"


def _step(storage: Path) -> int:
    """The last step that rank 0 told of."""
    for file in (storage / "chaos" / "finetune").glob("*/progress.json"):
        try:
            return int(json.loads(file.read_text())["step"])
        except (ValueError, OSError):  # being replaced
            return 0
    return 0


def _found(storage: Path) -> tuple[dict[str, Any], list[float]]:
    (made,) = (storage / "chaos" / "finetune").glob("*/manifest.json")
    arm = made.parent / "delia"
    losses = Folder(str(arm)).read_table("curve.parquet")["loss"].to_pylist()
    return load_file(arm / "adapter" / "adapter_model.safetensors"), losses


def _compare(found: Any, wanted: Any, exactly: bool) -> tuple[bool, str]:
    """(whether the promise is kept, how near it came)."""
    (weights, losses), (others, expected) = found, wanted
    same = weights.keys() == others.keys() and all(
        (weights[name] == others[name]).all() for name in others
    )
    if same:
        return losses == expected, "bits"
    away = max(abs(a - b) / b for a, b in zip(losses, expected, strict=True))
    return not exactly and away <= 1e-4, f"{away:.1e}"


if __name__ == "__main__":
    sys.exit(main())
