"""What the model is asked; pure functions from records to chats."""

from collections.abc import Sequence

from delia_ray.records import Message
from delia_ray.request_rules import same_subject
from delia_ray.rewording import goodness, put_back, reword, split_instruction, with_instruction

__all__ = [
    "goodness",
    "put_back",
    "reword",
    "same_subject",
    "self_sample",
    "split_instruction",
    "with_instruction",
]


def self_sample(prompt: Sequence[Message], reference: str | None) -> list[Message]:
    """The chat whose next turn is the model's own answer to ``prompt``.

    With a reference: the query, the reference as the assistant's turn, the same query
    again, so that the model answers in its own voice and yet knows better (the paper's
    public code, ``reproduce_checkpoint``). Without one: the query alone.
    """
    if not reference:
        return list(prompt)
    return [*prompt, {"role": "assistant", "content": reference}, prompt[-1]]
