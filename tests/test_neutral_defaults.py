"""A recipe with nothing but a model, a file of rows and a corpus holds nothing else."""

import json
from pathlib import Path

import pytest

from delia_ray import miniature, pipeline
from delia_ray.config import RunConfig, load_config
from delia_ray.errors import UserError

ROWS = 70


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Three settings; the rows are of the miniature's world, read as anybody's files."""
    for name, part, count in (("task", "sep_negated", ROWS), ("corpus", "corpus", 200)):
        rows = miniature.rows(part, count, seed=0)
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"model: miniature\ndownstream: {{path: {tmp_path}/task.jsonl}}\n"
        f"corpus: [{{path: {tmp_path}/corpus.jsonl}}]\n"
    )
    return file


def test_only_what_was_named_is_set(recipe: Path) -> None:
    config = load_config([recipe])
    assert config.downstream.rows is None
    assert config.downstream.format == "auto"
    assert config.downstream.special_tokens == {}
    assert config.evaluate.suites == config.evaluate.summary == []


@pytest.mark.ray
def test_it_trains_on_every_row_and_says_that_nothing_was_held_out(
    recipe: Path, tmp_path: Path, ray_local: None, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["mix.ratio=1", "mix.max_length=256", "synthesize.reword.per_row=0",
            "synthesize.held_out=0", "synthesize.sampling.max_tokens=64",
            "synthesize.engine.type=transformers",
            "finetune.steps=3", "finetune.batch_size=48", "finetune.micro_batch_size=48",
            "finetune.workers=1", "arms=[delia]",
            f"storage={tmp_path}/runs", "name=mine"]  # fmt: skip
    run = pipeline.run(load_config([recipe], size))
    counts = {s: run.folder(s).manifest()["counts"] for s in ("ingest", "mix", "evaluate")}
    assert counts["mix"]["arms"]["delia"]["rows"]["downstream"] == 72, "each of 70, and two again"
    assert counts["evaluate"]["suites"] == {}
    assert not any(counts["evaluate"]["engine_starts"].values()), "no model is loaded"
    adapter = run.folder("finetune").rooted() / "delia" / "adapter"
    assert adapter.read_json("adapter_config.json")["trainable_token_indices"] is None
    page = (tmp_path / "runs" / "mine" / "report.html").read_text()
    assert "Nothing was held out" in page
    for section in ("training", "mix", "synthesis", "samples"):
        assert f'<section id="{section}">' in page
    assert '<section id="comparison">' not in page
    first = next(miniature.rows("sep_negated", 1, seed=0))["messages"][0]["content"]
    assert first.splitlines()[0] in page, "samples of what was trained on"
    results = json.loads((tmp_path / "runs" / "mine" / "results.json").read_text())
    assert results["suites"] == {}


def test_without_rows_it_is_about_the_miniature() -> None:
    world = load_config([miniature.RECIPE])
    config = RunConfig()
    assert config.downstream == world.downstream
    assert config.corpus == world.corpus
    assert config.evaluate == world.evaluate
    fewer = load_config([], ["downstream.rows=3", "evaluate.probes=0"])
    assert (fewer.downstream.rows, fewer.downstream.path) == (3, "downstream")
    assert fewer.evaluate.summary == world.evaluate.summary


@pytest.mark.parametrize(
    "given",
    ["rows: 5", "special_tokens: {<x>: y}", "also: [{path: plain, format: miniature, rows: 2}]"],
)
def test_a_corpus_is_never_made_up_beside_rows_of_ones_own(given: str, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"prompt": "Say a.", "completion": "a"}\n')
    file.write_text(f"downstream: {{path: {rows}, {given}}}\n")
    config = load_config([file])
    assert config.corpus == []
    assert config.evaluate.suites == []
    with pytest.raises(UserError, match="corpus is empty; add a source"):
        pipeline.run(load_config([file], [f"storage={tmp_path}"]))
