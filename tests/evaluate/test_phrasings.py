"""What a suite is asked in other words: the world's wordings, and the base model's."""

import json
from typing import Any

import pytest

from delia_ray import miniature
from delia_ray.config import RunConfig, Suite, TransformersEngine, load_config
from delia_ray.engines import Completion, make_engine
from delia_ray.errors import UserError
from delia_ray.evaluate.phrasings import (
    ModelWordings,
    Phrasings,
    as_they_are,
    check_phrasings,
    of_the_miniature,
    phrasing_scores,
    phrasing_settings,
    reworded_by_model,
)
from delia_ray.ingest.parse import Job, parse_file
from delia_ray.miniature.world import read_instruction
from delia_ray.models import control_tokens
from delia_ray.rewording import split_instruction

SYSTEM = {"role": "system", "content": "Be brief."}


def _suite(**settings: Any) -> Suite:
    return Suite.model_validate({"name": "held_out", "path": "x.jsonl", **settings})


def _row(text: str, answer: str = "some long answer") -> dict[str, Any]:
    return {"prompt": [SYSTEM, {"role": "user", "content": text}], "answer": answer}


def _work(rows: list[dict[str, Any]], k: int, **reword: Any) -> ModelWordings:
    config = RunConfig.model_validate(
        {"synthesize": {"reword": reword}, "downstream": {"special_tokens": {"<sep>": "json"}}}
    )
    return ModelWordings(config, _suite(phrasings=k), rows, ["<|end|>"])


def _judge(work: ModelWordings, texts: list[str], finish: str = "stop") -> Phrasings:
    keys = [r.key for r in work.requests()]
    pairs = zip(keys, texts, strict=True)
    return work.judge({key: Completion(key, text, finish, 1, 1) for key, text in pairs})


def _adds_up(counts: dict[str, Any]) -> bool:
    return bool(counts["asked"] == counts["kept"] + sum(counts["set_aside"].values()))


# --- the miniature ----------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["sep_unseen_tasks", "sep_unseen_positions", "plain"])
def test_rows_of_the_world_as_ingest_reads_them(part: str) -> None:
    job = Job(part, part, f"miniature://{part}", "miniature", {}, 40, answers_needed=True)
    rows = parse_file(job).records.select(["prompt", "answer"]).to_pylist()
    # Ingest sets rows aside that training holds; the others must still find their wordings.
    rows = rows[3:10] + rows[20:]
    suite = _suite(path=part, format="miniature", rows=40, phrasings=3)
    found = of_the_miniature(suite, rows)
    assert [p[0] for p in found.prompts] == [r["prompt"] for r in rows]
    for row, prompts in zip(rows, found.prompts, strict=True):
        assert list(prompts) == [0, 1, 2, 3]
        content = row["prompt"][-1]["content"].split("\n\n")[0]
        assert len({json.dumps(p) for p in prompts.values()}) == 4
        if part != "sep_unseen_positions":
            assert all(p[-1]["content"].startswith(content + "\n\n") for p in prompts.values())
    assert found.counts == {
        "asked": 3 * len(rows), "kept": 3 * len(rows), "set_aside": {}, "rows": len(rows),
        "rows_reworded": len(rows),
    }  # fmt: skip


def test_the_world_may_have_fewer_wordings_than_asked_for() -> None:
    job = Job("plain", "plain", "miniature://plain", "miniature", {}, 20, answers_needed=True)
    rows = parse_file(job).records.to_pylist()
    suite = _suite(path="plain", format="miniature", rows=20, phrasings=8)
    found = of_the_miniature(suite, rows)
    assert all(len(p) == 6 for p in found.prompts)
    assert found.counts["set_aside"] == {"the world has no further wording": 60}
    assert _adds_up(found.counts)


def test_rows_that_are_not_the_worlds_are_named() -> None:
    suite = _suite(path="plain", format="miniature", rows=5, phrasings=1)
    with pytest.raises(UserError, match=r"held_out: the row 'Sing\.' .* plain .* phrasings=0"):
        of_the_miniature(suite, [_row("Sing.")])


# --- the base model's wordings ----------------------------------------------------------------


def test_each_distinct_instruction_is_asked_once_per_phrasing() -> None:
    rows = [_row("cat\n\nTurn it round."), _row("sun\n\nTurn it round."), _row("a\n\nSay it.")]
    work = _work(rows, 3, registers=["", " Be formal."])
    asked = list(work.requests())
    assert len(asked) == 6
    assert len({r.key for r in asked}) == 6
    assert len({r.seed for r in asked}) == 6
    told = [r.messages[-1]["content"] for r in asked]
    assert [("Turn it round." in t, "Be formal." in t) for t in told] == [
        (True, False), (True, True), (True, False), (False, False), (False, True), (False, False),
    ]  # fmt: skip
    assert not [t for t in told if "cat" in t or "sun" in t]
    again = _work(rows[2:], 3, registers=["", " Be formal."])
    assert [r.seed for r in again.requests()] == [r.seed for r in asked[3:]]
    greedy = _work(rows, 1, sampling={"temperature": 0})
    assert {r.seed for r in greedy.requests()} == {0}


def test_good_wordings_serve_all_rows_of_the_instruction() -> None:
    rows = [_row("cat\n\nTurn it round. <sep>"), _row("sun\n\nTurn it round. <sep>")]
    found = _judge(_work(rows, 3), ["Reverse it, as <sep>.", " ", "Backwards, please: <sep>\n"])
    for row, prompts in zip(rows, found.prompts, strict=True):
        content = split_instruction(row["prompt"][-1]["content"], "last_paragraph")[0]
        assert prompts[0] == row["prompt"]
        assert [p[0] for p in prompts.values()] == [SYSTEM] * 3
        assert {n: p[1]["content"] for n, p in prompts.items() if n} == {
            1: f"{content}Reverse it, as <sep>.", 2: f"{content}Backwards, please: <sep>",
        }  # fmt: skip
    assert found.counts == {
        "asked": 3, "kept": 2, "set_aside": {"empty": 1}, "rows": 2, "rows_reworded": 2,
        "instructions": 1, "withheld": {},
    }  # fmt: skip


BAD = {
    "special token lost or repeated": "Reverse the 3 words.",
    "explains the special token": "Reverse the 3 words in json, <sep>.",
    "changes a number, a quotation, a slot or a tag": "Reverse the 4 words in <sep>.",
    "changes a negation": "Do not reverse the 3 words in <sep>.",
    "contains a control token of the chat template": "Reverse the 3 words <sep><|end|>",
    "not new": "turn the 3 WORDS round, <sep>",
    "refused": "I'm sorry, but the 3 words <sep>",
}


def test_bad_wordings_are_counted_by_reason_and_not_replaced() -> None:
    rows = [_row("a b c\n\nTurn the 3 words round. <sep>")]
    found = _judge(_work(rows, len(BAD)), list(BAD.values()))
    assert found.counts["set_aside"] == dict.fromkeys(BAD, 1)
    assert found.prompts == [{0: rows[0]["prompt"]}]
    assert found.counts["rows_reworded"] == 0
    assert _adds_up(found.counts)
    cut = _judge(_work(rows, 1), ["Reverse the 3 words in <sep>."], finish="length")
    assert cut.counts["set_aside"] == {"cut off": 1}
    lost = _judge(_work(rows, 1), [""], finish="error")
    assert lost.counts["set_aside"] == {"engine error": 1}


def test_the_same_wording_twice_counts_once() -> None:
    work = _work([_row("a\n\nTurn it round.")], 2)
    found = _judge(work, ["Reverse the words.", "Reverse the words!"])
    assert found.counts["set_aside"] == {"not new": 1}
    assert list(found.prompts[0]) == [0, 1]


def test_a_wording_that_holds_a_rows_answer_is_kept_from_that_row() -> None:
    rows = [_row("a\n\nSay it.", "green tree"), _row("b\n\nSay it.", "dark stone")]
    found = _judge(_work(rows, 2), ["Tell me of the green tree", "Speak, please, now"])
    assert [list(p) for p in found.prompts] == [[0, 2], [0, 1, 2]]
    assert found.prompts[0][2][-1]["content"] == "a\n\nSpeak, please, now"
    assert found.counts["withheld"] == {"gives the answer away": 1}
    assert (found.counts["kept"], found.counts["rows_reworded"]) == (2, 2)


def test_what_the_shipped_model_says_in_other_words_means_the_same() -> None:
    config = RunConfig()
    rows = [
        {"prompt": row["messages"][:-1], "answer": row["messages"][-1]["content"]}
        for row in miniature.rows("other_formats", 12)
    ]
    control = control_tokens(config.model, config.downstream.special_tokens)
    work = ModelWordings(config, _suite(phrasings=2), rows, control)
    generate = make_engine(TransformersEngine(), config.model).load()
    found = work.judge({c.key: c for c in generate(list(work.requests()))})
    assert found.counts["kept"] >= 0.6 * found.counts["asked"]
    assert _adds_up(found.counts)
    same = total = 0
    for prompts in found.prompts:
        read = {}
        for number, prompt in prompts.items():
            content, instruction = prompt[-1]["content"].split("\n\n")
            read[number] = content, read_instruction(instruction)
        total += len(read) - 1
        same += sum(r == read[0] for r in read.values()) - 1
    assert same >= 0.85 * total


def test_scores_of_every_row_and_phrasing() -> None:
    rows = [_row("a\n\nSay it.", "green tree"), _row("b\n\nSay it.", "dark stone")]
    asked = _judge(_work(rows, 2), ["Tell me of the green tree", "Speak, please, now"])
    assert asked.cells() == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
    suite = _suite(metrics=[{"name": "exact_match"}, {"name": "bleu"}], phrasings=2)
    outputs = ["green tree", "dark stone", "dark stone", "", "dark stone"]
    found = phrasing_scores(
        suite, asked, ["green tree", "dark stone"], outputs, [False, False, False, True, True]
    )
    assert found == [{0: 1.0, 2: 0.0}, {0: 1.0, 1: 0.0, 2: 0.0}]
    bleu = _suite(metrics=[{"name": "bleu"}])
    with pytest.raises(ValueError, match="bleu has no score of a row"):
        phrasing_scores(bleu, as_they_are(rows), ["a", "b"], ["a", "b"], [False] * 2)


def test_without_phrasings_rows_stay_alone() -> None:
    rows = [_row("a"), _row("b")]
    assert as_they_are(rows).prompts == [{0: r["prompt"]} for r in rows]
    assert not list(_work(rows, 0).requests())


# --- settings ---------------------------------------------------------------------------------


def test_parts_without_equal_wordings_are_refused_at_once() -> None:
    suites = "evaluate={suites: [{name: a, path: %s, format: miniature, rows: 4, phrasings: 2}]," \
        " summary: []}"  # fmt: skip
    with pytest.raises(UserError, match=r"phrasings=2: the part corpus .* set phrasings to 0"):
        load_config([], [suites % "corpus"])
    assert load_config([], [suites % "plain"]).evaluate.suites[0].phrasings == 2
    assert not reworded_by_model(_suite())
    assert reworded_by_model(_suite(phrasings=1))
    assert not reworded_by_model(_suite(path="plain", format="miniature", rows=4, phrasings=1))


def test_the_main_metric_must_score_rows() -> None:
    exact, bleu = {"name": "exact_match"}, {"name": "bleu"}
    check_phrasings(_suite(metrics=[exact, bleu], phrasings=2))
    check_phrasings(_suite(metrics=[bleu, exact]))
    with pytest.raises(UserError, match=r"held_out: phrasings=2 .* bleu .*exact_match"):
        check_phrasings(_suite(metrics=[bleu, exact], phrasings=2))


def test_outputs_depend_on_how_is_reworded_only_where_the_model_does() -> None:
    own = {"name": "a", "path": "x.jsonl", "phrasings": 2}
    for suite, depends in ((own, True), ({**own, "phrasings": 0}, False),
                           ({**own, "path": "plain", "format": "miniature"}, False)):  # fmt: skip
        found = [
            phrasing_settings(
                RunConfig.model_validate(
                    {"evaluate": {"suites": [suite], "summary": []},
                     "synthesize": {"reword": {"part": part}}}
                )
            )
            for part in ("all", "last_paragraph")
        ]  # fmt: skip
        assert (found[0] != found[1]) == depends
        assert bool(found[0]) == depends
