"""A mix takes over the tokens, and the scores, of one that had the same rows."""

from pathlib import Path
from typing import Any

import pytest

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.mix.reuse import FACTS, SCORES
from delia_ray.mix.stage import STAGE
from delia_ray.records import ANSWER, EXAMPLE, QUERY, REWORDING, conform, content_id, digest
from delia_ray.stage import StageRun

ROWS, POOL = 4, 24


@pytest.fixture
def inputs(tmp_path: Path) -> Folder:
    """What the stages before leave: 4 downstream rows and 24 answers."""
    run = Folder(str(tmp_path))
    origin = {"source": "s", "file": "f", "row": 1}

    def row(text: str) -> dict[str, Any]:
        prompt = [{"role": "user", "content": f"say {text}"}]
        return {"id": content_id(prompt, text), "prompt": prompt, "answer": text}

    downstream = [row(f"task {i}") | origin for i in range(ROWS)]
    answers = [
        row(f"word {i} " * (1 + i % 3))
        | {"source": "s", "finish_reason": "stop", "completion_tokens": 1, "reason": None}
        for i in range(POOL)
    ]
    (run / "ingest").write_table("downstream.parquet", conform(downstream, EXAMPLE))
    (run / "ingest").write_table("corpus.parquet", conform([], QUERY))
    (run / "synthesize").write_table("answers.parquet", conform(answers, ANSWER))
    (run / "synthesize").write_table("rewordings.parquet", conform([], REWORDING))
    for stage in STAGE.needs:
        (run / stage).publish({"fingerprint": digest(stage), "counts": {}})
    return run


def lay_down(run: Folder, **mix: Any) -> Folder:
    arms = {"delia": {"ratio": mix.pop("ratio", 2)}}
    config = RunConfig.model_validate(
        {
            "mix": {"ratio": 2, "max_length": 192, **mix}, "arms": arms,
            "finetune": {"steps": 3, "batch_size": 4, "workers": 1},
        }
    )  # fmt: skip
    out = run / "mix" / digest([mix, arms])
    needed = {name: run / name for name in STAGE.needs}
    outcome = STAGE.run(StageRun(config, run, out, needed))
    out.publish({"fingerprint": digest([mix, arms]), "counts": outcome.counts})
    return out


def taken_from(out: Folder) -> str | None:
    return out.read_json(FACTS)["taken_from"]


def test_another_ratio_takes_the_tokens_over(inputs: Folder) -> None:
    first = lay_down(inputs, ratio=2)
    second = lay_down(inputs, ratio=5)
    assert taken_from(first) is None
    assert taken_from(second) == first.url.rsplit("/", 1)[-1]
    alone = Folder(f"{inputs.url}-alone")
    for stage in STAGE.needs:
        alone.upload(Path((inputs / stage).path), stage)
    made = lay_down(alone, ratio=5)
    assert taken_from(made) is None
    names = [n for n in made.names() if n not in (FACTS, "manifest.json")]
    assert [n for n in second.names() if n not in (FACTS, "manifest.json")] == names
    for name in names:
        assert second.read_bytes(name) == made.read_bytes(name), name
    assert second.manifest()["counts"] == made.manifest()["counts"]


def test_what_changes_the_tokens_is_tokenised_anew(inputs: Folder) -> None:
    lay_down(inputs)
    assert taken_from(lay_down(inputs, max_length=160)) is None
    assert taken_from(lay_down(inputs, mosaic=2)) is None


def test_an_unfinished_mix_is_no_source(inputs: Folder) -> None:
    first = lay_down(inputs)
    first.remove("manifest.json")
    assert taken_from(lay_down(inputs, ratio=3)) is None


def test_scores_are_taken_over_and_made_once(inputs: Folder) -> None:
    plain = lay_down(inputs)
    first = lay_down(inputs, strategy="low_loss_first")
    assert taken_from(first) == plain.url.rsplit("/", 1)[-1]
    second = lay_down(inputs, strategy="high_loss_first", ratio=3)
    assert taken_from(second) == first.url.rsplit("/", 1)[-1]  # that one has scores
    same = Path(first.file(SCORES)).stat().st_ino == Path(second.file(SCORES)).stat().st_ino
    assert same
    assert not plain.exists(SCORES)
