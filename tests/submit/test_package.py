"""What travels with a job: the recipe and what it names here, and nothing else."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from delia_ray.config import RunConfig, Settings, load_config
from delia_ray.errors import UserError
from delia_ray.k8s.reachable import check_reachable
from delia_ray.recipe_files import file_setting, named_paths, resolved, with_paths
from delia_ray.submit import package
from delia_ray.submit.package import pack

RECIPE = """
name: mine
storage: s3://bucket/runs
model: ./model
downstream: {path: data/task.jsonl, format: auto, rows: null}
corpus:
  - {path: data/pool/*.json}
  - {path: ../elsewhere/more.csv}
  - {path: s3://bucket/queries}
  - {path: /shared/queries}
  - {path: corpus, format: miniature, rows: 9}
evaluate:
  suites: [{name: held_out, path: held}]
  summary: []
  systems: {other: {held_out: other.txt}}
synthesize: {engine: {type: vllm, adapters: [adapter]}}
finetune: {adapter: adapter}
cluster: {address: "ray://x:1", kubernetes: {namespace: mine}}
"""
HERE = {
    "model/config.json", "model/deep/weights.bin", "data/task.jsonl", "data/pool/a.json",
    "data/pool/b.json", "held/rows.jsonl", "other.txt", "adapter/adapter_config.json",
}  # fmt: skip
UNNAMED = {".env", "data/secret.jsonl", "data/pool/note.txt", "runs/old/manifest.json"}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    for name in HERE | UNNAMED | {"../elsewhere/more.csv"}:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (folder / "mine.yaml").write_text(RECIPE)
    monkeypatch.chdir(folder)
    return folder


def test_what_the_recipe_names_and_nothing_else(work: Path, tmp_path: Path) -> None:
    packed = pack(load_config(["mine.yaml"], ["mix.ratio=3"]), tmp_path / "out")
    assert set(packed.files) == HERE | {"files/up1/elsewhere/more.csv", "recipe.yaml"}
    for name in HERE:
        assert (tmp_path / "out" / name).read_text() == name
    assert packed.bytes == sum(map(len, HERE)) + len("../elsewhere/more.csv")


def test_the_job_finds_the_files_where_its_recipe_says(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    pack(load_config(["mine.yaml"], ["mix.ratio=3"]), tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    tree = yaml.safe_load(Path("recipe.yaml").read_text())
    config = RunConfig.model_validate(tree)
    assert config.mix.ratio == 3
    assert config.cluster.address is None, "a job joins the cluster around it"
    sources = [s.path for s in config.corpus]
    assert sources[1:4] == [
        "files/up1/elsewhere/more.csv",
        "s3://bucket/queries",
        "/shared/queries",
    ]
    for path in (config.downstream.path, config.model, sources[1], config.finetune.adapter):
        assert Path(str(path)).exists(), path
    assert sorted(p.name for p in Path().glob(sources[0])) == ["a.json", "b.json"]


FILES = {
    "also": {"downstream": {"path": "a", "format": "auto", "also": [{"path": "b.csv"}]}},
    "parallel": {
        "downstream": {"path": "a.en", "format": "parallel", "parallel": {"path": "a.is"}}
    },
    "corpus": {"corpus": [{"path": "a"}, {"path": "b.en", "parallel": {"path": "b.is"}}]},
    "suite": {
        "evaluate": {
            "suites": [{"name": "s", "path": "x", "parallel": {"path": "x.is"}}],
            "summary": [],
        }
    },
    "checkpoint": {
        "evaluate": {
            "suites": [
                {
                    "name": "s",
                    "path": "x",
                    "metrics": [{"name": "exact_match"}, {"name": "comet", "checkpoint": "c.ckpt"}],
                }
            ],
            "summary": [],
        }
    },
}


@pytest.mark.parametrize(
    ("tree", "wanted"),
    [
        ("also", {"downstream": "a", "downstream.also[0]": "b.csv"}),
        ("parallel", {"downstream": "a.en", "downstream.parallel.path": "a.is"}),
        ("corpus", {"corpus[0]": "a", "corpus[1]": "b.en", "corpus[1].parallel.path": "b.is"}),
        ("suite", {"evaluate.suites.s": "x", "evaluate.suites.s.parallel.path": "x.is"}),
        (
            "checkpoint",
            {"evaluate.suites.s": "x", "evaluate.suites.s.metrics[1].checkpoint": "c.ckpt"},
        ),
    ],
)
def test_paths_deep_in_a_recipe_are_known(tree: str, wanted: dict[str, str]) -> None:
    corpus = [{"path": "corpus", "format": "miniature"}]
    config = RunConfig.model_validate({"corpus": corpus, **FILES[tree]})
    assert dict(named_paths(config)) == wanted
    moved = with_paths(config, lambda _, path: f"files/{path}")
    assert dict(named_paths(moved)) == {key: f"files/{path}" for key, path in wanted.items()}
    with pytest.raises(UserError, match=re.escape(list(wanted)[-1])):
        check_reachable(config)


def test_every_setting_that_is_a_file_says_so_by_its_type() -> None:
    """By the names of settings: a new one that sounds like a file must be marked as one."""
    waiting: list[type[Settings]] = [RunConfig]
    seen: set[type[Settings]] = set()
    unmarked = []
    while waiting:
        kind = waiting.pop()
        seen.add(kind)
        for name, field in kind.model_fields.items():
            if re.fullmatch("path|file|files|folder|checkpoint|adapters?|model", name):
                unmarked += [] if file_setting(field) else [f"{kind.__name__}.{name}"]
            parts: list[Any] = [field.annotation]
            while parts:
                part = parts.pop()
                parts += get_args(part)
                if isinstance(part, type) and issubclass(part, Settings) and part not in seen:
                    waiting.append(part)
    assert unmarked == []
    assert len(seen) > 15


def test_every_path_of_a_recipe_is_known(work: Path) -> None:
    assert dict(named_paths(load_config(["mine.yaml"]))) == {
        "model": "./model",
        "downstream": "data/task.jsonl",
        "corpus[0]": "data/pool/*.json",
        "corpus[1]": "../elsewhere/more.csv",
        "corpus[2]": "s3://bucket/queries",
        "corpus[3]": "/shared/queries",
        "evaluate.suites.held_out": "held",
        "evaluate.systems.other.held_out": "other.txt",
        "synthesize.engine.adapters[0]": "adapter",
        "finetune.adapter": "adapter",
    }
    assert list(named_paths(load_config())) == []


def test_what_workers_open_is_resolved_and_what_rows_name_is_not(work: Path) -> None:
    (work / "bare").mkdir()
    found = dict(named_paths(resolved(load_config(["mine.yaml"], ["synthesize.model=bare"]))))
    here = {k for k, path in found.items() if path.startswith(str(work))}
    assert here == {
        "model",
        "synthesize.model",
        "synthesize.engine.adapters[0]",
        "finetune.adapter",
    }
    assert found["downstream"] == "data/task.jsonl"
    (work / "miniature").mkdir()
    for same in ("miniature", "hub/name", "./missing", "s3://bucket/base"):
        assert resolved(load_config([], [f"model={same}"])).model == same


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("storage=runs", r"storage=runs would lie in the job's own temporary folder"),
        ("downstream.path=nowhere.jsonl", r"downstream=nowhere\.jsonl: no such file here"),
        ("downstream.path=~/x.jsonl", r"downstream=~/x\.jsonl: your home folder"),
    ],
)
def test_what_cannot_travel_is_said(work: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pack(load_config(["mine.yaml"], [override]), work / "out")


def test_too_much_names_the_largest(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "LARGEST", 100)
    (work / "model" / "deep" / "weights.bin").write_bytes(bytes(99))
    with pytest.raises(UserError, match=r"put model \(its model/deep/weights\.bin is the largest"):
        pack(load_config(["mine.yaml"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
