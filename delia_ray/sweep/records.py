"""What is known of each trial, in files: ``trials/<key>/`` in the sweep's folder.

``trial.json`` says what it is, ``rung-<step>.json`` how it did on its way, ``done.json`` how it
ended, ``stopped.json`` that a scheduler ended it at a rung, ``failed.json`` that all tries failed.
A sweep that was killed goes on from these alone: whatever Ray Tune knew is lost with its driver.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.names import is_fingerprint, is_name
from delia_ray.redaction import redacted
from delia_ray.stored import reading

TRIAL, DONE, STOPPED, FAILED = "trial.json", "done.json", "stopped.json", "failed.json"

Scores = dict[str, dict[str, dict[str, float]]]
"""Suite (and ``mean``) -> metric, the main one first -> value, low, high, n."""


@dataclass(frozen=True)
class Point:
    """How a trial did at a rung, or at its end."""

    step: int
    """Optimizer steps done."""
    scores: Scores
    costs: dict[str, float]
    """seconds, tokens and answers so far."""


@dataclass(frozen=True)
class Record:
    """A trial, as far as it got."""

    key: str
    number: int
    """In the order in which they were planned, from 1."""
    purpose: str
    """search, best or recipe (the confirmation)."""
    parameters: dict[str, Any]
    config: dict[str, Any]
    """The run's settings, as JSON."""
    steps: int | None = None
    """Optimizer steps that it was to make."""
    points: list[Point] = field(default_factory=list)
    """Rungs, and the end as the last where it is ``done``."""
    state: str = "unfinished"
    """unfinished, done, stopped (by the scheduler) or failed."""
    error: str = ""
    """Of a failed trial."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Of a finished one: seconds by part, fingerprints of its stages."""
    parent: str | None = None
    """Key of the trial that it went on from a copy of."""

    @property
    def last(self) -> Point | None:
        return self.points[-1] if self.points else None


def trials_of(run: Folder) -> Folder:
    """Where the trials of the sweep in ``run`` are."""
    return run / "trials"


def run_of(trial: Folder) -> Folder:
    """The sweep's folder of a trial's."""
    return Folder(trial.url.rstrip("/").rsplit("/", 2)[0], trial.root)


def plan(
    trials: Folder, key: str, number: int, purpose: str, parameters: dict[str, Any],
    config: RunConfig, parent: str | None = None,
) -> None:  # fmt: skip
    """Note a trial, unless it is known."""
    if not (trials / key).exists(TRIAL):
        own = {"number": number, "purpose": purpose, "parameters": parameters, "parent": parent}
        kept = {**own, "config": config.model_dump(mode="json")}
        (trials / key).write_json(TRIAL, redacted(kept))


def family(trials: Folder, keys: Iterable[str]) -> list[str]:
    """``keys``, and those of all trials that went on from copies of them."""
    found = list(keys)
    parents = {r.key: r.parent for r in read(trials) if r.parent is not None}
    while new := [k for k, parent in parents.items() if parent in found and k not in found]:
        found += new
    return found


def read(trials: Folder, keys: Iterable[str] | None = None) -> list[Record]:
    """Those of ``keys`` that were noted (all without them), by number."""
    names = [n for n in trials.names() if is_name(n)] if keys is None else list(keys)
    found = [read_one(trials / name, name) for name in names if (trials / name).exists(TRIAL)]
    return sorted(found, key=lambda r: (r.purpose != "search", r.number, r.key))


def checked_config(config: Any) -> dict[str, Any]:
    """
    Raises:
        ValueError: it is not a run's settings.
    """
    return RunConfig.model_validate(config).model_dump(mode="json")


def _point(value: Any) -> Point:
    point = Point(**value)
    if type(point.step) is not int or not isinstance(point.scores, dict):
        raise ValueError(f"step={str(point.step)[:50]}")
    for own in point.scores.values():
        for figures in own.values():
            if not all(isinstance(f, int | float) or f is None for f in figures.values()):
                raise ValueError(f"scores={str(figures)[:100]}")
    if not all(isinstance(cost, int | float) for cost in point.costs.values()):
        raise ValueError(f"costs={str(point.costs)[:100]}")
    return point


def _check_facts(facts: dict[str, Any], steps: Any) -> None:
    if type(steps) is not int:
        raise ValueError(f"steps={str(steps)[:50]}")
    if missing := {"finetune", "evaluate"} - facts["stages"].keys():
        raise ValueError(f"stages names no {', '.join(sorted(missing))}")
    for stage, mark in facts["stages"].items():
        if not is_fingerprint(mark):
            raise ValueError(f"stages[{stage[:50]!r}]={str(mark)[:50]!r}")


def read_one(folder: Folder, key: str) -> Record:
    """One of them."""
    with reading(f"{folder}", _ADVICE):
        return _read_one(folder, key)


_ADVICE = "remove the trial's folder and give the same command again; the trial is made anew"


def _read_one(folder: Folder, key: str) -> Record:
    own = folder.read_json(TRIAL, sealed=True)
    names = set(folder.names())
    rungs = sorted(n for n in names if n.startswith("rung-"))
    points = [_point(folder.read_json(n, sealed=True)) for n in rungs]
    points.sort(key=lambda p: p.step)
    facts: dict[str, Any] = {}
    steps, error, state = None, "", "unfinished"
    if DONE in names:
        facts, state = folder.read_json(DONE, sealed=True), "done"
        steps = facts.pop("steps")
        points.append(_point(facts.pop("point")))
        _check_facts(facts, steps)
    elif STOPPED in names:
        facts, state = folder.read_json(STOPPED, sealed=True), "stopped"
        points = [p for p in points if p.step <= facts["step"]]
    elif FAILED in names:
        error, state = folder.read_json(FAILED, sealed=True)["error"], "failed"
    parent = own.get("parent")
    if type(own["number"]) is not int or own["purpose"] not in ("search", "best", "recipe"):
        raise ValueError(f"number={own['number']!r}, purpose={own['purpose']!r}")
    if not isinstance(own["parameters"], dict) or not (parent is None or is_name(parent)):
        raise ValueError(f"parent={str(parent)[:50]!r}, parameters={str(own['parameters'])[:50]}")
    return Record(
        key, own["number"], own["purpose"], own["parameters"], checked_config(own["config"]),
        steps, points, state, str(error), facts, parent,
    )  # fmt: skip
