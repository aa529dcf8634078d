"""One planted violation of each kind is seen; good texts pass."""

import pytest

from delia_ray.synthesize.checks import answer_problem, rewording_problem

CONTROL = ["<|end|>", "<|user|>"]
TOKENS = {"<sep>": "json"}
ORIGINAL = 'Sort the 3 words by "size". Follow the <sep> format.'


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("a b c", "stop", None),
        ("a b c", "length", "cut off"),
        ("", "error", "engine error"),
        (" \n", "stop", "empty"),
        ("a <|user|> b", "stop", "contains a control token of the chat template"),
    ],
)
def test_answers(text: str, finish: str, reason: str | None) -> None:
    assert answer_problem(text, finish, CONTROL) == reason


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
        ('Do not sort the 3 words by "size" in <sep>.', "changes a negation"),
        ('The 3 words by "size" in <sep>: sun cat.', "gives the answer away"),
        ('sort the 3 words by "size"; follow the <sep> format', "not new"),
        ('Order the 3 words by "size" with <sep>!', "not new"),
        ('The 3 words by "size", <sep>. ' + "Please. " * 60, "much longer than the original"),
        ("", "empty"),
        ('Sort 3 by "size" <sep> <|end|>', "contains a control token of the chat template"),
    ],
)
def test_rewordings(text: str, reason: str | None) -> None:
    kept = ['Order the 3 words by "size" with <sep>']
    assert rewording_problem(text, "stop", ORIGINAL, "sun cat", kept, TOKENS, CONTROL) == reason


def test_short_answers_occur_by_chance() -> None:
    text = 'Put the 3 words in order of "size", in a <sep> way.'
    assert rewording_problem(text, "stop", ORIGINAL, "a", [], TOKENS, CONTROL) is None
