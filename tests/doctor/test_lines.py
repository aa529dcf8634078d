"""What ``delia doctor`` prints, and what it sees of this machine."""

import dataclasses
import os
from pathlib import Path

import pytest

from delia_ray.config import load_config
from delia_ray.doctor import collect
from delia_ray.doctor.diagnose import diagnose
from delia_ray.doctor.run import lines
from delia_ray.miniature import MODEL_PATH
from tests.doctor.test_diagnose import HEALTHY, recipe, with_node


def test_the_verdict_stands_last() -> None:
    told = lines(recipe(), HEALTHY, [])
    assert told[0] == "3 nodes, 16 CPUs, 4 GPUs; storage s3://b/runs"
    assert "delia-role=training" in told[3]
    assert told[-1] == "the recipe can run here"


def test_a_problem_stands_above_its_advice() -> None:
    facts = with_node("a", silent="no answer within 180 s")
    told = lines(recipe(), facts, diagnose(recipe(), facts))
    at = next(i for i, line in enumerate(told) if line.startswith("problem: a did not answer"))
    assert told[at + 1].startswith("         restart its Ray")
    assert told[-1] == "1 problem; the recipe would fail here"
    assert "silent: no answer" in told[2]


def test_nodes_write_to_and_read_from_the_storage(tmp_path: Path) -> None:
    probe = str(tmp_path / ".doctor" / "x")
    assert collect._write(collect.Folder(probe), "one") == ""
    assert collect._write(collect.Folder(probe), "two") == ""
    (tmp_path / ".doctor" / "x" / "torn").write_text("")
    assert collect._read(probe, "one") == ["one", "two"]
    collect._clean(collect.Folder(probe))
    assert not (tmp_path / ".doctor").exists()
    (tmp_path / "file").touch()
    assert "Error" in collect._write(collect.Folder(str(tmp_path / "file" / "x")), "one")


def test_imports_are_tried_in_a_process_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text("import os\nos.abort()\n")
    (tmp_path / "failing.py").write_text("raise ImportError('libcuda.so.1: no such file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert collect._cannot_import("json") == ""
    assert collect._cannot_import("failing") == "ImportError: libcuda.so.1: no such file"
    assert "ends the process" in collect._cannot_import("crashing")


def test_only_what_the_recipe_uses_is_imported() -> None:
    assert collect.packages_of(recipe()) == ("transformers", "peft", "deepspeed", "vllm")
    lean = recipe("synthesize.engine.type=transformers", "arms={}")
    assert collect.packages_of(lean) == ("transformers",)


def test_weights_of_models_that_lie_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(123))
    assert collect._weights(str(tmp_path)) == 123
    assert collect._weights("miniature") == os.path.getsize(MODEL_PATH / "model.safetensors")
    assert collect._weights(None) == collect._weights("s3://bucket/model") == 0


@pytest.mark.ray
def test_this_machine_can_run_the_demo(ray_local: None, tmp_path: Path) -> None:
    config = load_config([], [f"storage={tmp_path}", "synthesize.engine.type=transformers",
                              "finetune.workers=1"])  # fmt: skip
    facts = collect.collect(config)
    (node,) = facts.nodes
    assert node.silent == ""
    assert (node.cpus, node.storage) == (2, "")
    assert node.sees == frozenset([node.name])
    assert node.versions["ray"]
    assert "deepspeed" not in node.broken
    assert facts.model_bytes > 0
    assert {f.kind for f in diagnose(config, facts)} <= {"too little disk"}
    assert not (tmp_path / ".doctor").exists()


def test_what_a_step_needs_is_said() -> None:
    """By the arithmetic of the training, on the model that the recipe names."""
    step = collect.step_of(load_config([], ["model=miniature", "mix.pack_length=256"]))
    assert step is not None
    assert (step.packs, step.tokens) == (1, 256)
    assert 0 < step.more < step.bytes
    set_to_four = collect.step_of(
        load_config([], ["model=miniature", "mix.pack_length=256", "finetune.micro_batch_size=4"])
    )
    assert set_to_four is not None
    assert set_to_four.bytes == pytest.approx(step.bytes + 3 * step.more, rel=0.01)
    told = lines(recipe(), dataclasses.replace(HEALTHY, step=step), [])
    assert "with finetune.micro_batch_size=1, and" in told[-2]
    assert collect.step_of(load_config([], ["model=miniature", "arms={}"])) is None
