"""``delia drill``: the undisturbed run, the drills, the table."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delia_ray.drill.compare import Difference, Result, compare, result_of
from delia_ray.drill.place import Place, can_mount
from delia_ray.drill.schedule import KINDS, STRIKES, Drill, schedule
from delia_ray.drill.strike import strike
from delia_ray.errors import DeliaError

LIMIT = 1800.0
"""Seconds that one run may take, its restarts among them."""
TRIES = 4
"""Times that an operator starts the same command."""
GREEDY = (
    "synthesize.sampling.temperature=0", "synthesize.reword.sampling.temperature=0",
)  # fmt: skip
"""Equal texts are asked for, so sampling must not depend on the neighbours in a batch."""


@dataclass(frozen=True)
class Outcome:
    """One drill."""

    drill: Drill
    struck: str
    starts: int
    """Times that the run was started."""
    delayed: float
    """Seconds more than undisturbed, from the struck stage on."""
    difference: Difference


def drill(
    settings: Sequence[str], count: int, seed: int, kinds: Sequence[str], cpus: int,
    out: Path | None, say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Run ``count`` drills of the recipe ``settings`` and return their figures.

    Raises:
        UserError: a kind is none.
        DeliaError: the undisturbed run fails, or a disturbed one never ends well.
    """
    chosen = list(kinds or KINDS)
    if "disk" in chosen and not can_mount():
        chosen.remove("disk")
        say("no disk can be mounted here, so none is filled")
    plan = schedule(seed, count, chosen)
    place = Place([*settings, *GREEDY], cpus)
    try:
        began = time.monotonic()
        whole = place.storage("undisturbed", disk=False)
        _finish(place, place.start(whole), whole, began)
        wanted, took = result_of(whole, "drill"), _seconds(whole)
        say(f"undisturbed: {time.monotonic() - began:.0f} s")
        outcomes = []
        for one in plan:
            outcomes.append(_one(place, one, whole, wanted, took))
            say(line(outcomes[-1]))
    finally:
        place.close()
    figures = summary(outcomes, settings, seed)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "drill.json").write_text(json.dumps(figures) + "\n")
        (out / "drill.md").write_text(page(figures, outcomes))
    return figures


def _one(
    place: Place, one: Drill, whole: Path, wanted: Result, took: dict[str, float]
) -> Outcome:  # fmt: skip
    storage = place.storage(f"drill-{one.number}", disk=one.kind == "disk")
    prepare(whole, storage, one.stage)
    began = time.monotonic()
    driver = place.start(storage)
    while not _reached(storage, one.stage) and driver.poll() is None:
        _in_time(place, storage, began)
        time.sleep(0.05)
    time.sleep(one.share * took[one.stage])
    struck = strike(place, one.kind, driver, storage) if driver.poll() is None else "nothing"
    starts = _finish(place, driver, storage, began)
    stages = list(STRIKES)
    undisturbed = sum(took[s] for s in stages[stages.index(one.stage) :])
    found = compare(result_of(storage, "drill"), wanted)
    delayed = round(time.monotonic() - began - undisturbed, 1)
    place.forget(storage)
    return Outcome(one, struck, starts, delayed, found)


def prepare(whole: Path, storage: Path, stage: str) -> None:
    """Copy what the undisturbed run had before ``stage`` began."""
    stages = list(STRIKES)
    done = stages[: stages.index(stage)]
    for name in done:
        shutil.copytree(whole / "drill" / name, storage / "drill" / name)
    if "synthesize" in done:
        shutil.copytree(whole / "cache", storage / "cache")


def _reached(storage: Path, stage: str) -> bool:
    """Whether all stages before ``stage`` were passed."""
    before = list(STRIKES)[: list(STRIKES).index(stage)]
    if not before:
        return (storage / "drill" / "config.json").exists()
    with contextlib.suppress(OSError, ValueError):  # not there yet, or being replaced
        return before[-1] in json.loads((storage / "drill" / "stages.json").read_text())
    return False


def _finish(
    place: Place, driver: "subprocess.Popen[bytes]", storage: Path, began: float
) -> int:  # fmt: skip
    """Wait for the run; start it again while it fails. How often it was started."""
    for start in range(1, TRIES + 1):
        left = LIMIT - (time.monotonic() - began)
        try:
            if driver.wait(timeout=max(1.0, left)) == 0:
                return start
        except subprocess.TimeoutExpired:
            driver.kill()
            _in_time(place, storage, began)
        if start < TRIES:
            driver = place.start(storage)
    raise DeliaError(f"the run fails again and again:\n{place.said(storage)}")


def _in_time(place: Place, storage: Path, began: float) -> None:
    if time.monotonic() - began > LIMIT:
        raise DeliaError(f"unfinished after {LIMIT:g} s:\n{place.said(storage)}")


def _seconds(storage: Path) -> dict[str, float]:
    """Stage -> seconds that it took."""
    files = (storage / "drill").glob("*/*/manifest.json")
    return {m["stage"]: float(m["seconds"]) for m in (json.loads(f.read_text()) for f in files)}


# --- what is said ---------------------------------------------------------------------


def line(one: Outcome) -> str:
    """One drill as a line."""
    d = one.difference
    return (
        f"{'ok    ' if d.good else 'BROKEN'} {one.drill.number:>3} {one.struck} in "
        f"{one.drill.stage}: lost {d.lost}, repeated {d.repeated}, changed {d.changed}, made again "
        f"{d.made_again}, delayed {one.delayed:.0f} s, started {one.starts}x"
    )


def summary(outcomes: Sequence[Outcome], settings: Sequence[str], seed: int) -> dict[str, Any]:
    """The figures of all drills."""
    differences = [o.difference for o in outcomes]
    return {
        "benchmark": "drill",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"CPU, {os.cpu_count()} cores",
        "recipe": list(settings),
        "seed": seed,
        "drills": len(outcomes),
        "lost": sum(d.lost for d in differences),
        "repeated": sum(d.repeated for d in differences),
        "changed": sum(d.changed for d in differences),
        "other_order": sum(not d.same_order for d in differences),
        "other_weights": sum(not d.same_weights for d in differences),
        "other_scores": sum(not d.same_scores for d in differences),
        "broken": sum(not d.good for d in differences),
        "made_again": sum(d.made_again for d in differences),
    }


def page(figures: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The table as Markdown."""
    head = ["drill", "stage", "struck", "at", "starts", "lost", "repeated", "changed", "made again",
            "same order", "same weights", "same scores", "delayed s"]  # fmt: skip
    rows = []
    for o in outcomes:
        d = asdict(o.difference)
        numbers = [d[k] for k in ("lost", "repeated", "changed", "made_again")]
        same = ["yes" if d[f"same_{k}"] else "NO" for k in ("order", "weights", "scores")]
        at = f"{o.drill.share:.0%}"
        rows.append([o.drill.number, o.drill.stage, o.struck, at, o.starts, *numbers, *same,
                     o.delayed])  # fmt: skip
    return "\n".join([
        "# Drills",
        "",
        f"{figures['date']}, {figures['device']}, `delia drill {' '.join(figures['recipe'])}`, "
        f"seed {figures['seed']}: {figures['drills']} drills, {figures['broken']} broken; "
        f"{figures['lost']} rows lost, {figures['repeated']} repeated, {figures['changed']} "
        "changed. `at`: share of the stage's undisturbed time. `made again`: texts generated "
        "twice, which is the price and not a fault.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
        "",
    ])  # fmt: skip
