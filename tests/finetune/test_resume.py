"""Broken off and gone on with: the same to the bit, and nearly so on other numbers of workers."""

import shutil
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from delia_ray.artifacts import open_storage
from delia_ray.finetune.checkpoints import Checkpoint, Checkpoints
from delia_ray.finetune.job import Job
from delia_ray.finetune.stop import STOP
from delia_ray.records import METRIC_POINT
from tests.finetune.gang import run_gang
from tests.finetune.helpers import changed, prepare

SPREAD = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
PLAIN = {"r": 4, "dropout": 0.0}
"""Dropout differs with the number of workers, and so do losses then."""
KINDS: dict[str, dict[str, Any]] = {
    "zero1": {"zero": 1, "lora": PLAIN},
    "zero2": {"zero": 2, "lora": PLAIN},
    "zero3": {"zero": 3, "lora": PLAIN, "deepspeed": SPREAD},
    "bf16": {"zero": 2, "precision": "bf16"},
    "dora": {"zero": 2, "method": "dora"},
    "full": {"zero": 3, "method": "full", "deepspeed": SPREAD},
    "offload": {"zero": 2, "offload": "optimizer"},
    "three": {"zero": 3, "workers": 3, "deepspeed": SPREAD},
}
"""A checkpoint follows every second of six steps."""
ASKED = ("zero1", "full")
"""Those that are asked to stop, too."""
OTHERS = (1, 3)
"""Workers that go on with what two began."""


@pytest.fixture(scope="module")
def results(tmp_path_factory, make_model) -> dict[tuple[str, str], Path]:
    """The arm's folder by (kind, how): ``whole``, ``again`` (broken off after four steps, and
    gone on with), ``asked`` (asked to stop in its first steps, and gone on with), ``1`` and ``3``
    (gone on with by as many)."""
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
    for kind in ASKED:
        asked = job(kind, "asked")
        asked.out.write_json(STOP, {})
        begun[2].append((asked, None))
        resumed[2].append((asked, None))
    run_gang(2, begun[2])
    for kind in ASKED:
        stopped = folders[kind, "asked"]
        assert not (stopped / "curve.parquet").exists()
        assert 0 < _last(stopped).step < 6, "it saved a step, whatever checkpoint_every says"
        (stopped.parent / STOP).unlink()
    run_gang(3, begun[3] + resumed[3])
    for world in (1, 2):
        run_gang(world, resumed[world])
    return folders


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    adapter = folder / "adapter" / "adapter_model.safetensors"
    return load_file(adapter if adapter.exists() else folder / "merged" / "model.safetensors")


@pytest.mark.parametrize(
    ("kind", "how"), [*((kind, "again") for kind in KINDS), *((kind, "asked") for kind in ASKED)]
)
def test_the_same_to_the_bit_on_as_many_workers(results, kind: str, how: str) -> None:
    whole, again = _weights(results[kind, "whole"]), _weights(results[kind, how])
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    one, other = (_curve(results[kind, how]) for how in ("whole", how))
    assert [p["loss"] for p in one] == [p["loss"] for p in other]
    assert [p["step"] for p in other] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("world", OTHERS)
@pytest.mark.parametrize("kind", ["zero1", "zero2", "zero3"])
def test_nearly_the_same_on_another_number(results, kind: str, world: int) -> None:
    whole, other = _curve(results[kind, "whole"]), _curve(results[kind, str(world)])
    for name in ("loss", "loss_downstream", "grad_norm"):
        expected = [p[name] for p in whole]
        assert [p[name] for p in other] == pytest.approx(expected, rel=1e-4)


def test_a_checkpoint_is_the_same_whoever_wrote_it(results) -> None:
    """Of every ZeRO stage, in fp32: values and both moments, each whole."""
    one, *others = (_last(results[kind, "whole"]).state for kind in ("zero1", "zero2", "zero3"))
    assert {name.rsplit("|", 1)[1] for name in one} == {"value", "exp_avg", "exp_avg_sq"}
    for other in others:
        assert other.keys() == one.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-6)


def test_what_was_not_finished_does_not_count(results, tmp_path: Path) -> None:
    kept = tmp_path / "checkpoints"
    shutil.copytree(results["zero1", "whole"].parent / "checkpoints", kept)
    assert _last(tmp_path / "delia").step == 4
    (kept / "delia" / "00000004" / "whole.json").unlink()
    assert _last(tmp_path / "delia").step == 2


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        for remote in (False, True):
            storage = open_storage("memory://kept" if remote else str(tmp_path))
            own = Checkpoints(storage / "checkpoints", keep=2)
            for step, score in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (5, 4.0)):
                own.save("a", step, score, {"x": torch.full((2,), float(step))}, _points(step))
            if remote:
                assert own.last("a").step == 4, "the last one is still being written"
            own.settle()
            kept = (own.folder / "a").names()
            assert kept == ["00000002", "00000004", "00000005"]
            assert own.last("a").state["x"].tolist() == [5.0, 5.0]
            assert own.last("b") is None
    finally:
        dist.destroy_process_group()


def test_arms_side_by_side_keep_their_own(tmp_path: Path) -> None:
    """Each goes on from its own last one, whatever the other saves or forgets meanwhile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        for url in (str(tmp_path), "memory://side-by-side"):
            folder = open_storage(url) / "checkpoints"
            arms = {name: Checkpoints(folder) for name in ("a", "a-00000001", "b", "b-1")}
            for step in (1, 2, 3):
                for name, own in arms.items():
                    own.save(
                        name, step, 1 / step, {"x": torch.full((2,), float(step))}, _points(step)
                    )
            for name, own in arms.items():
                own.settle()
                assert own.last(name).step == 3
                assert own.last(name).state["x"].tolist() == [3.0, 3.0]
            arms["a"].forget("a")
            assert arms["a"].last("a") is None
            assert [own.last(name).step for name, own in list(arms.items())[1:]] == [3, 3, 3]
    finally:
        dist.destroy_process_group()


def _last(folder: Path) -> Checkpoint:
    found = Checkpoints(open_storage(str(folder.parent / "checkpoints"))).last("delia")
    assert found is not None
    return found


def _points(steps: int) -> list[dict[str, Any]]:
    """Rows of a curve."""
    return [
        {f.name: step if f.name == "step" else 1 if pa.types.is_integer(f.type) else 1.0
         for f in METRIC_POINT}
        for step in range(1, steps + 1)
    ]  # fmt: skip


def _curve(folder: Path) -> list[dict[str, Any]]:
    return open_storage(str(folder)).read_table("curve.parquet").to_pylist()
