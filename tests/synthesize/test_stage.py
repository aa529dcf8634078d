"""The stage on the miniature: exact counts, one generation for each content."""

from pathlib import Path

import pytest

from delia_ray.artifacts import open_storage
from delia_ray.config import Reword, Rules, RunConfig
from delia_ray.errors import UserError
from delia_ray.miniature import rows
from delia_ray.models import fingerprint
from delia_ray.records import EXAMPLE, QUERY, conform, content_id
from delia_ray.stage import Outcome, StageRun
from delia_ray.synthesize.checks import placement_problem, rewording_problem
from delia_ray.synthesize.plan import foresee, lines
from delia_ray.synthesize.prompts import split_instruction
from delia_ray.synthesize.stage import run as synthesize
from delia_ray.synthesize.stage import settings

pytestmark = pytest.mark.ray

REWORD = {"per_row": 2, "registers": [""], "sampling": {"temperature": 1.0, "max_tokens": 64}}
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
            "reword": REWORD,
            "held_out": 0,
        }
        self.config = RunConfig.model_validate(
            {"storage": str(self.root), "mix": {"ratio": ratio}, "synthesize": own | settings}
        )
        self.run = StageRun(self.config, self.ingest, out, {"ingest": self.ingest})
        outcome = synthesize(self.run)
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
    counts = outcome.counts
    assert (counts["generated"], counts["from_cache"], counts["asked_again"]) == (34 + 16, 0, 0)
    assert counts["engine_starts"] == 1
    assert counts["tokens_generated"] > 300 < counts["prompt_tokens"]


def test_answers_are_in_the_models_own_voice(first, place: Place) -> None:
    """The references come from other authors; the model says it its own way."""
    pool = {r["id"]: r for r in place.ingest.read_table("corpus.parquet").to_pylist()}
    _, answers, _ = first
    differ = sum(a["answer"] != pool[a["id"]]["answer"] for a in answers)
    assert differ >= 30


def test_rewordings_keep_content_and_token(first, place: Place) -> None:
    outcome, _, rewordings = first
    rows_ = {r["id"]: r for r in place.ingest.read_table("downstream.parquet").to_pylist()}
    made = outcome.counts["reword"]
    assert made["asked"] == 16 == made["kept"] + sum(made["set_aside"].values())
    assert len(rewordings) >= 10
    assert made["rows_reworded"] == len({r["id"] for r in rewordings})
    placed = {"after": 0, "before": 0}
    for made in rewordings:
        content, old = rows_[made["id"]]["prompt"][-1]["content"].split("\n\n")
        new = made["prompt"][-1]["content"]
        placed[made["placement"]] += 1
        before, after = new.split("\n\n")
        wording = after if made["placement"] == "after" else before
        assert {before, after} == {content, wording}
        assert new.count("<sep>") == 1
        assert "json" not in new.lower()
        assert wording != old
    assert min(placed.values()) > 0, "both places are used"
    assert outcome.counts["reword"]["placed"] == placed
    seen = {(r["id"], r["prompt"][-1]["content"]) for r in rewordings}
    assert len(seen) == len(rewordings), "no wording twice for one row"


def test_every_kept_rewording_passes_the_checks(first, place: Place) -> None:
    rows_ = {r["id"]: r for r in place.ingest.read_table("downstream.parquet").to_pylist()}
    kept: dict[str, list[str]] = {}
    for made in first[2]:
        row, mine = rows_[made["id"]], kept.setdefault(made["id"], [])
        content, old = split_instruction(row["prompt"][-1]["content"], "last_paragraph")
        new = made["prompt"][-1]["content"]
        text = new.removeprefix(content) if made["placement"] == "after" else new.split("\n\n")[0]
        problem = rewording_problem(
            text, "stop", old, row["answer"], mine, {"<sep>": "json"}, [], Rules(), Reword()
        )
        assert problem is None
        assert placement_problem(made["prompt"], row["prompt"], content) is None
        mine.append(text)


def test_what_is_there_is_not_made_again(first, place: Place) -> None:
    outcome, answers, rewordings = place.go(4)
    assert outcome.counts["generated"] == outcome.counts["engine_starts"] == 0
    assert outcome.counts["from_cache"] == 50
    assert (answers, rewordings) == first[1:]


def test_a_larger_ratio_makes_the_difference(first, place: Place) -> None:
    outcome, answers, _ = place.go(8)
    assert outcome.counts["from_cache"] == 50
    assert outcome.counts["generated"] == 68 - 34
    assert answers[:32] == first[1]


def test_one_word_of_the_prompt_changes_all_rewordings(first, place: Place) -> None:
    prompt = RunConfig().synthesize.reword.prompt.replace("Say", "Tell")
    outcome, answers, _ = place.go(4, reword=REWORD | {"prompt": prompt})
    assert outcome.counts["generated"] == 16
    assert answers == first[1]


def test_cut_off_answers_are_replaced_by_the_next(place: Place) -> None:
    outcome, answers, _ = place.go(4, sampling={"max_tokens": 8}, reword={"per_row": 0})
    assert len(answers) == 32
    assert {a["reason"] for a in place.aside} == {"cut off"}
    made = outcome.counts["self_sample"]
    assert made["asked"] == 32 + made["set_aside"]["cut off"] + made["spare"]
    assert made["asked"] > 34, "more was asked than at first"
    assert outcome.counts["engine_starts"] == 1, "of the same engines"


def test_a_plan_foresees_what_comes(place: Place) -> None:
    """Its probe is kept, and the run reports planned against actual."""
    own = {"sampling": {"max_tokens": 90}, "reword": {"per_row": 0}}
    config = RunConfig.model_validate(
        {
            "storage": str(place.root), "mix": {"ratio": 8},
            "synthesize": {"engine": {"type": "transformers"}, "held_out": 0} | own,
        }
    )  # fmt: skip
    out = open_storage(str(place.root / "run")) / "planned"
    plan = foresee(StageRun(config, place.ingest, out, {"ingest": place.ingest}), probe=8)
    asked = plan["requests"]
    assert (plan["needed"], asked, plan["cached"]) == (64, 68, plan["probe"]["rows"])
    assert 4 <= plan["probe"]["rows"] <= 8
    foreseen = plan["foreseen"]
    assert foreseen["rows"] == asked - plan["probe"]["rows"]
    assert "probe" in " ".join(lines(plan))
    outcome, _, _ = place.go(8, **own)
    both = outcome.counts["planned_and_actual"]
    assert both["rows"] == {"planned": foreseen["rows"], "actual": foreseen["rows"]}
    near = both["generated tokens"]
    assert near["actual"] / 2 < near["planned"] < near["actual"] * 2
    assert "planned" in outcome.summary


def test_several_answers_for_each_query(place: Place) -> None:
    warm = {"temperature": 2.0, "max_tokens": 96}
    _outcome, answers, _ = place.go(
        4, samples=3, method="plain", sampling=warm, reword={"per_row": 0},
        rules={"max_repetition": 1},
    )  # fmt: skip
    assert len(answers) == 32
    queries = {a["id"].split("-")[0] for a in answers}
    assert len(queries) < 20, "fewer queries than answers"
    said = {(a["id"].split("-")[0], a["answer"]) for a in answers}
    assert len(said) == 32, "no answer twice"
    assert len({a["id"] for a in answers}) == 32


def test_a_teacher_answers_in_place_of_the_model(place: Place, make_model, tmp_path) -> None:
    teacher = str(make_model(tmp_path / "teacher"))
    with pytest.raises(UserError, match="good"):
        place.go(1, model=teacher, sampling={"max_tokens": 4}, reword={"per_row": 0})
    made = place.root / "cache" / "synthesis" / fingerprint(teacher)
    assert any(made.glob("*.parquet")), "kept under the teacher's own name"


def test_queries_that_the_model_invents(place: Place) -> None:
    """The miniature never learned to ask; what it says is judged like any answer."""
    config = {"method": "magpie", "queries": {"sampling": {"max_tokens": 48}}}
    try:
        outcome, answers, _ = place.go(1, **config)
    except UserError as error:
        assert "query: " in str(error)  # noqa: PT017
        return
    assert {a["source"] for a in answers} == {"magpie"}
    assert len({a["id"] for a in answers}) == len(answers) == 8
    assert outcome.counts["engine_starts"] == 1


def test_settings_that_contradict_are_errors_at_once(place: Place) -> None:
    tree = {"corpus": [], "synthesize": {"method": "plain"}}
    with pytest.raises(UserError, match=r"corpus is empty.*method=magpie"):
        settings(RunConfig.model_validate(tree))
    schema = {"engine": {"type": "transformers"}, "sampling": {"json_schema": {"type": "object"}}}
    with pytest.raises(UserError, match=r"sampling\.json_schema needs .*type=vllm"):
        settings(RunConfig.model_validate({"synthesize": schema}))


def test_too_few_good_answers_are_an_error(place: Place) -> None:
    with pytest.raises(UserError, match=r"needs 96 .*good \(120 cut off\).*max_tokens above 1"):
        place.go(12, sampling={"max_tokens": 1}, reword={"per_row": 0})


def test_too_few_queries_are_an_error_before_anything_runs(place: Place) -> None:
    with pytest.raises(UserError, match=r"needs 160 .*has 120 \(3 duplicates and 2 rejects"):
        place.go(20)


def test_held_out_answers_follow_those_that_train(first, place: Place) -> None:
    _, answers, _ = first
    outcome, again, _ = place.go(4, held_out=8)
    assert again == answers
    kept = place.run.out.read_table("held_out.parquet").to_pylist()
    assert outcome.counts["self_sample"]["held_out"] == len(kept) == 8
    order = [place.pool.index(a["id"]) for a in [*again, *kept]]
    assert order == sorted(order)
    _, _, _ = place.go(0, held_out=8)  # nothing diverse: nothing to hold out
    assert len(place.run.out.read_table("held_out.parquet")) == 0
