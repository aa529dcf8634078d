"""A training that dies for want of memory says so, and goes on with a smaller micro-batch."""

from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError
from ray.train.v2.api.exceptions import WorkerGroupError

from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import Finetune
from delia_ray.errors import DeliaError
from delia_ray.finetune import deaths, stage
from delia_ray.finetune.deaths import memory_death
from delia_ray.finetune.progress import PROGRESS
from delia_ray.finetune.stage import STAGE
from delia_ray.machine_memory import Memory
from delia_ray.stage import StageRun
from tests.finetune.helpers import changed, prepare

CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")
VANISHED = RuntimeError("worker died: connection error code 2. End of file")


def _told(folder: Folder) -> list[Folder]:
    """A place where a training told that it had made three steps."""
    point = {"arm": "delia", "step": 3, "steps": 6, "loss": 1.0, "tokens": 9, "seconds": 1.0}
    folder.write_json(PROGRESS, point | {"tokens_so_far": 27, "memory_gib": 2.5})
    return [folder]


@pytest.mark.parametrize(
    "error",
    [
        WorkerGroupError("x", {1: CPU}),
        WorkerGroupError("x", {1: MemoryError()}),
        WorkerGroupError("x", {1: OutOfMemoryError("Task was killed due to the node running low")}),
        WorkerGroupError("x", {0: ValueError("another"), 1: RuntimeError("CUDA out of memory")}),
    ],
)
def test_one_paragraph_names_process_memory_and_settings(tmp_path, error: Exception) -> None:
    places = _told(open_storage(str(tmp_path)))
    found = memory_death(error, Finetune(micro_batch_size=8, workers=2), places, 0, {})
    assert type(found) is DeliaError
    said = str(found)
    assert "training worker 1 ran out of memory at step 3 of delia" in said
    for part in ("2.5 GiB", "micro_batch_size (now 8)", "workers (now 2)", "mix.pack_length"):
        assert part in said
    assert "\n" not in said


def test_arms_side_by_side_tell_in_their_own_folders(tmp_path) -> None:
    out = open_storage(str(tmp_path))
    places = [out / "common", *_told(out / "delia")]
    own = Finetune(workers=1, side_by_side=2)
    cause = RuntimeError("the process that trains delia died: out of memory")
    said = str(memory_death(cause, own, places, 0, {}))
    assert "at step 3 of delia" in said
    assert "side_by_side (now 2)" in said


def test_only_what_can_be_lowered_is_advised(tmp_path) -> None:
    own = Finetune(micro_batch_size=1, workers=1, gradient_checkpointing=True)
    said = str(memory_death(MemoryError(), own, [open_storage(str(tmp_path))], 0, {}))
    assert "it had made no step yet" in said
    assert "lower" not in said
    assert "gradient_checkpointing" not in said


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 2), (0, 1), (2, 3)])
def test_a_killed_process_is_memory_where_the_kernel_ended_one_meanwhile(
    tmp_path, monkeypatch, before: int, after: int
) -> None:
    """Those of before this training are not taken for it."""
    monkeypatch.setattr(deaths, "kills", lambda: after)
    monkeypatch.setattr(deaths, "memory", lambda: Memory(2**30, 2**29, True))
    error = WorkerGroupError("x", {0: VANISHED})
    found = memory_death(error, Finetune(), [open_storage(str(tmp_path))], before, {})
    assert (found is not None) == (after > before)
    if found is not None:
        assert "was killed, and the system ran out of memory" in str(found)
        assert "container of this command has 1.0 GiB, of which 0.5 are free" in str(found)


def test_other_errors_stay_what_they_are(tmp_path) -> None:
    out = open_storage(str(tmp_path))
    for error in (ValueError("shapes"), WorkerGroupError("x", {0: KeyError("a")})):
        assert memory_death(error, Finetune(), [out], 0, {}) is None


def test_a_smaller_micro_batch_goes_on_with_the_same_training(tmp_path, make_model) -> None:
    config, _ = prepare(tmp_path, make_model(tmp_path / "base"))
    smaller = changed(config, micro_batch_size=1, gradient_checkpointing=True)
    assert STAGE.settings(smaller) == STAGE.settings(config)
    assert STAGE.settings(changed(config, lr=0.5)) != STAGE.settings(config)


def _limited(settings: dict[str, Any]) -> None:
    """The worker of a model whose pass holds 5 MiB for each token. After its checkpoint it may
    take no more than 512 MiB of addresses beside those that it has."""
    import resource
    from pathlib import Path

    import torch

    from delia_ray.finetune import loop
    from delia_ray.finetune.stage import _worker

    run, save = loop.run, loop.Training.save

    def large(engine: Any, micro: Any) -> Any:
        held = torch.ones(micro.input_ids.numel() * 5 * 2**18)
        return run(engine, micro) + 0 * held[0]

    def save_then_limit(self: Any, step: int) -> None:
        save(self, step)
        self.checkpoints.settle()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 2**29, -1))

    loop.run, loop.Training.save = large, save_then_limit
    _worker(settings)


@pytest.mark.ray
def test_planted_limit_then_on_with_a_smaller_micro_batch(
    ray_local, tmp_path: Path, make_model, monkeypatch
) -> None:
    """Both trainings are under the same limit; only the second stays below it."""
    config, out = prepare(
        tmp_path, make_model(tmp_path / "base"), mix={"ratio": 3, "max_length": 64},
        finetune={"workers": 1, "max_failures": 0, "micro_batch_size": 8, "watch": {"every": 0}},
    )  # fmt: skip
    target = out / "finetune"
    monkeypatch.setattr(stage, "_worker", _limited)
    with pytest.raises(DeliaError, match="ran out of memory") as caught:
        STAGE.run(StageRun(config, out, target, {"mix": out / "mix"}))
    assert caught.value.exit_code == 1
    assert "micro_batch_size (now 8)" in str(caught.value)
    assert (target / "checkpoints" / "delia").names() == ["00000002"]
    smaller = changed(config, micro_batch_size=1)
    outcome = STAGE.run(StageRun(smaller, out, target, {"mix": out / "mix"}))
    assert outcome.counts["arms"]["delia"]["steps"] == 6
    assert (target / "delia").read_table("curve.parquet")["step"].to_pylist() == [1, 2, 3, 4, 5, 6]
