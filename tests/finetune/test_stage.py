"""The stage as users run it: Ray Train around DeepSpeed."""

import itertools
from pathlib import Path

import pytest
from safetensors.torch import load_file

from delia_ray.artifacts import open_storage
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.finetune.stage import STAGE, settings
from delia_ray.stage import Outcome, StageRun
from delia_ray.store import Store
from tests.finetune.helpers import changed, prepare

ARMS = {"delia": {}, "replay": "replay", "mixup": "mixup", "whole_chat": "whole_chat"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, make_model):
    root = tmp_path_factory.mktemp("finetune")
    return prepare(root, make_model(root / "base"), arms=ARMS)


@pytest.fixture(scope="module")
def trained(ray_local, prepared) -> tuple[Outcome, Path]:
    """Four arms by two workers of Ray Train; (what the stage said, its folder)."""
    config, out = prepared
    target = out / "finetune"
    outcome = STAGE.run(StageRun(config, out, target, {"mix": out / "mix"}))
    return outcome, Path(target.path)


def test_the_rows_of_the_mix_are_counted(prepared) -> None:
    _, out = prepared
    rows = (out / "mix").read_table("sequences.parquet").to_pylist()
    assert len(rows) == 6 + 1 + 18 + 18
    steps = Store(out / "mix", "steps-delia")
    assert len(steps) == 6
    for step in range(6):
        kinds = [rows[i]["kind"] for i in steps.row(step)["sequence"]]
        assert len(kinds) == 8
        assert all(kinds[i : i + 4].count("downstream") == 1 for i in (0, 4))


@pytest.mark.ray
def test_every_arm_leaves_its_files(trained) -> None:
    outcome, folder = trained
    assert list(outcome.counts["arms"]) == list(ARMS)
    for arm in ARMS:
        names = {p.name for p in (folder / arm).iterdir()}
        assert {"adapter", "merged", "curve.parquet", "tensorboard"} <= names
        assert any((folder / arm / "tensorboard").glob("events.out.tfevents.*"))
        assert outcome.counts["arms"][arm]["steps"] == 6
        assert outcome.counts["arms"][arm]["tokens_per_second"] > 0
    adapters = [load_file(folder / a / "adapter" / "adapter_model.safetensors") for a in ARMS]
    name = next(n for n in adapters[0] if "lora_B" in n)
    for one, other in itertools.pairwise(adapters):
        assert (one[name] != other[name]).any(), "arms are trained on different things"


@pytest.mark.ray
def test_the_curve_tells_the_sources_apart(trained) -> None:
    _, folder = trained
    curves = {
        arm: open_storage(str(folder / arm)).read_table("curve.parquet").to_pylist() for arm in ARMS
    }
    curve = curves["delia"]
    assert [p["step"] for p in curve] == [1, 2, 3, 4, 5, 6]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[0]["lr"] == pytest.approx(0.005)
    for point in curve:
        low, high = sorted([point["loss_downstream"], point["loss_diverse"]])
        assert low <= point["loss"] <= high
        assert 0 < point["supervised_downstream"] < point["supervised_tokens"] < point["tokens"]
        assert point["regularisation"] is None
    assert all(p["supervised_tokens"] == p["tokens"] - 8 for p in curves["whole_chat"])
    assert all(p["regularisation"] > 0 for p in curves["mixup"])
    assert all(p["loss_diverse"] is None for p in curves["mixup"])
    saved = [p["checkpoint_seconds"] for p in curve]
    assert [s is not None for s in saved] == [False, True, False, True, False, False]


def test_what_may_change_when_a_run_goes_on_is_not_in_its_fingerprint(prepared) -> None:
    config, _ = prepared
    before = settings(config)
    assert settings(changed(config, workers=5, zero=3, checkpoint_every=7)) == before
    for setting in ({"lr": 1.0}, {"schedule": "cosine"}, {"method": "dora"}, {"batch_size": 9}):
        assert settings(changed(config, **setting)) != before


def test_missing_packages_are_named_before_anything_starts(prepared) -> None:
    config, _ = prepared
    with pytest.raises(UserError, match=r"trackers=\['mlflow'\].*pip install mlflow"):
        settings(changed(config, trackers=["mlflow"]))
    with pytest.raises(UserError, match=r"quantize=4bit needs the package bitsandbytes"):
        settings(changed(config, quantize="4bit"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_workers": 9}, "min_workers=9 is more than workers=2"),
        ({"offload": "all", "zero": 2}, "offload=all needs zero=3"),
        ({"quantize": "4bit", "zero": 3}, "quantize=4bit needs method=lora and zero=1 or 2"),
        ({"adapter": "x", "method": "full"}, "method=full has none"),
    ],
)
def test_contradictions_are_refused(prepared, wrong, message: str) -> None:
    config, _ = prepared
    with pytest.raises(ValueError, match=message):
        changed(config, **wrong)


def test_the_defaults_are_the_paper_s() -> None:
    own = RunConfig().finetune
    assert (own.lora.r, own.lora.alpha, own.lora.dropout) == (16, 16, 0.05)
    assert (own.lr, own.warmup_steps, own.schedule, own.weight_decay) == (
        2e-4,
        25,
        "constant",
        0.01,
    )
