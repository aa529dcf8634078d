"""From the records of a sweep's trials to all that its page shows; only what JSON can say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import yaml

from delia_ray.artifacts import Folder
from delia_ray.config import Sweep
from delia_ray.redaction import redacted
from delia_ray.sweep import objectives, scaling
from delia_ray.sweep.configs import Configs
from delia_ray.sweep.confirm import Confirmed
from delia_ray.sweep.pareto import front
from delia_ray.sweep.records import Record

CONFIDENCE = 0.95
CURVE_POINTS = 120
"""Of each trial's loss."""


def result(
    configs: Configs,
    records: Sequence[Record],
    confirmed: Confirmed | None,
    losses: Mapping[str, Sequence[tuple[float, float]]],
    counters: Mapping[str, Any],
    **facts: Any,
) -> dict[str, Any]:
    """Everything that ``page.render`` takes.

    Args:
        configs: of the sweep.
        records: of all trials, the confirmation's among them.
        confirmed: best against recipe; None without.
        losses: key -> (step, loss) of trials that trained.
        counters: of the pool and of time.
        facts: further entries of ``design``.
    """
    sweep = configs.sweep
    searched = [r for r in records if r.purpose == "search"]
    chosen = objectives.best(sweep, searched)
    return {
        "design": _design(sweep, searched) | facts,
        "best": None if chosen is None else _best(configs, chosen),
        "confirmation": None if confirmed is None else asdict(confirmed),
        "counters": dict(counters),
        "trials": [_trial(sweep, r) for r in searched],
        "front": _front(sweep, searched),
        "curves": [
            {
                "number": r.number,
                "score": [[p.step, objectives.score(sweep, p)] for p in r.points],
                "loss": [list(p) for p in losses.get(r.key, ())],
            }
            for r in searched
        ],
        **scaling.fitted(configs, searched, counters, CONFIDENCE),
    }


def _design(sweep: Sweep, searched: Sequence[Record]) -> dict[str, Any]:
    states = [r.state for r in searched]
    return {
        "name": sweep.name,
        "searcher": sweep.searcher,
        "scheduler": sweep.scheduler,
        "confidence": CONFIDENCE,
        "dimensions": {n: _said(d) for n, d in sweep.dimensions.items()},
        "objectives": {
            n: {"of": o.of, "goal": o.goal, "weight": o.weight} for n, o in sweep.objectives.items()
        },
        "trials": len(states),
        **{state: states.count(state) for state in ("done", "stopped", "failed", "unfinished")},
    }


def _said(dimension: Any) -> str:
    kind, ends = dimension.kind, dimension.ends
    said = ", ".join(map(_plain, ends)) if kind == "choice" else f"{ends[0]:g} to {ends[1]:g}"
    said += {"log": ", logarithmic", "log_integer": ", logarithmic", "integer": ", whole"}.get(
        kind, ""
    )
    when = "; ".join(f"{name} is {_plain(value)}" for name, value in dimension.when.items())
    return f"{said} (where {when})" if when else said


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _best(configs: Configs, chosen: Record) -> dict[str, Any]:
    name = f"{configs.sweep.name}-best"
    tree = configs.recipe(chosen.parameters, name)
    return {
        "number": chosen.number,
        "key": chosen.key,
        "parameters": chosen.parameters,
        "score": objectives.score(configs.sweep, chosen.points[-1]),
        "yaml": yaml.safe_dump(redacted(tree), sort_keys=False, allow_unicode=True),
    }


def _trial(sweep: Sweep, record: Record) -> dict[str, Any]:
    point = record.last
    found: dict[str, Any] = {
        "score": None,
        "low": None,
        "high": None,
        "objectives": {},
        "step": 0,
        "suites": {},
    }
    if point is not None and record.state != "failed":  # a failed trial has no score
        value, se = objectives.score(sweep, point), objectives.spread(sweep, point)
        found = {
            "score": value, "low": value - 1.96 * se, "high": value + 1.96 * se,
            "objectives": objectives.values(sweep, point), "step": point.step,
            "suites": {s: next(iter(own.values()))["value"] for s, own in point.scores.items()},
        }  # fmt: skip
    return {
        "number": record.number, "key": record.key, "state": record.state,
        "parameters": record.parameters, **found, "steps": record.steps,
        "seconds": record.facts.get("seconds"), "error": record.error,
        "synthesis": record.facts.get("stages", {}).get("synthesize"),
    }  # fmt: skip


def _front(sweep: Sweep, searched: Sequence[Record]) -> list[int]:
    """Numbers of the finished trials that no other one beats in every objective."""
    done = [r for r in searched if r.state == "done"]
    rows = [list(objectives.values(sweep, r.points[-1]).values()) for r in done]
    up = [o.goal == "maximise" for o in sweep.objectives.values()]
    return [done[i].number for i in front(rows, up)]


def overhead(records: Sequence[Record], wall: float, at_once: int, since: float) -> float | None:
    """Wall time over the trials' training and evaluation at the same parallelism, of the trials
    that ended after ``since`` (seconds since the epoch); None where there are none."""
    own = [r for r in records if r.facts.get("ended", 0) >= since and r.points]
    work = sum(r.points[-1].costs["seconds"] for r in own)
    return wall * min(at_once, len(own)) / work if work else None


def loss_of(run: Folder, record: Record) -> list[tuple[float, float]]:
    """(step, loss) of a finished trial, in ``CURVE_POINTS`` means."""
    if record.state != "done":
        return []
    arm = next(iter(record.config["arms"]))
    trained = (run / "finetune" / record.facts["stages"]["finetune"]).finished() / arm
    table = trained.read_table("curve.parquet", ["step", "loss"])
    steps, loss = table["step"].to_numpy(), table["loss"].to_numpy()
    bins = np.array_split(np.arange(len(steps)), min(CURVE_POINTS, len(steps)))
    return [(float(steps[b].mean()), float(loss[b].mean())) for b in bins]
