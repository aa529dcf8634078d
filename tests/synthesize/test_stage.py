"""The stage on the miniature: exact counts, one generation for each content."""

from pathlib import Path

import pytest

from delia_ray.artifacts import open_storage
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.miniature import rows
from delia_ray.records import EXAMPLE, QUERY, conform, content_id
from delia_ray.stage import Outcome, StageRun
from delia_ray.synthesize.stage import run as synthesize

pytestmark = pytest.mark.ray

ORIGIN = {"source": "s", "file": "f", "row": 1}


def _example(row) -> dict:
    prompt, answer = row["messages"][:-1], row["messages"][-1]["content"]
    return {"id": content_id(prompt, answer), **ORIGIN, "prompt": prompt, "answer": answer}


class Place:
    """A run whose ingest is done; ``go`` synthesizes with some settings."""

    def __init__(self, root: Path) -> None:
        self.root, self.turn = root, 0
        self.ingest = open_storage(str(root / "run")) / "ingest"
        down = [_example(r) for r in rows("downstream", 8)]
        pool = [_example(r) | {"key": float(i)} for i, r in enumerate(rows("corpus", 120))]
        self.ingest.write_table("downstream.parquet", conform(down, EXAMPLE))
        self.ingest.write_table("corpus.parquet", conform(pool, QUERY))
        counts = {"corpus": {"s": {"duplicates": 3, "rejects": {"bad": 2}}}}
        self.ingest.publish({"counts": counts})
        self.pool = [p["id"] for p in pool]

    def go(self, ratio: float, **settings) -> tuple[Outcome, list[dict], list[dict]]:
        self.turn += 1
        out = open_storage(str(self.root / "run")) / f"synthesize-{self.turn}"
        own = {
            "engine": {"type": "transformers"},
            "sampling": {"max_tokens": 96},
            "reword": {"per_row": 2, "sampling": {"temperature": 1.0, "max_tokens": 64}},
        }
        config = RunConfig.model_validate(
            {"storage": str(self.root), "mix": {"ratio": ratio}, "synthesize": own | settings}
        )
        outcome = synthesize(StageRun(config, self.ingest, out, {"ingest": self.ingest}))
        names = ("answers.parquet", "rewordings.parquet")
        answers, rewordings = (out.read_table(n).to_pylist() for n in names)
        self.aside = out.read_table("answers_set_aside.parquet").to_pylist()
        return outcome, answers, rewordings


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ray_local) -> Place:
    return Place(tmp_path_factory.mktemp("synthesize"))


@pytest.fixture(scope="module")
def first(place: Place):
    return place.go(4)


def test_the_first_answers_of_the_pool(first, place: Place) -> None:
    outcome, answers, _ = first
    made = outcome.counts["self_sample"]
    assert (made["needed"], made["kept"], len(answers)) == (32, 32, 32)
    assert made["asked"] == 34, "five per cent more than needed"
    order = [place.pool.index(a["id"]) for a in answers]
    assert order == sorted(order)
    assert all(a["finish_reason"] == "stop" and a["answer"] for a in answers)
    assert outcome.counts["generated"] == 34 + 16
    assert outcome.counts["from_cache"] == 0


def test_answers_are_in_the_models_own_voice(first, place: Place) -> None:
    """The references come from other authors; the model says it its own way."""
    pool = {r["id"]: r for r in place.ingest.read_table("corpus.parquet").to_pylist()}
    _, answers, _ = first
    differ = sum(a["answer"] != pool[a["id"]]["answer"] for a in answers)
    assert differ >= 30


def test_rewordings_keep_content_and_token(first, place: Place) -> None:
    outcome, _, rewordings = first
    rows_ = {r["id"]: r for r in place.ingest.read_table("downstream.parquet").to_pylist()}
    assert outcome.counts["reword"]["kept"] == len(rewordings) >= 10
    seen = set()
    for made in rewordings:
        old = rows_[made["id"]]["prompt"][-1]["content"]
        new = made["prompt"][-1]["content"]
        assert new.split("\n\n")[0] == old.split("\n\n")[0]
        assert new.count("<sep>") == 1
        assert "json" not in new.lower()
        assert new != old
        seen.add((made["id"], new))
    assert len(seen) == len(rewordings), "no wording twice for one row"


def test_what_is_there_is_not_made_again(first, place: Place) -> None:
    outcome, answers, rewordings = place.go(4)
    assert outcome.counts["generated"] == 0
    assert outcome.counts["from_cache"] == 50
    assert (answers, rewordings) == first[1:]


def test_a_larger_ratio_makes_the_difference(first, place: Place) -> None:
    outcome, answers, _ = place.go(8)
    assert outcome.counts["from_cache"] == 50
    assert outcome.counts["generated"] == 68 - 34
    assert answers[:32] == first[1]


def test_one_word_of_the_prompt_changes_all_rewordings(first, place: Place) -> None:
    prompt = RunConfig().synthesize.reword.prompt.replace("Say", "Tell")
    reword = {"per_row": 2, "prompt": prompt, "sampling": {"temperature": 1.0, "max_tokens": 64}}
    outcome, answers, _ = place.go(4, reword=reword)
    assert outcome.counts["generated"] == 16
    assert answers == first[1]


def test_cut_off_answers_are_replaced_by_the_next(place: Place) -> None:
    outcome, answers, _ = place.go(4, sampling={"max_tokens": 8}, reword={"per_row": 0})
    assert len(answers) == 32
    assert outcome.counts["passes"] > 1
    assert {a["reason"] for a in place.aside} == {"cut off"}
    made = outcome.counts["self_sample"]
    assert made["asked"] == 32 + made["set_aside"]["cut off"] + made["spare"]


def test_too_few_good_answers_are_an_error(place: Place) -> None:
    with pytest.raises(UserError, match=r"needs 96 .*good \(120 cut off\).*max_tokens above 1"):
        place.go(12, sampling={"max_tokens": 1}, reword={"per_row": 0})


def test_too_few_queries_are_an_error_before_anything_runs(place: Place) -> None:
    with pytest.raises(UserError, match=r"needs 160 .*has 120 \(3 duplicates and 2 rejects"):
        place.go(20)
