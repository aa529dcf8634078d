"""Which runs a study makes, before any is made."""

import pytest

from delia_ray.config import load_settings
from delia_ray.errors import UserError
from delia_ray.study.design import RECIPE, Study


def small(**settings: object) -> Study:
    tree = {
        "ratios": [0, 4, 16], "paper_ratios": [4, 16], "reference": 4, "steps": 20, "exposure": 32,
        "tasks": {"format": {"run": {"finetune": {"batch_size": 8}}, "adapt": ["sep_negated"]}},
    }  # fmt: skip
    return Study.model_validate(tree | settings)


def test_one_training_serves_both_comparisons() -> None:
    """32 downstream rows are seen in 4, 20 and 68 steps of 8 rows at ratios 0, 4 and 16."""
    study = small()
    assert [study.steps_of_exposure("format", r) for r in study.ratios] == [4, 20, 68]
    arms = study.config("format", 3).arms
    assert {n: (a.steps, a.snapshots) for n, a in arms.items()} == {
        "common": (20, [4]), "ratio_4": (20, []), "ratio_16": (68, [20]),
    }  # fmt: skip
    models = {
        mode: [study.model("format", r, mode) for r in study.ratios]
        for mode in ("equal_steps", "equal_exposure")
    }
    assert models == {
        "equal_steps": ["common", "ratio_4", "ratio_16@20"],
        "equal_exposure": ["common@4", "ratio_4", "ratio_16"],
    }
    assert set(models["equal_steps"] + models["equal_exposure"]) == set(
        study.config("format", 0).models
    )


def test_seeds_differ_in_training_alone() -> None:
    study = small()
    one, other = (study.config("format", seed).model_dump() for seed in (0, 1))
    assert one.pop("training_seed") == 0
    assert other.pop("training_seed") == 1
    assert one == other


def test_baselines_train_as_long_at_the_reference_ratio() -> None:
    task = {"run": {}, "adapt": ["sep_negated"], "baselines": True}
    config = small(tasks={"format": task}).config("format", 0)
    replay, mixup = config.arms["replay"], config.arms["mixup"]
    assert (replay.ratio, replay.answers, replay.steps) == (4, "reference", 20)
    assert (mixup.ratio, mixup.objective, mixup.steps) == (0, "mixup", 20)
    assert config.arms["rewording_only"].reworded
    assert not config.arms["self_sampling_only"].reworded
    assert not config.arms["common"].reworded


def test_the_shipped_study() -> None:
    study = load_settings(Study, [RECIPE])
    assert study.ratios == [0, 8, 16, 32, 67, 135, 260, 520]
    assert study.seeds >= 5
    for task in study.tasks:
        config = study.config(task, 0)
        rows = (config.downstream.rows or 0) * max(study.ratios)
        assert (config.corpus[0].rows or 0) >= rows + config.synthesize.held_out
    assert load_settings(Study, [RECIPE], ["seeds=7"]).seeds == 7


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match="ratios must begin with 0 and rise"):
        small(ratios=[4, 16])
    with pytest.raises(ValueError, match="must be among"):
        small(reference=5)
    with pytest.raises(ValueError, match="no suites"):
        small(tasks={"format": {"run": {}, "adapt": ["nothing"]}}).config("format", 0)
    falling = {"finetune": {"schedule": "cosine"}}
    with pytest.raises(ValueError, match=r"schedule=cosine.*leave it constant"):
        small(tasks={"format": {"run": falling, "adapt": ["plain"]}}).config("format", 0)
    with pytest.raises(UserError, match="sedes is not a setting"):
        load_settings(Study, [RECIPE], ["sedes=7"])
