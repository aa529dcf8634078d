"""The stage end to end: real models (small), real Ray."""

import shutil
from pathlib import Path

import pytest

from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig
from delia_ray.errors import DeliaError, UserError
from delia_ray.evaluate.stage import STAGE
from delia_ray.records import ANSWER, EXAMPLE, GENERATION, conform, content_id
from delia_ray.stage import StageRun

pytestmark = pytest.mark.ray
N = 6


def example(text: str, answer: str | None) -> dict:
    prompt = [{"role": "user", "content": text}]
    return {
        "id": content_id(prompt, answer), "source": "s", "file": "s", "row": 1, "prompt": prompt,
        "answer": answer,
    }  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, make_model) -> tuple[RunConfig, Folder]:
    """Two suites, a base and two arms; the arm ``delia`` is the base under another name."""
    root = tmp_path_factory.mktemp("run")
    base = make_model(root / "model", seed=0)
    make_model(root / "finetune" / "common" / "merged", seed=1)
    shutil.copytree(base, root / "finetune" / "delia" / "merged")
    config = RunConfig.model_validate(
        {
            "model": str(base),
            "finetune": {"workers": 1},
            "cluster": {"num_cpus": 2},
            "evaluate": {
                "engine": {"type": "transformers", "batch_size": 4},
                "suites": [
                    {"name": "words", "path": "x", "metrics": [{"name": "exact_match"}]},
                    {"name": "texts", "path": "x", "metrics": [{"name": "chrf"}]},
                ],
                "summary": ["words"],
                "max_tokens": 8,
                "resamples": 100,
            },
        }
    )
    folder = open_storage(str(root))
    for name in ("words", "texts"):
        rows = [example(f"{name} {'x' * i}", f"answer {i}") for i in range(N)]
        (folder / "ingest").write_table(f"suite-{name}.parquet", conform(rows, EXAMPLE))
    held_out(folder)
    return config, folder


def held_out(folder: Folder, count: int = 4) -> None:
    """What synthesis leaves for the evaluation, and the rows that were trained on."""
    rows = [
        {"id": f"h{i}", "source": "s", "prompt": [{"role": "user", "content": f"held {i}"}],
         "answer": f"said {i}", "finish_reason": "stop", "completion_tokens": 2, "reason": None}
        for i in range(count)
    ]  # fmt: skip
    (folder / "synthesize").write_table("held_out.parquet", conform(rows, ANSWER))
    down = conform([example(f"down {i}", "yes") for i in range(3)], EXAMPLE)
    (folder / "ingest").write_table("downstream.parquet", down)


def run(config: RunConfig, folder: Folder, out: str):
    inputs = {name: folder / name for name in STAGE.needs}
    seen: list[tuple[float, float]] = []
    outcome = STAGE.run(
        StageRun(config, folder, folder / out, inputs, lambda d, t, note="": seen.append((d, t)))
    )
    return outcome, folder / out, seen


def test_stage(work, ray_local) -> None:
    config, folder = work
    outcome, out, seen = run(config, folder, "evaluate")
    assert outcome.summary == f"3 models x 2 suites x {N} prompts"
    assert outcome.counts["suites"] == {"words": N, "texts": N}
    assert outcome.counts["errors"] == {"base": 0, "common": 0, "delia": 0}
    assert seen[0] == (0, 6 * N)
    assert (6 * N, 6 * N) in seen

    table = out.read_table("generations.parquet")
    assert table.schema.equals(GENERATION)
    rows = table.to_pylist()
    assert len(rows) == 2 * 3 * N
    said = {(r["suite"], r["arm"], r["index"]): r["output"] for r in rows}
    # The same weights say the same, other weights something else.
    assert all(said[s, "base", i] == said[s, "delia", i] for s, _, i in said)
    assert any(said[s, "base", i] != said[s, "common", i] for s, _, i in said)
    assert all((r["score"] is None) == (r["suite"] == "texts") for r in rows)
    assert {r["prompt"][0]["content"] for r in rows if r["suite"] == "words"} == {
        f"words {'x' * i}" for i in range(N)
    }

    scores = out.read_json("scores.json")
    assert list(scores["suites"]) == ["words", "texts", "mean"]
    assert set(scores["suites"]["texts"]["base"]["chrf"]) == {"value", "low", "high", "n"}
    assert scores["suites"]["texts"]["base"] == scores["suites"]["texts"]["delia"]
    assert set(scores["differences"]["words"]) == {"delia"}

    again = run(config, folder, "again")[1]
    assert again.read_bytes("scores.json") == out.read_bytes("scores.json")
    assert again.read_table("generations.parquet").equals(table)


def test_a_missing_model_fails_the_stage(work, ray_local) -> None:
    config, folder = work
    more = config.model_copy(update={"arms": {**config.arms, "third": config.arms["delia"]}})
    with pytest.raises(DeliaError, match="third"):
        run(more, folder, "failed")
    assert not (folder / "failed").exists("scores.json")


def test_unscorable_suites_fail_before_any_model_loads(work) -> None:
    config, folder = work
    other = folder / "other"
    for name, answer in (("words", None), ("texts", "x")):
        rows = conform([example("a", answer)], EXAMPLE)
        (other / "ingest").write_table(f"suite-{name}.parquet", rows)
    with pytest.raises(UserError, match="suite words: 1 of 1 rows of x have no reference"):
        run(config, other, "evaluate")


def test_settings_hold_what_matters(work) -> None:
    config, _ = work
    first = STAGE.settings(config)
    assert first == STAGE.settings(config)
    changed = config.model_copy(update={"seed": 1})
    assert STAGE.settings(changed) != first


def test_shipped_model_knows_its_world(ray_local, tmp_path: Path) -> None:
    """The embedded default answers plain requests rightly through the whole stage."""
    from delia_ray import miniature

    if not (miniature.MODEL_PATH / "config.json").exists():
        pytest.skip("the shipped model is not built")
    folder = open_storage(str(tmp_path))
    rows = [
        example(r["messages"][0]["content"], r["messages"][-1]["content"])
        for r in miniature.rows("plain", 16, seed=0)
        if len(r["messages"]) == 2
    ]
    (folder / "ingest").write_table("suite-plain.parquet", conform(rows, EXAMPLE))
    held_out(folder)
    shutil.copytree(miniature.MODEL_PATH, tmp_path / "finetune" / "delia" / "merged")
    config = RunConfig.model_validate(
        {
            "finetune": {"workers": 1},
            "arms": {"delia": {}},
            "evaluate": {
                "suites": [{"name": "plain", "path": "plain", "format": "miniature"}],
                "summary": [],
            },
        }
    )
    scores = run(config, folder, "evaluate")[1].read_json("scores.json")
    assert scores["suites"]["plain"]["base"]["exact_match"]["value"] > 0.5
    gap = scores["differences"]["plain"]["delia"]["exact_match"]
    assert gap == {"value": 0, "low": 0, "high": 0}
