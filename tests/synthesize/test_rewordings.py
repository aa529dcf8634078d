"""Which wordings are kept: the paper's own rows, with violations planted among them."""

import itertools
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from delia_ray.config import Reword, RunConfig
from delia_ray.records import content_id
from delia_ray.synthesize.cache import COMPLETION
from delia_ray.synthesize.checks import placement_problem, rewording_problem
from delia_ray.synthesize.generate import Completions
from delia_ray.synthesize.model_checks import Seen, Task
from delia_ray.synthesize.prompts import split_instruction
from delia_ray.synthesize.requests import Asker
from delia_ray.synthesize.rewordings import KINDS, Rewordings

TOKENS = {"<sep>": "a Python dictionary with the keys 'thought' and 'hallucination'"}


def _completions(keys: list[str], texts: list[str]) -> Completions:
    rows = [
        {"key": k, "text": t, "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1,
         "seconds": 0.0, "error": ""}
        for k, t in zip(keys, texts, strict=True)
    ]  # fmt: skip
    return Completions(pa.Table.from_pylist(rows, COMPLETION))


def _work(rows: list[dict[str, Any]], per_row: int, **reword) -> Rewordings:
    config = RunConfig.model_validate(
        {"synthesize": {"reword": {"per_row": per_row, **reword}}, "downstream": {}}
    )
    return Rewordings(rows, Asker(config), TOKENS)


def _row(text: str, answer: str = "some long answer") -> dict[str, Any]:
    prompt = [{"role": "user", "content": text}]
    return {"id": content_id(prompt, answer), "prompt": prompt, "answer": answer}


@pytest.fixture(scope="module")
def official(data) -> list[dict[str, Any]]:
    import json

    path = data / "native" / "delia" / "train_dataset.jsonl"
    rows = [json.loads(line)["messages"] for line in path.read_text().splitlines() if line]
    return [
        {"id": content_id(m[:-1], m[-1]["content"]), "prompt": m[:-1], "answer": m[-1]["content"]}
        for m in rows
    ]


def _instructions(rows: list[dict[str, Any]]) -> list[str]:
    return [split_instruction(r["prompt"][-1]["content"], "last_paragraph")[1] for r in rows]


MANY = ["".join(letters) for letters in itertools.product("bcdefghk", repeat=3)]
PLANTED = {
    "special token lost or repeated": lambda t: t.replace("<sep>", "it"),
    "explains the special token": lambda t: t + " It is a dictionary.",
    "changes a number, a quotation, a slot or a tag": lambda t: t + " Say it {twice}.",
    "changes a negation": lambda t: t + " Never shout.",
    "not new": lambda t: t.upper().replace("<SEP>", "<sep>"),
    "much longer than the original": lambda t: " ".join([t, *MANY]),
    "leaks a chat template": lambda t: t + " [/INST]",
    "refused": lambda t: "I'm sorry, but " + t,
    "empty": lambda t: " ",
    "repeats itself": lambda t: "please do it now and " * 30 + t,
}


def test_on_the_papers_rows(official: list[dict[str, Any]]) -> None:
    """Each row gets another row's wording (in the paper they are of one task) and a bad one."""
    assert len(official) == 100
    work = _work(official, 2)
    told = _instructions(official)
    kinds = list(PLANTED)
    texts, planted = [], {}
    for at, original in enumerate(told):
        reason = kinds[at % len(kinds)]
        texts += [told[(at + 37) % 100], PLANTED[reason](original)]
        planted[official[at]["id"], 2] = reason
    kept, aside, counts = work.judge(_completions([r.key for r in work.requests()], texts))
    found = {(r["id"], r["variant"]): r["reason"] for r in aside.to_pylist()}
    for where, reason in planted.items():
        assert found.get(where), f"planted and kept: {reason}"
    other = Counter((r, found[where]) for where, r in planted.items() if found[where] != r)
    assert sum(other.values()) <= 5, f"the reason is the planted one, nearly always: {other}"
    assert set(planted.values()) <= set(found.values())
    assert counts["asked"] == 200 == counts["kept"] + sum(counts["set_aside"].values())
    assert counts["kept"] >= 40, "people's own wordings mostly pass"
    by_id = {r["id"]: r for r in official}
    for made in kept.to_pylist():
        row = by_id[made["id"]]
        content, old = split_instruction(row["prompt"][-1]["content"], "last_paragraph")
        new = made["prompt"][-1]["content"]
        text = new.removeprefix(content)
        if made["placement"] == "before" and content.strip():
            text = new.removesuffix(f"\n\n{content.strip()}")
        assert placement_problem(made["prompt"], row["prompt"], content) is None
        problem = rewording_problem(
            text, "stop", old, row["answer"], [], TOKENS, work.ask.control, work.ask.rules, Reword()
        )
        assert problem is None


def test_rows_of_one_task_share_its_wordings() -> None:
    rows = [_row(f"{word}\n\nTurn it round. <sep>") for word in ("cat", "sun", "rope")]
    work = _work(rows, 2, placement=["after"])
    assert len(work.tasks) == 1
    texts = [
        "Reverse it, as <sep>.",
        "",
        "Reverse it, as <sep>.",
        "Backwards, please: <sep>",
        "",
        "",
    ]
    kept, _aside, counts = work.judge(_completions([r.key for r in work.requests()], texts))
    assert (counts["kept"], counts["tasks"], counts["rows_reworded"]) == (2, 1, 3)
    assert counts["set_aside"] == {"empty": 3, "another row of the task has it": 1}
    wordings: dict[str, set[str]] = {}
    for made in kept.to_pylist():
        content, text = made["prompt"][-1]["content"].split("\n\n")
        wordings.setdefault(content, set()).add(text)
    assert wordings == {key: {texts[0], texts[3]} for key in ("cat", "sun", "rope")}


def test_a_wording_that_gives_another_rows_answer_away_is_not_dealt_to_it() -> None:
    rows = [_row("a\n\nSay it. <sep>", "first answer"), _row("b\n\nSay it. <sep>", "green tree")]
    work = _work(rows, 1, placement=["after"])
    texts = ["Tell me the green tree in <sep>", ""]
    kept, _, counts = work.judge(_completions([r.key for r in work.requests()], texts))
    assert [r["id"] for r in kept.to_pylist()] == [rows[0]["id"]]
    assert counts["rows_reworded"] == 1


def test_registers_are_asked_in_turn() -> None:
    rows = [_row(f"{i}\n\nSay it {'x' * i}") for i in range(4)]
    work = _work(rows, 3, registers=["", " Be formal.", " Be brief."])
    asked = [r.messages[-1]["content"] for r in work.requests()]
    assert sum("Be formal." in a for a in asked) == sum("Be brief." in a for a in asked) == 4
    assert len({r.key for r in work.requests()}) == 12


def test_a_row_that_stands_there_twice_is_dealt_once() -> None:
    rows = [_row("a\n\nSay it. <sep>"), _row("a\n\nSay it. <sep>")]
    work = _work(rows, 1, registers=[""])
    texts = ["Tell me, in <sep>"] * 2
    keys = [r.key for r in work.requests()]
    assert keys[0] == keys[1]
    kept, _, _ = work.judge(_completions(keys[:1], texts[:1]))
    assert len(kept) == 1


def _kinds(**found: int) -> dict[str, int]:
    return dict.fromkeys(["original", *KINDS], 0) | found


REAL: dict[str, Any] = {"examples": [], "stand_in": "Zeta", "placement": ["after"]}


def test_the_best_candidates_are_taken_and_the_token_is_put_back() -> None:
    row = _row("a\n\nCheck the invoice for wrong totals. Follow the <sep> format.")
    work = _work([row], 1, candidates=3, **REAL)
    assert len({r.key for r in work.requests()}) == 3
    texts = [
        "See if the invoice has totals, in the Zeta format.",
        "Yes, the invoice has wrong totals. Zeta",
        "Find wrong totals in the invoice, in the Zeta format.",
    ]
    kept, aside, counts = work.judge(_completions([r.key for r in work.requests()], texts))
    found = [r["prompt"][-1]["content"] for r in kept.to_pylist()]
    assert found == ["a\n\nFind wrong totals in the invoice, in the <sep> format."]
    assert [r["reason"] for r in aside.to_pylist()] == ["answers the request"]
    assert (counts["asked"], counts["kept"], counts["spare"]) == (3, 1, 1)
    assert counts["rows_by_kind"] == _kinds(model=1)


def test_other_rows_of_the_same_subject_stand_in_and_are_counted() -> None:
    rows = [
        _row("a\n\nCheck the invoice for wrong totals. <sep>", "first answer"),
        _row("b\n\nYou must find the invoice's wrong totals: <sep>", "second answer"),
        _row("c\n\nTurn the page into French. <sep>", "third answer"),
        _row("d\n\nTurn the page into German. <sep>", "fourth answer"),
    ]
    work = _work(rows, 1, candidates=1, **REAL)
    keys = [r.key for r in work.requests()]
    kept, _, counts = work.judge(_completions(keys, ["", "", "Put the page in French. Zeta", ""]))
    found = {r["prompt"][-1]["content"]: r["kind"] for r in kept.to_pylist()}
    assert found == {
        "a\n\nYou must find the invoice's wrong totals: <sep>": "row",
        "b\n\nCheck the invoice for wrong totals. <sep>": "row",
        "c\n\nPut the page in French. <sep>": "model",
        "d\n\nPlease do the following. Turn the page into German. <sep>": "template",
    }
    assert counts["rows_by_kind"] == _kinds(model=1, row=2, template=1)
    bare = _work(rows, 1, candidates=1, templates=[], **REAL)
    counts = bare.judge(_completions(keys, [""] * 4))[2]
    assert counts["rows_by_kind"] == _kinds(original=2, row=2)
    alone = _work(rows, 1, candidates=1, stand_ins=False, **REAL)
    assert alone.judge(_completions(keys, [""] * 4))[2]["rows_reworded"] == 0


def test_frames_of_other_rows_come_before_templates() -> None:
    rows = [
        _row("a\n\nCheck the invoice for wrong totals. Use the <sep> format."),
        _row("b\n\nName the towns. Answer as <sep>."),
        _row("c\n\nNenne die Orte auf der Karte und die Namen der Flüsse, bitte."),
    ]
    work = _work(rows, 3, candidates=1, **REAL)
    keys = [r.key for r in work.requests()]
    kept, _, counts = work.judge(_completions(keys, [""] * 9))
    found = [(r["kind"], r["prompt"][-1]["content"]) for r in kept.to_pylist()]
    assert found[:4] == [
        ("frame", "a\n\nCheck the invoice for wrong totals. Answer as <sep>."),
        (
            "template",
            "a\n\nPlease do the following. Check the invoice for wrong totals. "
            "Use the <sep> format.",
        ),
        ("template", "a\n\nYour task: Check the invoice for wrong totals. Use the <sep> format."),
        ("frame", "b\n\nName the towns. Use the <sep> format."),
    ]
    # The built-in templates are English; the set's own language has none.
    assert counts["rows_by_kind"] == _kinds(original=1, frame=2, template=2)
    own = _work(rows, 1, candidates=1, templates=["Aufgabe: {request}"], **REAL)
    counts = own.judge(_completions([r.key for r in own.requests()], [""] * 3))[2]
    assert counts["rows_by_kind"] == _kinds(frame=2, template=1)


def test_what_the_model_finds_worse_is_set_aside_and_the_next_best_taken() -> None:
    row = _row("a\n\nCheck the invoice for wrong totals. Follow the <sep> format.")
    work = _work([row], 1, candidates=3, **REAL)
    texts = [
        "Find wrong totals in the invoice.",
        "Judge whether the invoice has wrong totals.",
        "See if the invoice's totals are wrong.",
    ]
    looked: list[Task] = []

    def look(tasks: list[Task]) -> list[list[Seen]]:
        looked.extend(tasks)
        return [[Seen(0.5, -1, True, 0.9), Seen(0.0, 0.1, True, 0.9), Seen(0, -1, True, 0.75)]]

    kept, aside, _ = work.judge(_completions([r.key for r in work.requests()], texts), look)
    assert [r["reason"] for r in aside.to_pylist()] == [
        "its answer follows less from it",
        "no better than without an instruction",
    ]
    assert [r["loss_increase"] for r in aside.to_pylist()] == [0.5, 0.0]
    (own,) = kept.to_pylist()
    assert own["prompt"][-1]["content"] == "a\n\n" + texts[2] + " Follow the <sep> format."
    assert own["nearness"] == 0.75
    (task,) = looked
    assert task.wordings == tuple(text + " Follow the <sep> format." for text in texts)
    assert [chat[-1]["content"] for chat in task.bare] == ["a\n\n"]
    assert [way[0][-1]["content"] for way in task.asked] == [
        "a\n\n" + text for text in (task.original, *task.wordings)
    ]
