"""A thought and the answer behind it."""

import pytest

from delia_ray.chats.thoughts import THINK, Thoughts, marks_in, separate
from delia_ray.config import Reword, Rules, Suite
from delia_ray.evaluate.scoring import score_suite
from delia_ray.rewording import answer_problem, rewording_problem


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("Blue", "", "Blue"),
        ("<think>\n\n</think>\n\nBlue", "", "Blue"),
        ("<think>hm</think>Blue", "hm", "Blue"),
        ("\n<think>\nhm\n</think>\n\n Blue\n", "hm", "Blue\n"),
        ("hm, blue it is\n</think>\n\nBlue", "hm, blue it is", "Blue"),  # the prompt opened it
        ("<think>and on and on", "and on and on", ""),
        ("In XML, <think>x</think> is a tag", "", "In XML, <think>x</think> is a tag"),
        ("", "", ""),
    ],
)
def test_a_thought_stands_before_the_answer(text: str, thought: str, answer: str) -> None:
    assert separate(text) == (thought, answer)
    assert separate(text, None) == ("", text)


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        ("{{ m.content.split('</think>')[-1] }}", THINK),
        ("{% if '[/THINK]' in m.content %}", Thoughts("[THINK]", "[/THINK]")),
        ("'<|START_THINKING|>' '<|END_THINKING|>'",
         Thoughts("<|START_THINKING|>", "<|END_THINKING|>")),
        ("</seed:think>", Thoughts("<seed:think>", "</seed:think>")),
        ("{{ m.content }}", None),
    ],
)  # fmt: skip
def test_the_template_says_how_thoughts_are_marked(template: str, marks: Thoughts | None) -> None:
    assert marks_in(template) == marks


def _problem(text: str) -> str | None:
    return rewording_problem(
        text, "stop", "Name a colour, please.", "Blue", [], {}, [], Rules(), Reword()
    )


def test_a_rewording_is_judged_without_the_thought() -> None:
    assert _problem("Kindly give one shade.") is None
    assert _problem("<think>\n\n</think>\n\nKindly give one shade.") is None
    assert _problem("<think>\nBlue?\n</think>\n\nKindly give one shade.") is None
    assert _problem("<think>\n\n</think>\n\nIs it Blue?") == "gives the answer away"
    assert _problem("<think>\n\n</think>\n\n") == "empty"
    assert answer_problem("<think>I cannot say", "stop", [], Rules()) == "empty"


def test_what_is_scored_is_the_answer_behind_the_thought() -> None:
    suite = Suite(name="held", path="x")
    outputs = ["<think>\n\n</think>\n\nBlue", "<think>Red</think>Red", "Blue", "<think>Blue"]
    how = {"resamples": 100, "confidence": 0.95, "seed": 0}
    references = ["Blue", "<think>why</think>\n\nRed", "Blue", "Blue"]
    found = score_suite(suite, outputs, references, [False] * 4, thoughts=THINK, **how)
    assert found.rows == [1, 1, 1, 0]
    plain = score_suite(suite, outputs, references, [False] * 4, **how)
    assert plain.rows == [0, 0, 1, 0], "a model without thoughts is scored by all that it says"
