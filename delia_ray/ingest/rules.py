"""The rules by which a chat is cut into a prompt and its answer, or set aside."""

from collections.abc import Sequence
from typing import NamedTuple

from delia_ray.config import Turns as Rules
from delia_ray.ingest.turns import RowError, Turn
from delia_ray.records import Message


class Chat(NamedTuple):
    """One record's chat."""

    prompt: list[Message]
    """The turns up to and including the last user turn."""
    answer: str | None
    """The assistant's turn after it, if any."""
    unsupervised: tuple[int, ...] = ()
    """Places of the assistant's turns in ``prompt`` that are never to be learned from."""


def split_turns(turns: Sequence[Turn], rules: Rules | None = None) -> Chat:
    """Cut a chat after its last user turn (or its first, see ``rules``).

    What the assistant says before the first user turn is no answer and left away. An answer that
    is not to be learned from is none: the chat ends with the last one that is, if there is one.
    Chat templates refuse turns that do not alternate; such a row is set aside here rather
    than ending a later stage.

    Raises:
        RowError: no user turn, not alternating, the last user turn is empty, or ``rules`` set
            such chats aside.
    """
    if greeting(turns):
        first = [turn.role for turn in turns].index("user")
        turns = [*(t for t in turns[:first] if t.role == "system"), *turns[first:]]
    roles = [turn.role for turn in turns]
    if "user" not in roles:
        raise RowError("no user turn")
    spoken = roles[1:] if roles[0] == "system" else roles
    if any(role != ("user", "assistant")[i % 2] for i, role in enumerate(spoken)):
        raise RowError("user and assistant do not alternate", ", ".join(roles[:8]))
    if rules is not None:
        turns = _by_rule(list(turns), rules)
    cut, answer = _cut(turns)
    if not turns[cut - 1].content.strip():
        raise RowError("empty prompt")
    unsupervised = tuple(i for i, turn in enumerate(turns[:cut]) if not turn.supervised)
    prompt = [turn.message() for turn in turns[:cut]]
    return Chat(prompt, answer if answer.strip() else None, unsupervised)


def greeting(turns: Sequence[Turn]) -> list[Turn]:
    """What the assistant says before the first user turn; none where no user speaks."""
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), 0)
    return [turn for turn in turns[:first] if turn.role == "assistant"]


def _cut(turns: Sequence[Turn]) -> tuple[int, str]:
    """Length of the prompt, and the answer or ""."""
    roles = [turn.role for turn in turns]
    last = len(roles) - roles[::-1].index("user")
    if last == len(turns) or turns[last].supervised:
        return last, turns[last].content if last < len(turns) else ""
    learned = [i for i, t in enumerate(turns) if t.role == "assistant" and t.supervised]
    return (learned[-1], turns[learned[-1]].content) if learned else (last, "")


def _by_rule(turns: list[Turn], rules: Rules) -> list[Turn]:
    if turns[0].role == "system":
        if rules.system == "set_aside":
            raise RowError("a system turn")
        if rules.system == "drop":
            turns = turns[1:]
    start = 1 if turns[0].role == "system" else 0
    if len(turns) - start > 2:
        if rules.several == "set_aside":
            raise RowError("several turns")
        if rules.several == "first":
            turns = turns[: start + 2]
    last = max(i for i, turn in enumerate(turns) if turn.role == "user")
    if rules.empty == "set_aside" and any(not turn.content.strip() for turn in turns[:last]):
        raise RowError("an empty turn")
    return turns
