"""The rows behind the page's figures and tables; ``page`` says what each list holds."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from delia_ray.evaluate.crossed import Suites
from delia_ray.evaluate.hierarchical import Estimate, arm_mean, difference
from delia_ray.study.claims import Parts
from delia_ray.study.design import CONFIDENCE, FORMAT, MODES, OTHERS, Study, times_of
from delia_ray.study.run import Found
from delia_ray.study.verdicts import judge
from delia_ray.study.words import METHOD, SAYS

Scores = Mapping[str, Suites]
"""Model -> suite -> table (seeds, rows)."""


def design_of(study: Study, found: Mapping[str, Found]) -> dict[str, Any]:
    suites = {
        task: {name: len(tables[0]) for name, tables in own.scores["common"].items()}
        for task, own in found.items()
    }
    first = study.config(next(iter(study.tasks)), 0)
    return {
        "ratios": study.ratios, "seeds": study.seeds, "steps": study.steps,
        "exposure": ", ".join(
            f"{t.exposure or study.exposure} rows ({name})" for name, t in study.tasks.items()
        ),
        "batch_size": first.finetune.batch_size, "model": first.model, "baselines": list(OTHERS),
        "tasks": {task: {"suites": own} for task, own in suites.items()},
        "method": [m.format(ratios=", ".join(map(times_of, study.paper_ratios))) for m in METHOD],
    }  # fmt: skip


def _figures(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _share(found: Estimate) -> dict[str, Any]:
    """Of an accuracy: its interval ends where the scale does."""
    return {"value": found.value, "low": max(0.0, found.low), "high": min(1.0, found.high)}


def by_ratio(study: Study, task: str, found: Found) -> Iterator[dict[str, Any]]:
    own = study.tasks[task]
    for mode in MODES:
        for ratio in study.ratios:
            suites = found.scores[study.model(task, ratio, mode)]
            shown = {"mean": [*own.adapt, *own.retain], **{name: [name] for name in suites}}
            for label, names in shown.items():
                estimate = arm_mean({n: suites[n] for n in names})
                yield {
                    "task": task, "mode": mode, "metric": "exact match", "suite": label,
                    "ratio": ratio, **_share(estimate), "seeds": estimate.seeds,
                }  # fmt: skip


def _parts(study: Study, found: Mapping[str, Found]) -> Scores:
    """The arms of equal steps of the task with baselines, by the names of ``Parts``."""
    scores = found[FORMAT].scores
    named = {name: scores[name] for name in OTHERS if name in scores}
    return named | {
        "common": scores[study.model(FORMAT, 0, "equal_steps")],
        "delia": scores[study.model(FORMAT, study.reference, "equal_steps")],
        "base": scores["base"],
    }


def contrasts(study: Study, found: Mapping[str, Found]) -> list[dict[str, Any]]:
    if FORMAT not in found or not study.tasks[FORMAT].baselines:
        return []
    own = study.tasks[FORMAT]
    parts = Parts(name="parts", suites=(*own.adapt, *own.retain))
    judgement = judge(parts, _parts(study, found), confidence=CONFIDENCE)
    rows = [
        {"name": f.name, **_figures(f.estimate), "p": f.p_adjusted, "says": SAYS[f.name]}
        for f in judgement.findings
    ]
    whole = judgement.headline
    says = f"DELIA at {times_of(study.reference)} against common instruction tuning"
    return [
        {"name": "all of it", **_figures(whole.estimate), "p": whole.p_adjusted, "says": says},
        *rows,
    ]


def baselines(study: Study, found: Mapping[str, Found]) -> list[dict[str, Any]]:
    if FORMAT not in found or not study.tasks[FORMAT].baselines:
        return []
    own, scores, rows = study.tasks[FORMAT], _parts(study, found), []
    names = [*own.adapt, *own.retain]
    for label, suites in {"mean": names, **{n: [n] for n in names}}.items():
        ours = {n: scores["delia"][n] for n in suites}
        for arm in ("base", "common", *OTHERS, "delia"):
            theirs = {n: scores[arm][n] for n in suites}
            gap = difference(ours, theirs)
            rows.append(
                {
                    "arm": arm, "metric": "exact match", "suite": label,
                    **_share(arm_mean(theirs)),
                    "difference": None if arm == "delia" else {**_figures(gap), "p": gap.p},
                }
            )  # fmt: skip
    return rows


def distance(study: Study, found: Mapping[str, Found]) -> list[dict[str, Any]]:
    if FORMAT not in found:
        return []
    rows = []
    for mode in MODES:
        for ratio in study.ratios:
            end = study.steps if mode == "equal_steps" else (
                study.steps_of_exposure(FORMAT, ratio)
            )  # fmt: skip
            for seed, curves in enumerate(found[FORMAT].curves):
                curve = curves[study.arm(ratio)]
                seen = [
                    (int(step), value)
                    for step, value in zip(curve["step"], curve["token_distance"], strict=True)
                    if not np.isnan(value) and step <= end
                ]
                if seen:
                    steps, values = zip(*seen, strict=True)
                    rows.append(
                        {"ratio": ratio, "mode": mode, "seed": seed, "steps": list(steps),
                         "values": list(values)}
                    )  # fmt: skip
    return rows


def retention(study: Study, task: str, found: Found) -> Iterator[dict[str, Any]]:
    own = study.tasks[task]
    for mode in MODES if own.retain else ():
        for ratio in study.ratios:
            suites = found.scores[study.model(task, ratio, mode)]
            adapt, retain = (
                arm_mean({n: suites[n] for n in names}) for names in (own.adapt, own.retain)
            )
            yield {
                "task": task, "ratio": ratio, "mode": mode,
                **_named("adapt", adapt), **_named("retain", retain),
            }  # fmt: skip


def _named(name: str, found: Estimate) -> dict[str, Any]:
    own = _share(found)
    return {name: own["value"], f"{name}_low": own["low"], f"{name}_high": own["high"]}


def forgotten(study: Study, task: str, found: Found) -> Iterator[dict[str, Any]]:
    for mode in MODES:
        for ratio in study.ratios:
            model = study.model(task, ratio, mode)
            groups: dict[str, dict[str, int]] = {}
            for own in found.retention:
                for group, change in own[model]["groups"].items():
                    sums = groups.setdefault(group, dict.fromkeys(
                        ("before", "after", "forgotten", "learned"), 0))  # fmt: skip
                    sums["before"] += round(change["before"] * change["rows"])
                    sums["after"] += round(change["after"] * change["rows"])
                    sums["forgotten"] += change["forgotten"]
                    sums["learned"] += change["learned"]
            for group, sums in groups.items():
                if sums["before"]:
                    yield {"task": task, "ratio": ratio, "mode": mode, "group": group, **sums}


def probes(study: Study, found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Means over seeds, at equal steps, and of the untrained model."""
    if FORMAT not in found:
        return []
    models = {"untrained": "base"} | {
        times_of(r): study.model(FORMAT, r, "equal_steps") for r in study.ratios
    }
    rows = []
    for label, model in models.items():
        probes = [p[model]["probes"] for p in found[FORMAT].probes if model in p]
        own = [one["distance"] for each in probes for one in each.values()]
        own = [d for d in own if "l2" in d]
        for layer in range(len(own[0]["l2"]) if own else 0):
            mean = {k: _mean([d[k][layer] for d in own]) for k in ("l2", "cosine", "cka")}
            random = {
                f"random token {k}": _mean([d["random"][k][layer] for d in own])
                for k in ("l2", "cosine", "cka")
            }
            rows.append({"arm": label, "layer": layer, **mean, **random})
    return rows


def neighbours(study: Study, found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Of the first seed."""
    if FORMAT not in found or not found[FORMAT].probes:
        return []
    first, rows = found[FORMAT].probes[0], []
    for ratio in study.ratios:
        probes = first.get(study.model(FORMAT, ratio, "equal_steps"), {}).get("probes", {})
        for token, probe in probes.items():
            near = probe["neighbours"].get("input", [])
            rows.append({"arm": times_of(ratio), "token": token, "neighbours": near[:5]})
    return rows


def _mean(values: list[Any]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
