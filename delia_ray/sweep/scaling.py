"""Score against ratio and cost: what the fit says, which ratio it recommends, what to try next."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from delia_ray.models import parameter_count
from delia_ray.sweep import objectives
from delia_ray.sweep.configs import Configs
from delia_ray.sweep.fit import Axis, Fit, axis, fit, inputs
from delia_ray.sweep.recommend import along, line, next_trial, ratios_up_to, recommend
from delia_ray.sweep.records import Record
from delia_ray.sweep.space import active, draw

_FEWEST = 4
"""Finished trials below which nothing is fitted."""
_CANDIDATES = 200
_LOGARITHMIC = ("downstream.rows", "finetune.batch_size", "finetune.steps")
"""Settings whose choices are thought of as doublings."""


def ratio_name(configs: Configs) -> str | None:
    """The dimension that is the ratio, if one is."""
    own = ("mix.ratio", f"arms.{configs.sweep.arm}.ratio")
    return next((n for n in own if n in configs.sweep.dimensions), None)


def axes_of(configs: Configs) -> list[Axis]:
    """How each dimension enters the fit."""
    recipe = configs.base.model_dump(mode="json")
    found = []
    for name, dimension in configs.sweep.dimensions.items():
        default = functools.reduce(_inside, name.split("."), recipe)
        if default is None:  # nobody can say where that lies
            default = dimension.ends[0]
        scale = "log" if dimension.kind.startswith("log") or name in _LOGARITHMIC else "linear"
        scale = "ratio" if name == ratio_name(configs) else scale
        if name == "model":
            sizes = [parameter_count(v) for v in (*dimension.ends, default)]
            if None not in sizes and len(set(sizes)) > 1:
                # The fit sees a model as its size; ``placed`` says it.
                found.append(axis(name, sizes[:-1], sizes[-1], "log"))
                continue
        found.append(axis(name, dimension.ends, default, scale))
    return found


def placed(axes: Sequence[Axis], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as the axes take them: a model by its size, where that is an axis."""
    sized = any(a.name == "model" and a.scale == "log" for a in axes)
    if not sized or "model" not in parameters:
        return dict(parameters)
    return {**parameters, "model": parameter_count(parameters["model"])}


def fitted(
    configs: Configs, searched: Sequence[Record], counters: Mapping[str, Any], confidence: float
) -> dict[str, Any]:
    """``fit`` (curve over the ratio), ``recommended`` and ``next``; None where they cannot be."""
    nothing: dict[str, Any] = {"fit": None, "recommended": None, "next": None}
    sweep = configs.sweep
    done = [r for r in searched if r.state == "done"]
    chosen = objectives.best(sweep, done)
    if len(done) < _FEWEST or chosen is None:
        return nothing
    axes = axes_of(configs)
    learned = fit(
        inputs(axes, [placed(axes, r.parameters) for r in done]),
        [objectives.score(sweep, r.points[-1]) for r in done],
        [objectives.spread(sweep, r.points[-1]) for r in done],
    )
    found = dict(nothing)
    rest = placed(axes, chosen.parameters)
    name = ratio_name(configs)
    if name is not None:
        found |= _over_ratio(configs, done, learned, axes, name, rest, counters, confidence)
    candidates = _candidates(configs, chosen, name)
    following = next_trial(
        learned, axes, [placed(axes, c) for c in candidates], sweep.budget.tolerance
    )
    if following is not None:
        at = [placed(axes, c) for c in candidates].index(following[0])
        found["next"] = {"parameters": candidates[at], "gain": following[1]}
    return found


def _over_ratio(
    configs: Configs, done: Sequence[Record], learned: Fit, axes: Sequence[Axis], name: str,
    rest: Mapping[str, Any], counters: Mapping[str, Any], confidence: float,
) -> dict[str, Any]:  # fmt: skip
    sweep, budget = configs.sweep, configs.sweep.budget
    largest = max(float(v) for v in sweep.dimensions[name].ends)
    ratios = ratios_up_to(largest)
    along_them = along(learned, axes, name, ratios, rest)
    low, high = along_them.interval(confidence)
    answers = functools.partial(_answers, _answers_per_ratio(done, name, configs))
    seconds = _seconds(done, counters)
    cost = answers if budget.seconds is None else (lambda r: seconds(answers(r)))
    chosen = recommend(
        learned, axes, name, rest, largest=largest, cost=cost,
        budget=budget.answers if budget.seconds is None else budget.seconds,
        tolerance=budget.tolerance, confidence=confidence,
    )  # fmt: skip
    return {
        "fit": {
            "name": name, "rest": {k: v for k, v in rest.items() if k != name},
            "trials": len(done), "residual": learned.residual, "confidence": confidence,
            "curve": [
                {
                    "ratio": r, "answers": answers(r), "seconds": seconds(answers(r)),
                    "value": float(m), "low": float(a), "high": float(b),
                }
                for r, m, a, b in zip(ratios, along_them.mean, low, high, strict=True)
            ],
        },
        "recommended": None if chosen is None else asdict(chosen) | {
            "unit": "answers" if budget.seconds is None else "seconds",
            "budget": budget.answers if budget.seconds is None else budget.seconds,
            "tolerance": budget.tolerance,
        },
    }  # fmt: skip


def _inside(tree: Any, name: str) -> Any:
    return tree.get(name) if isinstance(tree, dict) else None


def _answers_per_ratio(done: Sequence[Record], name: str, configs: Configs) -> float:
    """Diverse answers for each unit of the ratio: the downstream rows."""
    base = configs.base
    found = []
    for record in done:
        ratio = record.parameters.get(name)
        if ratio:
            found.append(record.points[-1].costs["answers"] / float(ratio))
    return float(np.median(found)) if found else float(base.downstream.rows or 0)


def _answers(each: float, ratio: float) -> float:
    return float(math.ceil(ratio * each))


def _seconds(done: Sequence[Record], counters: Mapping[str, Any]) -> Any:
    """From answers to seconds: making them, training and evaluation."""
    constant, slope = line(
        [r.points[-1].costs["answers"] for r in done],
        [r.points[-1].costs["seconds"] for r in done],
    )
    making = counters.get("seconds_per_answer") or 0.0
    return lambda answers: constant + (slope + making) * answers


def _candidates(configs: Configs, chosen: Record, name: str | None) -> list[dict[str, Any]]:
    """Points of the space, and other ratios of the best trial, up to twice the largest."""
    dimensions = configs.sweep.dimensions
    spread = draw(dimensions, _CANDIDATES, configs.sweep.seed + 1)
    if name is None:
        return spread
    largest = max(float(v) for v in dimensions[name].ends)
    others = [{**chosen.parameters, name: r} for r in ratios_up_to(2 * largest + 1)]
    return [*(active(dimensions, p) for p in others), *spread]
