"""Broken off and gone on with: the same to the bit, and nearly so on other numbers of workers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from delia_ray.artifacts import open_storage
from delia_ray.finetune.loop import Job
from delia_ray.finetune.state import load
from tests.finetune.gang import run_gang
from tests.finetune.helpers import changed, prepare

SPREAD = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
KINDS: dict[str, dict[str, Any]] = {
    "zero1": {"zero": 1},
    "zero2": {"zero": 2},
    "zero3": {"zero": 3, "deepspeed": SPREAD},
    "bf16": {"zero": 2, "precision": "bf16"},
    "dora": {"zero": 2, "method": "dora"},
    "full": {"zero": 3, "method": "full", "deepspeed": SPREAD},
    "offload": {"zero": 2, "offload": "optimizer"},
    "three": {"zero": 3, "workers": 3, "deepspeed": SPREAD},
}
"""Dropout is on in all of them; a checkpoint follows every second of six steps."""
OTHERS = (1, 3)
"""Workers that go on with what two began."""


@pytest.fixture(scope="module")
def results(tmp_path_factory, make_model) -> dict[tuple[str, str], Path]:
    """The arm's folder by (kind, how): ``whole``, ``again`` (broken off after four steps, and
    gone on with), ``1`` and ``3`` (gone on with by as many)."""
    root = tmp_path_factory.mktemp("resume")
    config, out = prepare(root, make_model(root / "base", hidden=16))
    begun: dict[int, list[tuple[Job, int | None]]] = {1: [], 2: [], 3: []}
    resumed: dict[int, list[tuple[Job, int | None]]] = {1: [], 2: [], 3: []}
    folders = {}

    def job(kind: str, how: str) -> Job:
        own = Job(changed(config, **KINDS[kind]), out / "mix", out / f"{kind}-{how}")
        folders[kind, how] = Path(own.out.path) / "delia"
        return own

    for kind in KINDS:
        workers = KINDS[kind].get("workers", 2)
        begun[workers] += [(job(kind, "whole"), None), (job(kind, "again"), 4)]
        resumed[workers].append((job(kind, "again"), None))
    for kind in ("zero1", "zero2", "zero3"):
        for world in OTHERS:
            begun[2].append((job(kind, str(world)), 4))
            resumed[world].append((job(kind, str(world)), None))
    run_gang(2, begun[2])
    run_gang(3, begun[3] + resumed[3])
    for world in (1, 2):
        run_gang(world, resumed[world])
    return folders


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    adapter = folder / "adapter" / "adapter_model.safetensors"
    return load_file(adapter if adapter.exists() else folder / "merged" / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_to_the_bit_on_as_many_workers(results, kind: str) -> None:
    whole, again = _weights(results[kind, "whole"]), _weights(results[kind, "again"])
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    one, other = (_curve(results[kind, how]) for how in ("whole", "again"))
    assert [p["loss"] for p in one] == [p["loss"] for p in other]
    assert [p["step"] for p in other] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("world", OTHERS)
@pytest.mark.parametrize("kind", ["zero1", "zero2", "zero3"])
def test_nearly_the_same_on_another_number(results, kind: str, world: int) -> None:
    whole, other = _curve(results[kind, "whole"]), _curve(results[kind, str(world)])
    # Dropout differs with the ranks: only the step right after is computed from equal weights.
    assert other[4]["supervised_tokens"] == whole[4]["supervised_tokens"]
    assert other[4]["loss"] == pytest.approx(whole[4]["loss"], rel=0.05)


def test_a_checkpoint_is_the_same_whoever_wrote_it(results) -> None:
    """Of every ZeRO stage, in fp32: values and both moments, each whole."""
    one, *others = (
        load(results[kind, "whole"].parent / "checkpoints" / "whole-delia_step_00000004")
        for kind in ("zero1", "zero2", "zero3")
    )
    assert {name.rsplit("|", 1)[1] for name in one} == {"value", "exp_avg", "exp_avg_sq"}
    for other in others:
        assert other.keys() == one.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-6)


def test_a_share_that_is_missing_is_noticed(results, tmp_path: Path) -> None:
    folder = results["zero1", "whole"].parent / "checkpoints" / "whole-delia_step_00000002"
    share = next(folder.glob("state-00000-*"))
    (tmp_path / share.name).write_bytes(share.read_bytes())
    with pytest.raises(FileNotFoundError, match="1 of 2 shares"):
        load(tmp_path)


def _curve(folder: Path) -> list[dict[str, Any]]:
    return open_storage(str(folder)).read_table("curve.parquet").to_pylist()
