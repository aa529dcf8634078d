"""Names that become paths, and folders that are not left."""

import os
from pathlib import Path

import pytest

from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig, Sweep, load_config
from delia_ray.errors import DeliaError, UserError
from delia_ray.names import is_name, leads_out
from delia_ray.pipeline import CURRENT, finished, stages_of
from delia_ray.records import digest

WRONG = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc",
    "a\\b",
    "-x",
    ".x",
    "a\0",
    "a b",
    "ä",
    "x" * 101,
    "a@3",
    "a.tmp-0123abcd",
]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_name_is_one_nowhere(name: str) -> None:
    assert not is_name(name)
    suite = {"name": name, "path": "plain", "format": "miniature", "rows": 2}
    for tree in (
        {"name": name},
        {"arms": {name: {}}},
        {"evaluate": {"suites": [suite], "summary": []}},
        {"evaluate": {"systems": {name: {}}}},
    ):
        with pytest.raises(ValueError, match="names files"):
            RunConfig.model_validate(tree)
    with pytest.raises(ValueError, match="names files"):
        Sweep.model_validate({"name": name, "dimensions": {"mix.ratio": {"choice": [1]}}})


@pytest.mark.parametrize("name", ["a", "A1", "demo.v2", "a_b-c", "x" * 100])
def test_ordinary_names_are_taken(name: str) -> None:
    assert is_name(name)
    assert list(RunConfig.model_validate({"arms": {name: {}}}).arms) == [name]


@pytest.mark.parametrize("name", ["base", "checkpoints", "train", "all", "rewordings"])
def test_arms_do_not_take_the_place_of_something_else(name: str) -> None:
    with pytest.raises(ValueError, match=f"arms: '{name}' is the"):
        RunConfig.model_validate({"arms": {name: {}}})


@pytest.mark.parametrize(
    "override", ["arms={'../../../../victim': common}", "arms={'a/b': common}"]
)
def test_the_command_line_names_the_arm(override: str) -> None:
    with pytest.raises(UserError, match=r"arms.*names files"):
        load_config([], [override])


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/etc/passwd", "a//b", "a\0b", "./a"])
def test_a_folder_is_not_left_by_a_name(name: str, tmp_path: Path) -> None:
    assert leads_out(name)
    folder = open_storage(str(tmp_path / "in"))
    for act in (
        lambda: folder / name, lambda: folder.write_text(name, "x"), lambda: folder.remove(name),
        lambda: folder.read_bytes(name), lambda: folder.upload(tmp_path, name),
    ):  # fmt: skip
        with pytest.raises(DeliaError, match="inside it"):
            act()
    assert not (tmp_path / "x").exists()


@pytest.fixture
def linked(tmp_path: Path) -> tuple[Folder, Path]:
    """A run with links that lead out of it, and where they lead."""
    victim, run = tmp_path / "victim", tmp_path / "runs" / "demo"
    victim.mkdir()
    (victim / "kept.json").write_text("{}")
    run.mkdir(parents=True)
    (run / "stage").symlink_to(victim)
    (run / "file.json").symlink_to(victim / "kept.json")
    return open_storage(str(run)).rooted(), victim


def test_links_are_not_followed_out_of_a_run(linked: tuple[Folder, Path]) -> None:
    run, victim = linked
    for act in (
        lambda: (run / "stage").write_text("new.json", "x"),
        lambda: (run / "stage").read_json("kept.json"),
        lambda: (run / "stage").remove("kept.json"),
        lambda: run.write_json("file.json", {}),
        lambda: run.read_json("file.json"),
        lambda: (run / "stage" / "deeper").write_text("x", "x"),
    ):
        with pytest.raises(DeliaError, match="a link stands in its way"):
            act()
    assert sorted(os.listdir(victim)) == ["kept.json"]
    assert (victim / "kept.json").read_text() == "{}"


def test_a_link_is_removed_and_not_what_it_leads_to(linked: tuple[Folder, Path]) -> None:
    run, victim = linked
    run.remove("stage")
    run.remove("file.json")
    assert not run.names()
    assert (victim / "kept.json").exists()


def test_the_storage_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    run = (open_storage(str(tmp_path / "runs")) / "demo").rooted()
    (run / "stage").write_json("x.json", {"a": 1})
    assert (run / "stage").read_json("x.json") == {"a": 1}


@pytest.mark.parametrize(
    "stages",
    [
        {"report": "../../../trav"}, {"report": ".."}, {"report": 3}, {"victim": digest(1)},
        {"report": "0" * 15}, {"report": "G" * 16}, {"report": None},
    ],
)  # fmt: skip
def test_stages_of_a_run_are_fingerprints(stages: dict[str, object], tmp_path: Path) -> None:
    run = open_storage(str(tmp_path / "demo"))
    run.write_json("config.json", RunConfig().model_dump(mode="json"))
    run.write_json(CURRENT, stages)
    for read in (stages_of, finished):
        with pytest.raises(DeliaError, match=r"stages\.json is not as it was written"):
            read(run)
    assert os.listdir(tmp_path) == ["demo"]
