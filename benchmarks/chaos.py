"""Synthesis under fire: kills a part of it at a random moment, over and over.

A real local cluster (a head that runs nothing, and a second raylet that holds the engines),
real vLLM, and ``delia synthesize`` as users start it. Each run loses one thing at a random
moment: vLLM's engine process, an actor (the engine's or the queue that feeds it), the second
raylet with everything on it, or the driver. What was killed is not helped, but for what an
operator does: a lost node is replaced, a dead driver is started again with the same command.
In the end the rows must be those of an undisturbed run (greedy decoding), none twice and none
missing, and no more may have been generated again than was in flight.

    python benchmarks/chaos.py --runs 20 --out benchmarks/results     (make chaos)

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

from delia_ray.artifacts import Folder

KINDS = ("engine", "actor", "queue", "node", "driver")
TITLES = {"engine": "VLLM::EngineCore", "actor": "ray::MapWorker", "queue": "ray::_Queue"}
"""How the processes of a kind call themselves."""
BATCH, AT_ONCE = 64, 4
IN_FLIGHT = BATCH * (2 * AT_ONCE + 1)
"""Rows that the engine, its queue and the way there hold at most."""
LIMIT = 600.0
COLUMNS = ("run", "killed", "at", "driver starts", "answers", "written twice", "generated again",
           "equal", "seconds")  # fmt: skip
_BATCH_DONE = re.compile(r"Elapsed time for batch \w+ with size (\d+)")


@dataclass
class Result:
    """What one run came to."""

    run: int
    killed: str
    at: str
    """Rows in the cache when it was killed, or seconds after the start."""
    starts: int
    """Times the driver was started."""
    rows: int
    written_twice: int
    generated_again: int
    """Rows of batches that an engine finished more than once."""
    equal: bool
    seconds: float

    @property
    def good(self) -> bool:
        return self.equal and max(self.written_twice, self.generated_again) <= IN_FLIGHT


class Place(under_fire.Place):
    """A head that runs nothing, and a node that holds the engines."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments.keep, cpus=0)
        self.arguments = arguments
        self.node = self.cluster.add_node(num_cpus=2)
        self.cluster.wait_for_nodes()

    def replace_node(self) -> None:
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.node = self.cluster.add_node(num_cpus=2)

    def command(self, verb: str, storage: Path) -> list[str]:
        rows, engine = self.arguments.rows, self.arguments.engine
        kind = (
            f"{{type: vllm, max_model_len: 512, batch_size: {BATCH}, "
            f"max_concurrent_batches: {AT_ONCE}}}"
            if engine == "vllm"
            else f"{{type: transformers, batch_size: {BATCH}}}"
        )
        greedy = "{temperature: 0, max_tokens: 96}"
        return [
            sys.executable, "-m", "delia_ray.cli", verb, "name=chaos", f"storage={storage}",
            f"cluster.address={self.cluster.address}", "downstream.rows=16",
            f"corpus=[{{path: corpus, format: miniature, rows: {2 * rows}}}]",
            f"mix.ratio={rows / 16:g}", "finetune.workers=1", f"synthesize.engine={kind}",
            f"synthesize.sampling={greedy}",
            f'synthesize.reword={{per_row: 2, registers: [""], sampling: {greedy}}}',
        ]  # fmt: skip

    def start(self, storage: Path) -> under_fire.Driver:
        return under_fire.start(self.command("synthesize", storage), storage)

    def finish(self, driver: under_fire.Driver, storage: Path, began: float) -> int:
        return under_fire.finish(driver, lambda: self.start(storage), storage, began, LIMIT)

    def ingested(self, name: str) -> Path:
        """A storage folder whose ingest is done."""
        return self.fresh(name, lambda storage: self.command("ingest", storage))


def main() -> int:
    arguments = _parser().parse_args()
    os.environ.update(under_fire.ENV)
    place = Place(arguments)
    try:
        return _all(place, arguments)
    finally:
        place.close()


def _all(place: Place, arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    storage = place.ingested("undisturbed")
    place.finish(place.start(storage), storage, began)
    whole, wanted = time.monotonic() - began, _rows(storage)
    print(f"undisturbed: {len(wanted['answers']):,} answers in {whole:.0f} s", flush=True)
    rng = random.Random(arguments.seed)
    kinds = arguments.kinds.split(",")
    results = []
    for number in range(1, arguments.runs + 1):
        kind = kinds[(number - 1) % len(kinds)]
        result = _run(place, number, kind, rng, wanted)
        print(("ok    " if result.good else "BROKEN"), result, flush=True)
        results.append(result)
    figures = {
        "benchmark": "chaos",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"CPU, {os.cpu_count()} cores",
        "engine": arguments.engine,
        "runs": len(results),
        "broken": sum(not r.good for r in results),
        "rows_each": arguments.rows,
        "in_flight_at_most": IN_FLIGHT,
        "most_generated_again": max(r.generated_again for r in results),
        "most_written_twice": max(r.written_twice for r in results),
        "undisturbed_seconds": round(whole, 1),
    }
    if arguments.out:
        under_fire.report(
            arguments.out, "Synthesis under fire",
            f", {figures['engine']}: {figures['runs']} runs of {figures['rows_each']:,} answers, "
            f"{figures['broken']} broken. At most {IN_FLIGHT} rows are in flight; undisturbed it "
            f"takes {figures['undisturbed_seconds']:g} s. `equal`: the tables of answers and "
            "rewordings, and the set of keys in the cache, are those of the undisturbed run.",
            COLUMNS, figures, results,
        )  # fmt: skip
    print(json.dumps(figures))
    return int(figures["broken"] > 0)


def _parser() -> argparse.ArgumentParser:
    parser = under_fire.parser(__doc__, "chaos")
    parser.add_argument("--rows", type=int, default=1600, help="answers needed in each run")
    parser.add_argument("--kinds", default=",".join(KINDS), help="in turn; default: all")
    parser.add_argument("--engine", default="vllm", choices=["vllm", "transformers"])
    return parser


def _run(
    place: Place, number: int, kind: str, rng: random.Random, wanted: dict[str, Any]
) -> Result:
    began = time.monotonic()
    storage = place.ingested(f"run-{number}")
    driver = place.start(storage)
    # One in five dies while the engines start, the others while they generate.
    starting = rng.random() < 0.2
    share, seconds = rng.uniform(0.0, 0.9), rng.uniform(2, 25)
    if starting:
        time.sleep(seconds)
        at = f"{seconds:.0f} s after the start"
    else:
        parts = share * place.arguments.rows / BATCH
        while _parts(storage) <= parts and driver.poll() is None:
            _in_time(began)
            time.sleep(0.05)
        at = f"{_parts(storage) * BATCH:,} rows done"
    died = _kill(place, kind, driver)
    starts = 1
    if kind == "driver":
        driver.wait()
        driver, starts = place.start(storage), starts + 1
    starts += place.finish(driver, storage, began)
    found = _rows(storage)
    keys = found.pop("keys")
    log = (storage / "chaos" / "log.txt").read_text(errors="replace")
    done = sum(map(int, _BATCH_DONE.findall(log)))
    same = all(found[name].equals(wanted[name]) for name in found)
    return Result(
        number, died, at, starts, len(found["answers"]), len(keys) - len(set(keys)),
        max(0, done - len(set(keys))),
        same and set(keys) == set(wanted["keys"]),
        round(time.monotonic() - began, 1),
    )  # fmt: skip


def _kill(place: Place, kind: str, driver: under_fire.Driver) -> str:
    """Kill one thing of ``kind``, or the driver where there is none yet; says what."""
    if kind == "node":
        place.replace_node()
        return "node"
    if kind in TITLES and under_fire.kill(TITLES[kind]):
        return f"{kind} ({TITLES[kind].removeprefix('ray::')})"
    driver.kill()
    return kind if kind == "driver" else f"driver ({kind} not up yet)"


def _in_time(began: float) -> None:
    if time.monotonic() - began > LIMIT:
        sys.exit(f"nothing generated within {LIMIT:g} s")


def _parts(storage: Path) -> int:
    return sum(1 for _ in (storage / "cache").glob("synthesis/*/part-*.parquet"))


def _rows(storage: Path) -> dict[str, Any]:
    """The rows of the finished stage, and the keys of all that the cache holds."""
    (made,) = (storage / "chaos" / "synthesize").glob("*/manifest.json")
    names = ("answers", "answers_set_aside", "rewordings", "rewordings_set_aside")
    found: dict[str, Any] = {n: Folder(str(made.parent)).read_table(f"{n}.parquet") for n in names}
    files = sorted((storage / "cache").glob("synthesis/*/*.parquet"))
    assert all(f.name.startswith("part-") for f in files), "packing hides what was written twice"
    keys = [Folder(str(f.parent)).read_table(f.name, ["key"])["key"] for f in files]
    found["keys"] = [key for column in keys for key in column.to_pylist()]
    return found


if __name__ == "__main__":
    sys.exit(main())
