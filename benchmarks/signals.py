"""Stops under fire: SIGINT and SIGTERM at random moments in every stage.

``delia run`` as users start it, each with a cluster of its own. A chain is one run that is
interrupted in every stage, once by SIGINT (as a terminal sends it: to the whole process group; or
to the driver alone) and once by SIGTERM, and started again each time with the same command. Of
each signal the table says the exit code (130, 143), the seconds until the driver had ended, the
processes of it that were left then, and where the training resumed. In the end the rows, the
order of the data, the adapter and the scores must be those of a run that nobody disturbed.

    python benchmarks/signals.py --chains 10 --out benchmarks/results

The last line is JSON; the exit code is 1 when any signal broke a promise.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import under_fire

from delia_ray.drill.compare import Difference, Result, compare, result_of

STAGES = ("ingest", "synthesize", "mix", "finetune", "evaluate")
CODES = {"SIGINT": 130, "SIGTERM": 143}
SAID = {"SIGINT": "Interrupted.", "SIGTERM": "Terminated."}
SECONDS = 10.0
"""Within which a driver must have ended: ``finetune.grace`` and what the end takes."""
LIMIT = 600.0
EXTRA = 3
"""Chains more, for the stages that were over before their signal came."""
WARM = 0.05
"""Of the mix behind a synthesis in one command: a cluster is up, and it takes a moment."""
DEAD = 6.0
"""After which what a driver that was killed had started is gone."""
SHARE = 0.4
"""Of a stage's undisturbed time: signals come before. On an interrupted stage less is left."""
MARK = "DELIA_SIGNALS_MARK"
"""In the environment of a driver, and so of everything that it starts."""
COLUMNS = ("chain", "engine", "stage", "signal", "to", "at s", "exit code", "line",
           "ended after s", "processes left", "resumed at step", "equal")  # fmt: skip


@dataclass(frozen=True)
class Stop:
    """What one signal came to."""

    chain: int
    engine: str
    stage: str
    signal: str
    to: str
    at: float
    """Seconds after the stage had begun."""
    code: int
    line: bool
    """Whether the one line was said, and no traceback."""
    seconds: float
    left: int
    """Processes that the driver or its children had started, when it had ended."""
    resumed: str
    """Optimizer step after which the interrupted training went on."""
    equal: str = "?"
    """Whether the finished chain is the undisturbed run."""

    @property
    def good(self) -> bool:
        own = self.code == CODES[self.signal] and self.line and self.left == 0
        return own and self.seconds <= SECONDS and self.equal == "yes"


class Run:
    """One storage folder and the command that fills it."""

    def __init__(self, storage: Path, engine: str) -> None:
        storage.mkdir()
        self.storage, self.engine, self.started = storage, engine, 0

    def command(self, verb: str) -> list[str]:
        engines = {
            "vllm": "{type: vllm, max_model_len: 512}",
            "transformers": "{type: transformers, batch_size: 32}",
        }
        greedy = "{temperature: 0, max_tokens: 64}"
        own = {
            "zero": 2, "workers": 1, "steps": 40, "checkpoint_every": 15, "batch_size": 24,
            "micro_batch_size": 8, "lr": 2e-3, "watch": {"every": 0}, "trackers": [],
        }  # fmt: skip
        return [
            sys.executable, "-m", "delia_ray.cli", verb, "name=drill", f"storage={self.storage}",
            "downstream.rows=16", "corpus=[{path: corpus, format: miniature, rows: 400}]",
            "mix.ratio=8", f"synthesize.engine={engines[self.engine]}", "arms=[delia]",
            f"synthesize.sampling={greedy}", "cluster.num_cpus=2",
            f'synthesize.reword={{per_row: 1, registers: [""], sampling: {greedy}}}',
            f"finetune={json.dumps(own)}", "evaluate.probes=0", "evaluate.summary=[]",
            "evaluate.engine={type: transformers}",
            "evaluate.suites=[{name: seen, path: sep_seen, format: miniature, rows: 16}]",
        ]  # fmt: skip

    def start(self, verb: str = "run") -> "Driver":
        self.started += 1
        return Driver(self.command(verb), self.storage / f"driver-{self.started}.txt")


class Driver:
    """A command of its own process group, and what it prints."""

    def __init__(self, command: list[str], printed: Path) -> None:
        self.printed, self.mark = printed, uuid.uuid4().hex
        with open(printed, "wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env=under_fire.ENV | {MARK: self.mark},
            )  # fmt: skip

    def said(self) -> str:
        return self.printed.read_text(errors="replace")

    def is_over(self, stage: str) -> bool:
        return any(line.split()[1:2] == [stage] and "[" in line for line in self.said().split("\n"))

    def has_begun(self, stage: str) -> bool:
        before = STAGES[: STAGES.index(stage)]
        return self.is_over(before[-1]) if before else self.said().startswith("delia ")

    def left(self) -> list[str]:
        """Processes that carry the mark."""
        return list(_marked(f"{MARK}={self.mark}".encode()))

    def send(self, name: str, to: str) -> None:
        number = getattr(signal, name)
        if to == "group":
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _marked(mark: bytes) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                yield f"{process.pid} {' '.join(process.cmdline())[:60]}"
        except (OSError, psutil.Error):
            continue


def interrupt(run: Run, chain: int, stage: str, name: str, to: str, at: float) -> Stop | None:
    """Start ``run``, and send the signal ``at`` seconds after ``stage`` began; None where the
    stage was over before."""
    driver, began = run.start(), time.monotonic()
    while not driver.has_begun(stage):
        _must_run(driver, began)
        time.sleep(0.02)
    entered = time.monotonic()
    while time.monotonic() < entered + at:
        if driver.is_over(stage) or driver.process.poll() is not None:
            driver.kill()
            time.sleep(DEAD)
            return None
        time.sleep(0.01)
    told = len(driver.said())
    driver.send(name, to)
    sent = time.monotonic()
    try:
        code = driver.process.wait(60)
    except subprocess.TimeoutExpired:
        code = -999
    took, left = time.monotonic() - sent, driver.left()
    if code == -999:
        driver.kill()
    said = driver.said()[told:]
    line = said.count(SAID[name]) == 1 and "Traceback" not in said and "error" not in said
    if left or not line:
        print(f"left: {left}\nsaid: {said}", flush=True)
    return Stop(chain, run.engine, stage, name, to, round(at, 2), code, line, round(took, 2),
                len(left), "")  # fmt: skip


def _must_run(driver: Driver, began: float) -> None:
    if driver.process.poll() is not None or time.monotonic() - began > LIMIT:
        driver.kill()
        raise SystemExit(f"the run did not come to the stage:\n{driver.said()[-3000:]}")


def undisturbed(root: Path, engine: str) -> tuple[dict[str, float], Result]:
    """Seconds of each stage, begun anew as after a signal, and what came out."""
    run, took = Run(root / f"undisturbed-{engine}", engine), {}
    for stage in STAGES:
        driver = run.start(stage)
        while not driver.has_begun(stage):
            _must_run(driver, time.monotonic())
            time.sleep(0.02)
        began = time.monotonic()
        while not driver.is_over(stage):
            _must_run(driver, began)
            time.sleep(0.02)
        took[stage] = time.monotonic() - began
        if driver.process.wait(LIMIT) != 0:
            raise SystemExit(driver.said())
    print(f"undisturbed, {engine}: {took}", flush=True)
    return took, result_of(run.storage, "drill")


def chain(
    root: Path, number: int, engine: str, seed: int, took: dict[str, float], wanted: Result,
    wishes: list[tuple[str, str]],
) -> list[Stop]:  # fmt: skip
    """Interrupt one run in each stage, as ``wishes`` has it, then let it end."""
    rng, run = random.Random(f"{seed}-{number}"), Run(root / f"chain-{number}", engine)
    stops: list[Stop] = []
    for stage in STAGES:
        names = [name for one, name in wishes if one == stage]
        for turn, name in enumerate(rng.sample(names, len(names))):
            to = rng.choice(["group", "driver"]) if name == "SIGINT" else "driver"
            warm = stage == "mix" and turn == 0
            at = rng.uniform(0.0, WARM if warm else SHARE * took[stage])
            found = interrupt(run, number, stage, name, to, at)
            if found is None:
                print(f"chain {number}: {stage} was over before {at:.1f} s", flush=True)
                break
            if stage == "finetune":
                found = replace(found, resumed=_saved(run.storage))
            print(found, flush=True)
            stops.append(found)
    driver = run.start()
    if driver.process.wait(LIMIT) != 0:
        raise SystemExit(f"chain {number} did not end:\n{driver.said()}")
    difference = compare(result_of(run.storage, "drill"), wanted)
    equal = "yes" if difference.good and difference.same_weights else _differs(difference)
    print(f"chain {number}: {equal}", flush=True)
    return [replace(stop, equal=equal) for stop in stops]


def _saved(storage: Path) -> str:
    found = storage.glob("drill/finetune/*/checkpoints/*/*/whole.json")
    return str(max((int(f.parent.name) for f in found), default=0))


def _differs(found: Difference) -> str:
    return ", ".join(f"{k}={v}" for k, v in vars(found).items())


def main() -> int:
    arguments = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="signals-") as folder:
        stops, seconds = _all(Path(folder), arguments)
    figures = {
        "benchmark": "signals",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"CPU, {os.cpu_count()} cores",
        "seed": arguments.seed,
        "signals": len(stops),
        "broken": sum(not s.good for s in stops),
        "wrong_exit_codes": sum(s.code != CODES[s.signal] for s in stops),
        "processes_left": sum(s.left for s in stops),
        "not_equal": sum(s.equal != "yes" for s in stops),
        "seconds_median": sorted(s.seconds for s in stops)[len(stops) // 2],
        "seconds_most": max(s.seconds for s in stops),
        "seconds_in_all": round(seconds),
    }
    if arguments.out:
        under_fire.report(
            arguments.out, "Signals in every stage",
            f": {figures['signals']} signals, {figures['broken']} broken promises. A driver "
            f"ended after {figures['seconds_median']:g} s (median), at most "
            f"{figures['seconds_most']:g} s; {arguments.at_once} chains at a time, beside other "
            "work. `equal`: rows, order, adapter to the bit and scores of the chain, which was "
            "interrupted ten times, are those of an undisturbed run.",
            COLUMNS, figures, stops,
        )  # fmt: skip
    print(json.dumps(figures))
    return int(figures["broken"] > 0)


def _all(root: Path, arguments: argparse.Namespace) -> tuple[list[Stop], float]:
    began = time.monotonic()
    engines = ["vllm" if n < arguments.vllm else "transformers" for n in range(arguments.chains)]
    whole = {engine: undisturbed(root, engine) for engine in dict.fromkeys(engines)}
    wishes = [(stage, name) for stage in arguments.stages for name in CODES]
    stops: list[Stop] = []
    lock = threading.Lock()

    def one(number: int, engine: str, own: list[tuple[str, str]]) -> None:
        if time.monotonic() - began > arguments.seconds:
            return
        found = chain(root, number, engine, arguments.seed, *whole[engine], own)
        with lock:
            stops.extend(found)

    with ThreadPoolExecutor(arguments.at_once) as pool:
        list(pool.map(one, range(arguments.chains), engines, [wishes] * arguments.chains))
    number = arguments.chains  # more for the stages that were over before their signal
    while lacking := [w for w in wishes if _count(stops, w) < arguments.chains]:
        if number >= arguments.chains + EXTRA:
            break
        one(number, engines[-1], lacking)
        number += 1
    return sorted(stops, key=lambda s: s.chain), time.monotonic() - began


def _count(stops: list[Stop], wish: tuple[str, str]) -> int:
    return sum((s.stage, s.signal) == wish for s in stops)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=10, help="each has ten signals")
    parser.add_argument("--vllm", type=int, default=2, help="how many of them with vLLM")
    parser.add_argument("--at-once", type=int, default=1, help="chains side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="no chain begins later")
    parser.add_argument(
        "--stages", type=lambda text: tuple(text.split(",")), default=STAGES, metavar="A,B"
    )
    parser.add_argument("--out", type=Path, help="folder for signals.md and signals.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
