"""One planted violation of each kind is seen; good texts pass."""

import pytest

from delia_ray.config import Reword, Rules
from delia_ray.synthesize.checks import (
    answer_problem,
    gives_away,
    placement_problem,
    rewording_problem,
    similarity,
)
from delia_ray.text import repetition

CONTROL = ["<|end|>", "<|user|>"]
TOKENS = {"<sep>": "json"}
ORIGINAL = 'Sort the 3 words by "size". Follow the <sep> format.'
LOOP = "the cat sat on " * 12
PROSE = (
    "Eat a balanced diet with many vegetables. Move your body often and keep it strong. "
    "Sleep seven hours, at the same time each night, and drink enough water."
)


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("a b c", "stop", None),
        (PROSE, "stop", None),
        ("I'm sorry to hear that. Here is a plan.", "stop", None),
        ("a b c", "length", "cut off"),
        ("", "error", "engine error"),
        (" \n", "stop", "empty"),
        ("a <|user|> b", "stop", "contains a control token of the chat template"),
        ("a [INST] b", "stop", "leaks a chat template"),
        ("I’m sorry, but I cannot help.", "stop", "refused"),
        ("as an ai language model I have no body", "stop", "refused"),
        ("What is  it?", "stop", "repeats the query"),
        (LOOP, "stop", "repeats itself"),
        ("哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈", "stop", "repeats itself"),
    ],
)
def test_answers(text: str, finish: str, reason: str | None) -> None:
    assert answer_problem(text, finish, CONTROL, Rules(), "What is it?") == reason


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (LOOP, Rules(max_repetition=1)),
        ("I cannot say.", Rules(refusals=[])),
        ("a [INST] b", Rules(template_marks=[])),
        ("what is it", Rules(echo=True)),
    ],
)
def test_each_rule_can_be_switched_off(text: str, rules: Rules) -> None:
    assert answer_problem(text, "stop", CONTROL, Rules(), "What is it?")
    assert answer_problem(text, "stop", CONTROL, rules, "What is it?") is None


def test_a_shortest_answer_can_be_set() -> None:
    assert answer_problem(" no ", "stop", [], Rules(min_characters=3)) == "too short"
    assert answer_problem("nay", "stop", [], Rules(min_characters=3)) is None


def test_repetition_is_a_share() -> None:
    assert repetition("short short short") == 0
    assert repetition(PROSE) == 0
    assert repetition(LOOP) == pytest.approx(1 - 4 / 45)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('Put the 3 words in order of "size", in the <sep> format.', None),
        ('Sort the 3 words by "size".', "special token lost or repeated"),
        ('Sort the 3 words by "size": <sep>, <sep>.', "special token lost or repeated"),
        ('Sort the 3 words by "size" in <sep>, that is JSON.', "explains the special token"),
        (
            'Sort the 4 words by "size" in <sep>.',
            "changes a number, a quotation, a slot or a tag",
        ),
        ('Sort the 3 words by "name" in <sep>.', "changes a number, a quotation, a slot or a tag"),
        (
            'Sort the 3 words by "size" in <sep>, <b>.',
            "changes a number, a quotation, a slot or a tag",
        ),
        (
            'Sort the 3 words of {x} by "size" in <sep>.',
            "changes a number, a quotation, a slot or a tag",
        ),
        ('Do not sort the 3 words by "size" in <sep>.', "changes a negation"),
        ('The 3 words by "size" in <sep>: sun cat.', "gives the answer away"),
        ('sort the 3 words by "size"; follow the <sep> format', "not new"),
        ('Order the 3 words by "size" with <sep>!', "not new"),
        ('Now order the 3 words by "size" with <sep>', "not new"),
        (
            'The 3 words by "size", <sep>. ' + PROSE + " " + PROSE[:60],
            "much longer than the original",
        ),
        ("", "empty"),
        ('Sort 3 by "size" <sep> <|end|>', "contains a control token of the chat template"),
        ('I cannot sort the 3 words by "size" in <sep>.', "refused"),
    ],
)
def test_rewordings(text: str, reason: str | None) -> None:
    kept = ['Order the 3 words by "size" with <sep>']
    found = rewording_problem(
        text, "stop", ORIGINAL, "sun cat", kept, TOKENS, CONTROL, Rules(), Reword()
    )
    assert found == reason


def test_short_answers_occur_by_chance() -> None:
    text = 'Put the 3 words in order of "size", in a <sep> way.'
    found = rewording_problem(text, "stop", ORIGINAL, "a", [], TOKENS, CONTROL, Rules(), Reword())
    assert found is None


def test_the_same_words_are_never_new() -> None:
    text = ORIGINAL.upper().replace("<SEP>", "<sep>").replace('"SIZE"', '"size"')
    found = rewording_problem(
        text, "stop", ORIGINAL, "a", [], TOKENS, CONTROL, Rules(), Reword(max_similarity=1.0)
    )
    assert found == "not new"
    assert similarity("Turn it round!", "turn IT round") == 1
    assert similarity("a b c d", "a b x d") == 0.75


def test_what_a_description_gives_away() -> None:
    assert gives_away("json") == {"json"}
    told = gives_away("a Python dictionary with the keys 'thought' and 'hallucination'")
    assert told == {"python", "dictionary", "keys", "thought", "hallucination"}


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (["Be brief.", "Turn round.\n\ncat sun"], None),
        (["Be brief.", "cat sun\n\nTurn round."], None),
        (["Be brief.", "cat\n\nTurn round."], "content lost"),
        (["Be long.", "cat sun\n\nTurn round."], "changes an earlier turn"),
    ],
)
def test_all_but_the_instruction_survives(prompt: list[str], reason: str | None) -> None:
    def chat(system: str, user: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]

    old = chat("Be brief.", "cat sun\n\nReverse them.")
    assert placement_problem(chat(*prompt), old, "cat sun\n\n") == reason
