"""From scores to claims, on scores whose truth is known."""

import json

import numpy as np

from delia_ray.study.design import OTHERS, Study
from delia_ray.study.page import markdown, render
from delia_ray.study.result import judged, result
from delia_ray.study.run import Found
from tests.study.test_design import small

SUITES = {"sep_negated": 60, "plain": 60}
TRUTH = {"common": 0.5, "ratio_4": 0.75, "ratio_16": 0.8}
"""Chance of a right answer, by arm."""


def study() -> Study:
    task = {
        "run": {"finetune": {"batch_size": 8}}, "adapt": ["sep_negated"], "retain": ["plain"],
        "baselines": True,
    }  # fmt: skip
    return small(tasks={"format": task}, seeds=5)


def found(design: Study, distances: dict[str, float]) -> Found:
    rng = np.random.default_rng(3)
    models = ["base", *design.config("format", 0).models]
    own = Found()
    for model in models:
        arm = model.partition("@")[0]
        right = TRUTH.get(arm, 0.6)
        own.scores[model] = {
            suite: (rng.random((design.seeds, n)) < right).astype(float).tolist()
            for suite, n in SUITES.items()
        }
    group = {"rows": 60, "before": 0.5, "after": 0.4, "forgotten": 8, "learned": 2}
    for _ in range(design.seeds):
        own.retention.append({m: {"groups": {"plain: plain": group}} for m in models})
        probes = {}
        for model in models:
            middle = distances.get(model.partition("@")[0], 9.0)
            last = (middle + rng.normal(0, 0.1, 8)).tolist()
            layers = {"l2": [0.0, middle], "cosine": [0.0, 0.1], "cka": [None, 0.9]}
            distance = {**layers, "last": {"l2": last}, "random": layers}
            near = {"input": [["json", 0.5]]}
            probe = {"distance": distance, "neighbours": near}
            probes[model] = {"probes": {"<sep>": probe}}
        own.probes.append(probes)
        own.curves.append(
            {
                arm: {"step": [1.0, 2.0, 20.0], "token_distance": [20.0, float("nan"), 5.0]}
                for arm in ("common", "ratio_4", "ratio_16")
            }
        )
    own.seconds = {"finetune": 12.0}
    return own


NEARER = {"common": 7.0, "ratio_4": 6.0, "ratio_16": 5.0}


def test_planted_truths_are_found() -> None:
    design = study()
    verdicts = {
        (name, mode): judgement.verdict
        for name, _, mode, judgement in judged(design, {"format": found(design, NEARER)})
    }
    assert len(verdicts) == 6
    assert set(verdicts.values()) == {"holds"}


def test_a_growing_distance_does_not_hold() -> None:
    design = study()
    farther = {arm: 12 - value for arm, value in NEARER.items()}
    for name, _, _, judgement in judged(design, {"format": found(design, farther)}):
        assert judgement.verdict == ("does not hold" if name == "distance" else "holds")


def test_everything_the_page_shows() -> None:
    design = study()
    done = result(design, {"format": found(design, NEARER)}, device="none", seconds=12.0)
    assert json.loads(json.dumps(done)) == done
    assert [c["id"] for c in done["claims"]][:2] == [
        "generation, equal steps", "meaning, equal steps",
    ]  # fmt: skip
    by_arm = {r["arm"]: r for r in done["baselines"] if r["suite"] == "mean"}
    assert set(by_arm) == {"base", "common", "delia", *OTHERS}
    assert by_arm["delia"]["difference"] is None
    assert by_arm["common"]["difference"]["low"] > 0
    assert {c["name"] for c in done["contrasts"]} >= {"self-sampling", "rewording", "volume"}
    ratios = [r for r in done["by_ratio"] if r["suite"] == "mean"]
    assert [(r["ratio"], r["mode"]) for r in ratios] == [
        (ratio, mode) for mode in ("equal_steps", "equal_exposure") for ratio in design.ratios
    ]
    # An arm's curve is cut where the comparison ends; what was not looked at is left out.
    curves = {(d["mode"], d["ratio"]): d["steps"] for d in done["distance"] if d["seed"] == 0}
    assert curves["equal_exposure", 0] == [1]
    assert curves["equal_steps", 0] == [1, 20]
    forgotten = next(f for f in done["forgotten"] if f["ratio"] == 4)
    assert (forgotten["before"], forgotten["forgotten"]) == (5 * 30, 5 * 8)
    page, text = render(done), markdown(done)
    assert "holds" in page
    assert "| A new special token takes the meaning" in text
