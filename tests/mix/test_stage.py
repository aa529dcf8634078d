"""The stage on small artifacts, and on many by Ray."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.mix.build import Job, build_all
from delia_ray.mix.stage import STAGE
from delia_ray.records import ANSWER, EXAMPLE, REWORDING, conform
from delia_ray.stage import Outcome, StageRun
from delia_ray.store import Store

LONG = 40
"""Words of the longest answer; every seventh has as many."""


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_model) -> Path:
    return make_model(tmp_path_factory.mktemp("mix") / "base")


class Place:
    """Artifacts of the stages before, and the mix made of them."""

    def __init__(self, root: Path, model: Path, rows: int, pool: int) -> None:
        self.out, self.model = open_storage(str(root)), model
        down = [
            {"id": f"d{i}", "source": "d", "file": "f", "row": i, "prompt": _chat(f"do {i}"),
             "answer": f"<sep> {i}"}
            for i in range(rows)
        ]  # fmt: skip
        (self.out / "ingest").write_table("downstream.parquet", conform(down, EXAMPLE))
        answers = [
            {"id": f"q{i}", "source": "ab"[i % 3 == 0], "prompt": _chat(f"ask {i}"),
             "answer": "no " * (LONG if i % 7 == 0 else 1 + i % 5), "finish_reason": "stop",
             "completion_tokens": 3, "reason": None}
            for i in range(pool)
        ]  # fmt: skip
        (self.out / "synthesize").write_table("answers.parquet", conform(answers, ANSWER))
        reworded = [
            {"id": f"d{i}", "variant": 1, "prompt": _chat(f"please do {i}"), "register": "",
             "placement": "after", "reason": None}
            for i in range(0, rows, 2)
        ]  # fmt: skip
        (self.out / "synthesize").write_table("rewordings.parquet", conform(reworded, REWORDING))

    def config(self, **mix: Any) -> RunConfig:
        return RunConfig.model_validate(
            {
                "model": str(self.model), "mix": {"ratio": 5, "max_length": 256} | mix,
                "corpus": [{"path": "a"}, {"path": "b", "weight": 2}],
                "finetune": {"batch_size": 12},
            }
        )  # fmt: skip

    def mix(self, name: str, **mix: Any) -> tuple[Folder, Outcome]:
        inputs = {"ingest": self.out / "ingest", "synthesize": self.out / "synthesize"}
        run = StageRun(self.config(**mix), self.out, self.out / name, inputs)
        return self.out / name, STAGE.run(run)


def _chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def place(tmp_path_factory, model) -> Place:
    return Place(tmp_path_factory.mktemp("place"), model, rows=10, pool=70)


def test_what_was_asked_for_is_there_and_counted(place: Place) -> None:
    folder, outcome = place.mix("plain")
    found = outcome.counts["arms"]["delia"]
    assert found["rows"] == {"downstream": 10, "diverse": 50}
    assert found["unique_rows"] == {"downstream": 10, "diverse": 50}
    assert found["packing_efficiency"] > 0.9
    store, steps = Store(folder, "sequences"), Store(folder, "steps-delia")
    assert len(store) == 10 + 5 + 70
    rows = folder.read_table("sequences.parquet").to_pylist()
    for at, row in enumerate(rows):
        tokens = store.row(at)
        assert len(tokens["input_ids"]) == len(tokens["supervised"]) == row["tokens"]
        assert int(tokens["supervised"].sum()) == row["supervised_tokens"]
    trained = [rows[i] for step in range(len(steps)) for i in steps.row(step)["sequence"]]
    for name, kind in (("tokens", "downstream"), ("supervised_tokens", "diverse")):
        total = sum(r[name] for r in trained if r["kind"] == kind)
        assert found[name][kind] == total
    shares = folder.read_table("shares-delia.parquet").to_pylist()
    assert sum(s["rows"] for s in shares) == 60
    assert outcome.counts["tokens_left_out"] == 0
    assert len(folder.read_table("untrained.parquet")) == 0
    assert "delia 5x: 10 + 50 rows" in outcome.summary


def test_weighted_sources_get_their_share(place: Place) -> None:
    _, outcome = place.mix("weighted", ratio=3, strategy="weighted")
    sources = outcome.counts["arms"]["delia"]["sources"]
    # a has 46 rows of weight 1, b 24 of weight 2; four steps hold 36 diverse rows.
    assert sources["a (diverse)"]["rows"] in (17, 18, 19)
    assert sources["a (diverse)"]["rows"] + sources["b (diverse)"]["rows"] == 36
    for counts in sources.values():
        assert abs(counts["rows"] - counts["rows_asked"]) <= 1.5
    assert sum(counts["rows_asked"] for counts in sources.values()) == pytest.approx(48, abs=0.2)
    with pytest.raises(UserError, match=r"needs \d+ rows of b, which has 24.*mix.repeat=true"):
        place.mix("short", ratio=5, strategy="weighted")


def test_a_mosaic_has_several_instructions_in_a_row(place: Place) -> None:
    folder, outcome = place.mix("mosaic", ratio=3, mosaic=2, max_length=512)
    rows = folder.read_table("sequences.parquet").to_pylist()
    assert sum(r["kind"] == "diverse" for r in rows) == 23 + 12  # 46 of a, 24 of b, in pairs
    assert outcome.counts["arms"]["delia"]["unique_rows"]["diverse"] == 30


def test_pairs_hold_two_wordings_side_by_side(place: Place) -> None:
    folder, outcome = place.mix("pairs", paired_wordings=True)
    rows = folder.read_table("sequences.parquet").to_pylist()
    steps = Store(folder, "steps-delia")
    own = [rows[i] for s in range(len(steps)) for i in steps.row(s)["sequence"]]
    seen: dict[int, list[int]] = {}
    for row in own:
        if row["kind"] == "downstream":
            seen.setdefault(row["row"], []).append(row["variant"])
    assert {r: sorted(v) for r, v in seen.items()} == {
        r: [0, 1] if r % 2 == 0 else [0] for r in range(10)
    }
    counted = outcome.counts["arms"]["delia"]
    assert counted["rows"] == {"downstream": 10, "diverse": 50}, "a pair is one row"
    assert sum(counted["tokens"].values()) == sum(r["tokens"] for r in own)


@pytest.mark.parametrize("strategy", ["low_loss_first", "high_loss_first", "farthest_first"])
def test_rankings_follow_the_base_model(place: Place, strategy: str) -> None:
    """Losses against transformers' own; the rows in use are the first of the ranking."""
    from transformers import AutoModelForCausalLM

    folder, _ = place.mix(strategy, strategy=strategy, ratio=3)
    rows = folder.read_table("sequences.parquet").to_pylist()
    scores = folder.read_table("scores.parquet").to_pylist()
    store, steps = Store(folder, "sequences"), Store(folder, "steps-delia")
    used = {int(i) for s in range(len(steps)) for i in steps.row(s)["sequence"]}
    diverse = [i for i, row in enumerate(rows) if row["kind"] == "diverse"]
    own = sorted(used & set(diverse))
    assert len(own) == 30
    model = AutoModelForCausalLM.from_pretrained(place.model, dtype=torch.float32)
    for i in diverse[::9]:
        tokens = {k: torch.tensor(v[None].copy()) for k, v in store.row(i).items()}
        ids = tokens["input_ids"].long()
        labels = torch.where(tokens["supervised"], ids, -100)
        with torch.no_grad():
            expected = model(input_ids=ids, labels=labels).loss.item()
        assert scores[i]["loss"] == pytest.approx(expected, rel=1e-4)
    losses = {i: scores[i]["loss"] for i in diverse}
    if strategy != "farthest_first":
        ordered = sorted(diverse, key=losses.get, reverse=strategy == "high_loss_first")
        assert {losses[i] for i in own} == {losses[i] for i in ordered[:30]}
    else:
        vectors = np.array([scores[i]["vector"] for i in diverse])
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        chosen = unit[[diverse.index(i) for i in own]]
        assert np.triu(chosen @ chosen.T, 1).max() < np.triu(unit @ unit.T, 1).max()


def test_rows_that_are_too_long(place: Place) -> None:
    whole, _ = place.mix("whole")
    tokens = whole.read_table("sequences.parquet")["tokens"].to_numpy()
    limit = int(tokens.max()) // 2
    with pytest.raises(UserError, match=f"more than mix.max_length={limit}.*set_aside or split"):
        place.mix("error", max_length=limit)
    folder, outcome = place.mix("aside", max_length=limit, overlong="set_aside")
    assert outcome.counts["untrained"] == {f"diverse, longer than mix.max_length={limit}": 10}
    assert outcome.counts["tokens_left_out"] == int(tokens[tokens > limit].sum())
    kept = folder.read_table("sequences.parquet")["tokens"].to_numpy()
    assert kept.sum() + outcome.counts["tokens_left_out"] == tokens.sum()
    folder, outcome = place.mix("split", max_length=limit, overlong="split")
    rows = folder.read_table("sequences.parquet").to_pylist()
    assert max(r["tokens"] for r in rows) <= limit
    assert {r["piece"] for r in rows} >= {0, 1}
    noted = folder.read_table("untrained.parquet").to_pylist()
    assert len(noted) == 10, "a first token of a piece is not supervised, and that is said"
    assert sum(r["tokens"] for r in rows) == tokens.sum()
    assert all(r["reason"].startswith("split: 0 tokens of the prompt left out") for r in noted)
    steps = Store(folder, "steps-delia")
    for step in range(len(steps)):
        own = steps.row(step)["sequence"]
        assert len({(rows[i]["kind"], rows[i]["row"]) for i in own}) == 12, "rows of a step"


@pytest.mark.ray
def test_many_rows_are_built_by_ray_and_come_out_the_same(ray_local, tmp_path, model) -> None:
    place = Place(tmp_path, model, rows=3, pool=20_500)
    config = place.config()
    here, there = (
        Job(
            config.model, tuple(config.downstream.special_tokens), place.out / "ingest",
            place.out / "synthesize", place.out / name, 256, "error", "last", 1, few,
        )
        for name, few in (("here", 100_000), ("there", 1000))
    )  # fmt: skip
    assert (here.is_large, there.is_large, here.parts()) == (False, True, 4)
    alone = {b.part: b for b in build_all(here)}
    spread = {b.part: b for b in build_all(there)}
    assert sorted(alone) == sorted(spread) == [0, 1, 2, 3]
    for part, built in alone.items():
        assert built.sequences.equals(spread[part].sequences)
        name = f"sequences-{part:05d}.arrow"
        assert (place.out / "here").read_bytes(name) == (place.out / "there").read_bytes(name)
    rows = [r for part in (1, 2, 3) for r in alone[part].sequences["row"].to_pylist()]
    assert rows == list(range(20_500))
    assert len(alone[0].sequences) == 3 + 2
