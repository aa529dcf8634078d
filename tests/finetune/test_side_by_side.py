"""Arms trained side by side by processes that stay, and what is kept of them on the way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.finetune.job import Job
from delia_ray.finetune.stage import run
from delia_ray.mix.stage import run as mix
from delia_ray.stage import StageRun
from tests.finetune.gang import run_gang
from tests.finetune.helpers import changed, prepare

pytestmark = pytest.mark.ray

ARMS = {
    "delia": {"snapshots": [2, 4]},
    "short": {"steps": 4, "reworded": False},
    "common": {"ratio": 0, "steps": 3},
}


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Path]
) -> tuple[RunConfig, Folder]:
    root = tmp_path_factory.mktemp("apart")
    config, out = prepare(root, make_model(root / "base"), arms=ARMS)
    counts = {arm: {"steps": arm_steps} for arm, arm_steps in
              (("delia", 6), ("short", 4), ("common", 3))}  # fmt: skip
    (out / "mix").publish({"counts": {"arms": counts}})
    return config, out


def _weights(folder: Folder) -> dict[str, np.ndarray]:
    return dict(load_file(folder.file("adapter/adapter_model.safetensors")))


def test_the_same_to_the_bit_as_one_after_the_other(
    ray_local: None, place: tuple[RunConfig, Folder]
) -> None:
    config, out = place
    # Checkpoints after every step: one arm must not remove another's.
    apart = changed(config, side_by_side=2, workers=1, checkpoint_every=1)
    outcome = run(StageRun(apart, out, out / "apart", {"mix": out / "mix"}))
    run_gang(1, [(Job(config, out / "mix", out / "one"), None)])
    for name in config.models:
        ours, theirs = (_weights(out / side / name) for side in ("apart", "one"))
        assert ours.keys() == theirs.keys()
        assert all((ours[k] == theirs[k]).all() for k in theirs), name
    assert outcome.counts["arms"]["short"]["steps"] == 4
    steps = {a: len((out / "apart" / a).read_table("curve.parquet")) for a in ARMS}
    assert steps == {"delia": 6, "short": 4, "common": 3}


def test_a_snapshot_is_the_arm_as_of_that_step(place: tuple[RunConfig, Folder]) -> None:
    """``short`` sees other wordings, so it is not that; the arm itself, ended there, is."""
    config, out = place
    assert config.models == ["delia", "short", "common", "delia@2", "delia@4"]
    tree = config.model_dump()
    tree["arms"]["delia"] = {"steps": 4}
    shorter = RunConfig.model_validate(tree)
    run_gang(1, [(Job(config, out / "mix", out / "kept"), None)])
    inputs = {name: out / name for name in ("ingest", "synthesize")}
    mix(StageRun(shorter, out, out / "mix4", inputs))
    run_gang(1, [(Job(shorter, out / "mix4", out / "ended"), None)])
    kept, ended = _weights(out / "kept" / "delia@4"), _weights(out / "ended" / "delia")
    assert all((kept[k] == ended[k]).all() for k in ended)
    last = _weights(out / "kept" / "delia")
    assert any((kept[k] != last[k]).any() for k in last)


def test_a_snapshot_after_the_end_is_refused(place: tuple[RunConfig, Folder]) -> None:
    config, out = place
    tree = config.model_dump()
    tree["arms"]["common"]["snapshots"] = [3]
    late = RunConfig.model_validate(tree)
    with pytest.raises(UserError, match=r"arms\.common\.snapshots=\[3\]: the arm has 3 steps"):
        run(StageRun(late, out, out / "late", {"mix": out / "mix"}))


def test_several_workers_and_side_by_side_exclude_each_other(
    place: tuple[RunConfig, Folder],
) -> None:
    with pytest.raises(ValueError, match=r"side_by_side=2 .* workers=2"):
        changed(place[0], side_by_side=2, workers=2)
