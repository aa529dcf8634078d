"""What the model is asked; pure functions from records to chats."""

import re
from collections.abc import Sequence

from delia_ray.records import Message

_LAST_PARAGRAPH = re.compile(r"\A(?P<content>.*\n[ \t]*\n\s*)(?P<instruction>\S.*)\Z", re.DOTALL)


def self_sample(prompt: Sequence[Message], reference: str | None) -> list[Message]:
    """The chat whose next turn is the model's own answer to ``prompt``.

    With a reference: the query, the reference as the assistant's turn, the same query
    again, so that the model answers in its own voice and yet knows better (the paper's
    public code, ``reproduce_checkpoint``). Without one: the query alone.
    """
    if not reference:
        return list(prompt)
    return [*prompt, {"role": "assistant", "content": reference}, prompt[-1]]


def split_instruction(text: str, part: str) -> tuple[str, str]:
    """(content, instruction) of a user turn; their concatenation is ``text``.

    ``part`` is ``all`` (everything is instruction) or ``last_paragraph`` (what follows the
    last blank line; everything where there is none).
    """
    found = _LAST_PARAGRAPH.match(text) if part == "last_paragraph" else None
    return (found["content"], found["instruction"]) if found else ("", text)


def reword(template: str, instruction: str, register: str = "") -> list[Message]:
    """The chat that asks for ``instruction`` in other words, spoken in ``register``."""
    # The request last: what it says is text, even where it looks like a slot.
    text = template.replace("{register}", register).replace("{request}", instruction.strip())
    return [{"role": "user", "content": text}]


def with_instruction(
    prompt: Sequence[Message], part: str, instruction: str, placement: str = "after"
) -> list[Message]:
    """``prompt`` with the instruction of its last turn replaced; all else stays as it is.

    ``placement`` is ``after`` the content, where it stood, or ``before`` it; without content
    both are the same.
    """
    content, _ = split_instruction(prompt[-1]["content"], part)
    text = content + instruction
    if placement == "before" and content.strip():
        text = f"{instruction}\n\n{content.strip()}"
    return [*prompt[:-1], {"role": prompt[-1]["role"], "content": text}]
