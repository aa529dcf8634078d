"""A training that dies for want of memory says so, and goes on with a smaller micro-batch."""

import pytest
from ray.exceptions import OutOfMemoryError
from ray.train.v2.api.exceptions import WorkerGroupError

from delia_ray.artifacts import open_storage
from delia_ray.config import Finetune
from delia_ray.errors import DeliaError
from delia_ray.finetune import deaths
from delia_ray.finetune.progress import PROGRESS
from delia_ray.finetune.stage import STAGE
from tests.finetune.helpers import changed, prepare

CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")


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
    out = open_storage(str(tmp_path))
    told = {
        "arm": "delia",
        "step": 3,
        "steps": 6,
        "loss": 1.0,
        "tokens": 9,
        "seconds": 1.0,
        "tokens_so_far": 27,
    }
    out.write_json(PROGRESS, told | {"memory_gib": 2.5})
    found = deaths.memory_death(error, Finetune(micro_batch_size=8, workers=2), out)
    assert type(found) is DeliaError
    said = str(found)
    assert "training worker 1 ran out of memory at step 3 of delia" in said
    for part in ("2.5 GiB", "micro_batch_size (now 8)", "workers (now 2)", "mix.pack_length"):
        assert part in said
    assert "\n" not in said


def test_only_what_can_be_lowered_is_advised(tmp_path) -> None:
    own = Finetune(micro_batch_size=1, workers=1, gradient_checkpointing=True)
    said = str(deaths.memory_death(MemoryError(), own, open_storage(str(tmp_path))))
    assert "it had made no step yet" in said
    assert "lower" not in said
    assert "gradient_checkpointing" not in said


@pytest.mark.parametrize("kills", [0, 2])
def test_a_killed_process_is_memory_where_the_kernel_says_so(tmp_path, monkeypatch, kills) -> None:
    monkeypatch.setattr(deaths, "_CGROUP", tmp_path)
    (tmp_path / "memory.events").write_text(f"low 0\noom 9\noom_kill {kills}\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    error = WorkerGroupError("x", {0: RuntimeError("worker died: connection error code 2. EOF")})
    found = deaths.memory_death(error, Finetune(), open_storage(str(tmp_path)))
    assert (found is not None) == (kills > 0)
    if found is not None:
        assert "container of this command has 1.0 GiB, of which 0.5 are free" in str(found)


def test_other_errors_stay_what_they_are(tmp_path) -> None:
    out = open_storage(str(tmp_path))
    for error in (ValueError("shapes"), WorkerGroupError("x", {0: KeyError("a")})):
        assert deaths.memory_death(error, Finetune(), out) is None


def test_a_smaller_micro_batch_goes_on_with_the_same_training(tmp_path, make_model) -> None:
    config, _ = prepare(tmp_path, make_model(tmp_path / "base"))
    smaller = changed(config, micro_batch_size=1, gradient_checkpointing=True)
    assert STAGE.settings(smaller) == STAGE.settings(config)
    assert STAGE.settings(changed(config, lr=0.5)) != STAGE.settings(config)
