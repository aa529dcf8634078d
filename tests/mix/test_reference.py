"""Arms whose diverse rows have the corpus's answers: the same queries, answered otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delia_ray import artifacts
from delia_ray.artifacts import Folder
from delia_ray.config import BASELINES, Arm, RunConfig
from delia_ray.errors import UserError
from delia_ray.finetune.stage import STAGE as FINETUNE
from delia_ray.mix.build import NO_REFERENCE, STORE, build
from delia_ray.mix.build import Job as MixJob
from delia_ray.mix.index import Index
from delia_ray.mix.stage import STAGE
from delia_ray.models import load_tokenizer
from delia_ray.records import ANSWER, EXAMPLE, QUERY, REWORDING, SEQUENCE, conform
from delia_ray.store import Store, write_index
from tests.mix.helpers import make_row
from tests.mix.test_stage import Place

ROWS, POOL = 10, 70


class Corpus(Place):
    """A place whose corpus has ``answers`` to the queries q0, q1 ... in pool order, and among
    them queries whose own answers were set aside."""

    def __init__(self, root: Path, model: Path, answers: list[str | None]) -> None:
        super().__init__(root, model, ROWS, POOL)
        queries = [
            {"id": f"{name}{i}", "source": "ab"[i % 3 == 0], "file": "f", "row": i,
             "answer": answer if name == "q" else "not asked", "key": i + (name == "q") / 2,
             "prompt": [{"role": "user", "content": f"ask {i}"}]}
            for i, answer in enumerate(answers)
            for name in (["aside", "q"] if i % 9 == 4 else ["q"])
        ]  # fmt: skip
        (self.out / "ingest").write_table("corpus.parquet", conform(queries, QUERY))

    def config(self, arms: Any = None, **mix: Any) -> RunConfig:
        tree = super().config(**mix).model_dump()
        return RunConfig.model_validate(tree | ({"arms": arms} if arms else {}))


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_model) -> Path:
    return make_model(tmp_path_factory.mktemp("reference") / "base")


@pytest.fixture(scope="module")
def place(tmp_path_factory, model) -> Corpus:
    """Several row groups of answers, and of a corpus with more queries than were asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "ROW_GROUP", 16)
        root = tmp_path_factory.mktemp("corpus")
        return Corpus(root, model, [f"said of {i}" for i in range(POOL + 20)])


BOTH = {"own": "self_sampling_only", "replay": "replay"}


def trained(folder: Folder, arm: str) -> list[dict[str, Any]]:
    """What the arm trains on, in order: rows of SEQUENCE."""
    rows = folder.read_table("sequences.parquet").to_pylist()
    steps = Store(folder, f"steps-{arm}")
    return [rows[i] for s in range(len(steps)) for i in steps.row(s)["sequence"]]


@pytest.mark.parametrize(
    "mix",
    [
        {},
        {"ratio": 3, "strategy": "weighted"},
        {"ratio": 3, "strategy": "high_loss_first"},
        {"ratio": 3, "mosaic": 2, "max_length": 512},
    ],
    ids=lambda m: "-".join(map(str, m.values())) or "uniform",
)
def test_the_same_queries_in_the_same_order(place: Corpus, mix: dict[str, Any]) -> None:
    name = "-".join(map(str, mix.values())) or "uniform"
    folder, outcome = place.mix(name, arms=BOTH, **mix)
    rows = folder.read_table("sequences.parquet").to_pylist()
    pool = {k: [r["id"] for r in rows if r["kind"] == k] for k in ("diverse", "reference")}
    assert pool["diverse"] == pool["reference"]
    own, replayed = trained(folder, "own"), trained(folder, "replay")
    assert [r["id"] for r in own] == [r["id"] for r in replayed]
    assert {r["kind"] for r in own} == {"downstream", "diverse"}
    assert {r["kind"] for r in replayed} == {"downstream", "reference"}
    counted = outcome.counts["arms"]["replay"]
    assert counted["unique_rows"] == {"downstream": ROWS, "diverse": mix.get("ratio", 5) * ROWS}
    assert counted["tokens"]["diverse"] == sum(
        r["tokens"] for r in replayed if r["kind"] == "reference"
    )
    assert {name.split("(")[1] for name in counted["sources"]} == {"downstream)", "reference)"}
    assert sum(s["rows_asked"] for s in counted["sources"].values()) == pytest.approx(
        len(replayed), abs=0.2
    )


def test_the_answers_are_those_of_the_corpus(place: Corpus, model: Path) -> None:
    folder, _ = place.mix("texts", arms=BOTH)
    rows, store = folder.read_table("sequences.parquet").to_pylist(), Store(folder, "sequences")
    tokenizer = load_tokenizer(str(model), ("<sep>",))
    seen = 0
    for at, row in enumerate(rows):
        if row["kind"] == "reference":
            number, tokens = row["id"][1:], store.row(at)
            answer = tokenizer.decode(tokens["input_ids"][tokens["supervised"]])
            assert answer == f"said of {number}<|end|>"
            asked = tokenizer.decode(tokens["input_ids"][~tokens["supervised"]])
            assert asked == f"<|user|>ask {number}<|end|><|assistant|>"
            assert row["row"] == int(number)
            seen += 1
    assert seen == POOL


def test_nothing_more_is_tokenised_where_no_arm_asks(place: Corpus) -> None:
    before, _ = place.mix("before", arms={"own": "self_sampling_only"})
    asked, _ = place.mix("asked", arms=BOTH)
    names = [f"sequences-{part:05d}.arrow" for part in range(1 + 5)]
    for name in names:  # what was there stays as it is
        assert before.read_bytes(name) == asked.read_bytes(name)
    assert before.read_bytes("steps-own-00000.arrow") == asked.read_bytes("steps-own-00000.arrow")
    assert not before.exists("sequences-00006.arrow")
    assert asked.exists("sequences-00010.arrow")
    none, outcome = place.mix("none", arms=["common", "replay"], ratio=0)
    assert set(none.read_table("sequences.parquet")["kind"].to_pylist()) == {
        "downstream", "diverse",
    }  # fmt: skip
    assert outcome.counts["arms"]["replay"]["rows"]["diverse"] == 0


def test_queries_without_a_usable_reference(tmp_path, model) -> None:
    missing, long = set(range(0, POOL, 10)), {33}
    answers = [None if i in missing else "x" * 400 if i in long else f"{i}" for i in range(POOL)]
    place = Corpus(tmp_path, model, answers)
    folder, outcome = place.mix("aside", arms=BOTH, overlong="set_aside")
    assert outcome.counts["untrained"] == {
        f"reference, {NO_REFERENCE}": len(missing),
        "reference, longer than mix.max_length=256": len(long),
    }
    aside = folder.read_table("untrained.parquet").to_pylist()
    assert {r["id"] for r in aside} == {f"q{i}" for i in missing | long}
    rows = folder.read_table("sequences.parquet").to_pylist()
    kept = [r["id"] for r in rows if r["kind"] == "reference"]
    assert kept == [f"q{i}" for i in range(POOL) if i not in missing | long]
    assert len(kept) + len(aside) == POOL
    used = {r["id"] for r in trained(folder, "replay") if r["kind"] == "reference"}
    assert used == set(kept[:50]), "the first that can be trained on"
    own = {r["id"] for r in trained(folder, "own") if r["kind"] == "diverse"}
    assert own == {f"q{i}" for i in range(50)}
    with pytest.raises(UserError, match=r"arm replay: ratio 7 needs 70 .* has 62 .*no answer"):
        place.mix("short", arms=BOTH, overlong="set_aside", ratio=7)
    _, outcome = place.mix("again", arms=BOTH, overlong="set_aside", ratio=7, repeat=True)
    assert outcome.counts["arms"]["replay"]["unique_rows"]["diverse"] == 62
    assert outcome.counts["arms"]["own"]["unique_rows"]["diverse"] == 70
    with pytest.raises(UserError, match=r"reference row q33 of b has \d+ tokens"):
        place.mix("error", arms=BOTH)
    place.mix("only own", arms={"own": "self_sampling_only"})


def test_further_samples_of_a_query_have_its_reference(tmp_path, model) -> None:
    place = Corpus(tmp_path, model, [f"r{i}" for i in range(POOL)])
    answers = (place.out / "synthesize").read_table("answers.parquet").to_pylist()
    for at, row in enumerate(answers):
        row["id"] = f"q{at // 2}" + "-2" * (at % 2)
    (place.out / "synthesize").write_table("answers.parquet", conform(answers, ANSWER))
    folder, outcome = place.mix("samples", arms=BOTH)
    assert outcome.counts["untrained"] == {}
    rows, store = folder.read_table("sequences.parquet").to_pylist(), Store(folder, "sequences")
    tokenizer = load_tokenizer(str(model), ("<sep>",))
    found = {
        row["id"]: tokenizer.decode(tokens["input_ids"][tokens["supervised"]])
        for row, tokens in zip(rows, store.rows(range(len(rows))), strict=True)
        if row["kind"] == "reference"
    }
    assert found["q7"] == found["q7-2"] == "r7<|end|>"
    assert [r["id"] for r in trained(folder, "own")] == [r["id"] for r in trained(folder, "replay")]


def test_a_ranking_holds_for_the_queries() -> None:
    """Rows whose other answer is not trained on, on either side; numbers beyond the count."""
    own, theirs = [2, 5, 8, 90], [2, 8, 50, 90, 91]
    rows = [make_row("downstream", "d", 0, 0, 0, 9)]
    rows += [make_row("diverse", "a", n, 0, 0, 9) for n in own]
    rows += [make_row("reference", "a", n, 0, piece, 9) for n in theirs for piece in (0, 1)]
    index = Index(conform(rows, SEQUENCE), {})
    index.ranking = np.array([3, 1, 0, 2])  # rows 90, 5, 2, 8
    same, other = index.using("self_sampled"), index.using("reference")
    assert same.ranking is not None
    assert other.ranking is not None
    assert same.ranking.tolist() == [3, 1, 0, 2]
    assert [theirs[i] for i in other.ranking] == [90, 2, 8, 50, 91]
    assert (index.kind, index.pool, other.pool) == ("diverse", 4, 5)
    assert other.pieces[other.diverse].tolist() == [2] * 5


def test_what_the_loss_counts_does_not_change_the_mix(place: Corpus) -> None:
    plain, other, replay = (
        place.config(arms={"delia": arm.model_dump()})
        for arm in (Arm(), Arm(objective="whole_chat"), Arm(answers="reference"))
    )
    assert STAGE.settings(plain) == STAGE.settings(other) != STAGE.settings(replay)
    assert FINETUNE.settings(plain) != FINETUNE.settings(other)
    assert "corpus.parquet" in STAGE.needs["ingest"]


def test_all_baselines_train_for_as_many_steps(place: Corpus) -> None:
    folder, outcome = place.mix("all", arms=list(BASELINES))
    steps = {arm: len(Store(folder, f"steps-{arm}")) for arm in BASELINES}
    assert set(steps.values()) == {outcome.counts["steps"]} == {5}
    rows = {arm: c["rows"]["diverse"] for arm, c in outcome.counts["arms"].items()}
    assert rows == {
        "common": 0, "rewording_only": 0, "self_sampling_only": 50, "replay": 50, "mixup": 0,
        "whole_chat": 0, "delia": 50,
    }  # fmt: skip
    variants = {a: {r["variant"] for r in trained(folder, a)} for a in ("common", "rewording_only")}
    assert variants == {"common": {0}, "rewording_only": {0, 1}}


def test_turns_without_weight_are_supervised_in_no_arm(tmp_path: Path, model: Path) -> None:
    """The rows say which of a prompt's answers are not to be learned from; their wordings and
    the model's own answers to such queries have the same prompt."""
    place = Corpus(tmp_path, model, ["said"] * POOL)
    chat = [
        {"role": role, "content": text}
        for role, text in (("user", "a"), ("assistant", "bad"), ("user", "b"),
                           ("assistant", "good"), ("user", "c"))
    ]  # fmt: skip
    origin = {"source": "a", "file": "f", "row": 1, "prompt": chat, "answer": "end"}
    down = [{"id": "d", **origin, "unsupervised": [1]}, {"id": "e", **origin}]
    (place.out / "ingest").write_table("downstream.parquet", conform(down, EXAMPLE))
    queries = [{"id": "q", **origin, "key": 0.0, "unsupervised": [1, 3]},
               {"id": "p", **origin, "key": 1.0}]  # fmt: skip
    (place.out / "ingest").write_table("corpus.parquet", conform(queries, QUERY))
    own = {"source": "a", "prompt": chat, "finish_reason": "stop", "completion_tokens": 1}
    answers = [{"id": name, **own, "answer": "own"} for name in ("q", "q-2", "p")]
    (place.out / "synthesize").write_table("answers.parquet", conform(answers, ANSWER))
    worded = {"id": "d", "variant": 1, "prompt": chat, "register": "", "placement": "after"}
    (place.out / "synthesize").write_table("rewordings.parquet", conform([worded], REWORDING))
    job = MixJob(
        str(model), (), place.out / "ingest", place.out / "synthesize", place.out / "turns",
        256, "error", "all", 1, reference=True,
    )  # fmt: skip
    tokenizer = load_tokenizer(str(model))
    found: dict[str, str] = {}
    for part in range(job.parts()):
        built = build(job, part)
        write_index(place.out / "turns", STORE, [0] * part + [len(built.sequences)])
        store = Store(place.out / "turns", STORE)
        for at, row in enumerate(built.sequences.to_pylist()):
            tokens = store.row(at)
            kept = [i for i, c in zip(tokens["input_ids"], tokens["supervised"], strict=True) if c]
            found[f"{row['kind']} {row['id']} {row['variant']}"] = tokenizer.decode(kept)
    both, one = "bad<|end|>good<|end|>", "good<|end|>"
    assert found == {
        "downstream d 0": f"{one}end<|end|>",
        "downstream d 1": f"{one}end<|end|>",
        "downstream e 0": f"{both}end<|end|>",
        "diverse q 0": "own<|end|>",
        "diverse q-2 0": "own<|end|>",
        "diverse p 0": f"{both}own<|end|>",
        "reference q 0": "end<|end|>",
        "reference q-2 0": "end<|end|>",
        "reference p 0": f"{both}end<|end|>",
    }
