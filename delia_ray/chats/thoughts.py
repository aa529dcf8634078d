"""A thought and the answer behind it.

Models that think write a thought between two marks, then the answer. What is trained on, scored
and judged is the answer.
"""

import re
from typing import NamedTuple

_CLOSING = re.compile(r"</(seed:think|think|thinking|thought|reasoning|reason)>|\[/THINK\]")
_NAMED = ("<|START_THINKING|>", "<|END_THINKING|>")


class Thoughts(NamedTuple):
    """The marks around a thought."""

    begin: str
    end: str


THINK = Thoughts("<think>", "</think>")
"""The marks of most models."""


def marks_in(template: str) -> Thoughts | None:
    """The marks of thoughts that a chat template knows; None where it knows none."""
    if _NAMED[1] in template:
        return Thoughts(*_NAMED)
    found = _CLOSING.search(template)
    return Thoughts(found[0].replace("/", "", 1), found[0]) if found else None


def separate(text: str, marks: Thoughts | None = THINK) -> tuple[str, str]:
    """(thought, answer) of a generated text.

    A thought stands at the beginning. Its first mark may be missing, since the generation
    prompt of some models writes it; where the last one is missing, there is no answer. Without
    a thought, or without ``marks``, the text is the answer as it is.
    """
    if marks is None:
        return "", text
    begun = text.lstrip()
    opened = begun.startswith(marks.begin)
    thought, end, answer = begun.partition(marks.end)
    if not end:
        return (begun.removeprefix(marks.begin).strip(), "") if opened else ("", text)
    if not opened and marks.begin in thought:
        return "", text  # spoken of in the midst of an answer
    return thought.removeprefix(marks.begin).strip(), answer.lstrip()
