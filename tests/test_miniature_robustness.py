"""One request in many ways: the same answer, new places, and the old parts as they were."""

import hashlib
import json
from collections import Counter, defaultdict

import pytest

from delia_ray.miniature import PARTS, REWORDABLE, rewordings, rows
from delia_ray.miniature import phrasings as say
from delia_ray.miniature.robustness import Asked, _varied
from delia_ray.miniature.world import NEW_FORMAT, Request, Wish, Wording, read_instruction

N = 150

BEFORE = {
    "downstream": ("160c71699499793d", "44fcc3d6c095c40e"),
    "corpus": ("e25d13136ca1e199", "f097fcb9bfa94262"),
    "lessons": ("afd413e8cae8cb02", "9448d0815eaeab4f"),
    "sep_seen": ("6cfd436db00378d9", "d7eb7abdaf824176"),
    "sep_unseen_tasks": ("5019023a15a01d22", "eb72b07ac5925561"),
    "sep_unseen_phrasings": ("e4267c4561ea3dc3", "3d3666267622c4bb"),
    "sep_negated": ("bfce055200144e1f", "f4d49a73da5cc91d"),
    "plain": ("12fa53797d5034d6", "18929fc82a3bc097"),
    "other_formats": ("ef12d6a70ea7beb1", "f1ae82ce20b3c0b3"),
    "translation": ("81b1cbe92459e9d9", "8745b932a1504579"),
    "translation_downstream": ("a58d51f9deb2dbe9", "729f85286a6b8bc9"),
    "translation_new": ("0ff879ba6b4fee9f", "1f5436770a035eb6"),
}
"""Part -> digests of its first 200 rows for the seeds 0 and 1."""


@pytest.mark.parametrize("part", BEFORE)
def test_rows_stay_what_they_were(part: str) -> None:
    """The shipped model was trained on these, and published figures rest on them."""
    for seed, expected in enumerate(BEFORE[part]):
        text = json.dumps(list(rows(part, 200, seed)), sort_keys=True)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == expected


# --- the special token in places and forms that downstream lacks ------------------------------


def _sentences(name: str, mention: str) -> set[str]:
    asks = say.ASK_FORMAT[: say.N_DOWNSTREAM_FORMAT_WORDINGS]
    return {w.format(f=mention.format(f=name)) for w in asks}


def _tasks() -> set[str]:
    n = say.N_DOWNSTREAM_OPERATION_WORDINGS
    return {w for name in say.DOWNSTREAM_OPERATIONS for w in say.OPERATIONS[name][1][:n]}


@pytest.mark.parametrize("name", [NEW_FORMAT, "json"])
def test_the_format_stands_where_downstream_never_has_it(name: str) -> None:
    part = "sep_unseen_positions" if name == NEW_FORMAT else "json_unseen_positions"
    formats, tasks = _sentences(name, "{f}"), _tasks()
    places: Counter[str] = Counter()
    for row in rows(part, N):
        *prompt, answer = row["messages"]
        paragraphs = prompt[-1]["content"].split("\n\n")
        assert paragraphs[-1] in tasks, "the task closes the request and is alone there"
        if len(prompt) == 2:
            place, where = "system", prompt[0]["content"]
            assert prompt[0]["role"] == "system"
            assert len(paragraphs) == 2
        else:
            at = 0 if paragraphs[0] in formats else 1
            place, where = ("beginning", "between")[at], paragraphs.pop(at)
            assert len(paragraphs) == 2
        assert where in formats
        places[place] += 1
        task, _ = read_instruction(paragraphs[-1]) or ("", Wish())
        words = say.OPERATIONS[task][0](paragraphs[0].split())
        assert answer["content"] == Wish("json").render(words)
    assert set(places) == {"system", "beginning", "between"}
    assert min(places.values()) > N / 5


@pytest.mark.parametrize("name", [NEW_FORMAT, "json"])
@pytest.mark.parametrize(("kind", "mention"), [("doubled", "{f} {f}"), ("quoted", '"{f}"')])
def test_the_format_is_named_as_downstream_never_does(name: str, kind: str, mention: str) -> None:
    formats, tasks = _sentences(name, mention), _tasks()
    for row in rows(f"{'sep' if name == NEW_FORMAT else name}_{kind}", N):
        query, answer = (m["content"] for m in row["messages"])
        content, instruction = query.split("\n\n")
        [task] = [t for t in tasks if instruction.startswith(t + " ")]
        assert instruction.removeprefix(task + " ") in formats
        operation, _ = read_instruction(task) or ("", Wish())
        assert json.loads(answer) == {
            "answer": " ".join(say.OPERATIONS[operation][0](content.split()))
        }


# --- equal wordings ---------------------------------------------------------------------------


def test_every_part_of_single_requests_can_be_reworded() -> None:
    assert set(PARTS) - set(REWORDABLE) == {"corpus", "lessons"}
    with pytest.raises(ValueError, match=r"'corpus' has no equal wordings; .*sep_seen"):
        rewordings("corpus", 1, 1)


@pytest.mark.parametrize("part", REWORDABLE)
def test_rewordings_are_different_prompts_of_the_same_rows(part: str) -> None:
    made = list(rewordings(part, N, 4, seed=2))
    for row, prompts in zip(rows(part, N, seed=2), made, strict=True):
        assert prompts[0] == row["messages"][:-1]
        assert set(prompts) <= set(range(5))
        assert len(prompts) >= 4
        assert len({json.dumps(p) for p in prompts.values()}) == len(prompts)
        assert [m["role"] for p in prompts.values() for m in p] == [
            m["role"] for m in prompts[0]
        ] * len(prompts)
    again = list(rewordings(part, 20, 2, seed=2))
    assert [p[0] for p in again] == [p[0] for p in made[:20]]


READABLE = ("sep_seen", "sep_unseen_tasks", "sep_unseen_phrasings", "sep_negated", "plain",
            "other_formats", "sep_doubled", "sep_quoted")  # fmt: skip


@pytest.mark.parametrize("part", READABLE)
def test_rewordings_state_the_same_task_wish_and_content(part: str) -> None:
    said = set()
    for prompts in rewordings(part, N, 6):
        read = set()
        for prompt in prompts.values():
            content, instruction = prompt[-1]["content"].split("\n\n")
            plain = instruction.replace("<sep> <sep>", "<sep>").replace('"<sep>"', "<sep>")
            found = read_instruction(plain)
            assert found is not None, instruction
            read.add((content, found))
            said.add(instruction)
        assert len(read) == 1
    if part == "sep_doubled":
        assert all("<sep> <sep>" in text for text in said)
    if part == "sep_quoted":
        assert all('"<sep>"' in text for text in said)


def test_unseen_stays_unseen() -> None:
    n = say.N_DOWNSTREAM_FORMAT_WORDINGS
    seen = [w.format(f=NEW_FORMAT) for w in say.ASK_FORMAT[:n]] + sorted(_tasks())
    for prompts in rewordings("sep_unseen_phrasings", N, 5):
        assert not [p for p in prompts.values() for s in seen if s in p[-1]["content"]]
    for prompts in rewordings("sep_unseen_positions", N, 5):
        shapes = {(len(p), p[-1]["content"].count("\n\n")) for p in prompts.values()}
        assert len(shapes) == 1, "the place is what the row is about"


def test_a_phrasing_is_the_same_wording_in_every_row() -> None:
    """Else its accuracy over the rows would mean nothing."""
    said: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for prompts in rewordings("sep_seen", N, 3):
        task = read_instruction(prompts[0][0]["content"].split("\n\n")[1])
        assert task is not None
        for number in range(1, 4):
            said[task[0], number][prompts[number][0]["content"].split("\n\n")[1]] += 1
    assert len(said) == 6
    for counts in said.values():
        [(_, most), *rest] = counts.most_common()
        assert len(rest) <= 1, "one spare for rows that have the wording already"
        assert most > 0.7 * counts.total()


REQUEST = Request("reverse", "cat sun", ("sun", "cat"))


def test_where_no_spare_wording_is_left_a_phrasing_is_lacking() -> None:
    tasks = ("Reverse.", "Turn round.", "Backwards.")
    asked = [Asked(REQUEST, Wish(), Wording(t), tasks) for t in tasks]
    got = [a.rewordings(3) for a in asked]
    assert [len(g) for g in got] == [3, 3, 3]
    lacking = [({1, 2, 3} - set(g)).pop() for g in got]
    assert sorted(lacking) == [1, 2, 3]
    for number in (1, 2, 3):
        texts = {g[number][0]["content"] for g in got if number in g}
        assert len(texts) == 1
    assert [set(a.rewordings(9)) for a in asked] == [set(g) for g in got]
    two = [a.rewordings(2) for a in asked]
    assert all(set(g) == {0, 1, 2} for g in two), "here the third is the spare"
    assert asked[0].rewordings(0) == {0: asked[0].prompt()}


def test_an_order_of_the_sentences_is_a_wording_too() -> None:
    asked = Asked(
        REQUEST, Wish("json"), Wording("Reverse.", "Use json."), ("Reverse.",), ("Use {f}.",)
    )  # fmt: skip
    prompts = {p[0]["content"] for p in asked.rewordings(5).values()}
    assert prompts == {"cat sun\n\nReverse. Use json.", "cat sun\n\nUse json. Reverse."}


def test_few_phrasings_use_many_wordings() -> None:
    order = _varied(6, 14, 2)
    assert len(order) == len(set(order)) == 6 * 14 * 2
    assert len({t for t, _, _ in order[:6]}) == 6
    assert len({f for _, f, _ in order[:14]}) == 14
    assert sum(o for _, _, o in order[:6]) == 3
