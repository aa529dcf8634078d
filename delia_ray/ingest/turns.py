"""Turns of a chat: what a turn may look like, and the rules by which a chat is cut or set aside."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from delia_ray.config import Turns as Rules
from delia_ray.records import Message

Turns = tuple[list[Message], str | None]
"""The turns up to and including the last user turn; the assistant turn after it, if any."""


class RowError(ValueError):
    """Why a row cannot become a record.

    ``reason`` is the same for every row with this fault, so that counts group; ``detail``
    is about this row.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def check_encodable(text: str) -> None:
    """
    Raises:
        RowError: lone surrogates: undecodable bytes, or escapes such as \\ud800.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError("not valid UTF-8") from None


_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bot": "assistant", "bard": "assistant", "bing": "assistant", "ai": "assistant",
}  # fmt: skip
_WHO = ("role", "from", "speaker", "author")
_WHAT = ("content", "value", "text", "message")


def chat(value: Any) -> list[Message]:
    """``value``, a list of turns in any of the known spellings, or that list as JSON text (a
    cell of a table holds nothing else), as messages.

    Raises:
        RowError: it is none.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowError("messages is not a list", "text that is not valid JSON") from None
    if not isinstance(value, list):
        raise RowError("messages is not a list", type(value).__name__)
    return [_message(turn) for turn in value]


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise RowError("a turn is not an object", type(turn).__name__)
    said = next((turn[key] for key in _WHO if turn.get(key) is not None), None)
    role = _ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        raise RowError("unknown role", repr(said)[:40])
    content = next((turn[key] for key in _WHAT if turn.get(key) is not None), None)
    if isinstance(content, list):
        content = _joined(content)
    if content is None and role == "assistant":
        if turn.get("tool_calls") or turn.get("function_call"):
            raise RowError("unknown role", "a call of a tool")
        content = ""
    if not isinstance(content, str):
        raise RowError("a turn's content is not text", type(content).__name__)
    return {"role": role, "content": content}


def _joined(parts: Sequence[Any]) -> str:
    """OpenAI's content in parts, where all are text."""
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    if len(texts) < len(parts) or not texts:
        raise RowError("a turn's content is not text", "list")
    if any(not isinstance(text, str) for text in texts):
        raise RowError("a turn's content is not text", "a part that is no text")
    return "".join(map(str, texts))


def split_turns(turns: Sequence[Message], rules: Rules | None = None) -> Turns:
    """Cut a chat after its last user turn (or its first, see ``rules``).

    Chat templates refuse turns that do not alternate; such a row is set aside here rather
    than ending a later stage.

    Raises:
        RowError: no user turn, not alternating, the last user turn is empty, or ``rules`` set
            such chats aside.
    """
    roles = [turn["role"] for turn in turns]
    if "user" not in roles:
        raise RowError("no user turn")
    spoken = roles[1:] if roles[0] == "system" else roles
    if any(role != ("user", "assistant")[i % 2] for i, role in enumerate(spoken)):
        raise RowError("user and assistant do not alternate", ", ".join(roles[:8]))
    if rules is not None:
        turns = _by_rule(list(turns), rules)
        roles = [turn["role"] for turn in turns]
    cut = len(roles) - roles[::-1].index("user")
    if not turns[cut - 1]["content"].strip():
        raise RowError("empty prompt")
    answer = turns[cut]["content"] if cut < len(turns) else ""
    return list(turns[:cut]), answer if answer.strip() else None


def _by_rule(turns: list[Message], rules: Rules) -> list[Message]:
    if turns[0]["role"] == "system":
        if rules.system == "set_aside":
            raise RowError("a system turn")
        if rules.system == "drop":
            turns = turns[1:]
    start = 1 if turns[0]["role"] == "system" else 0
    if len(turns) - start > 2:
        if rules.several == "set_aside":
            raise RowError("several turns")
        if rules.several == "first":
            turns = turns[: start + 2]
    last = max(i for i, turn in enumerate(turns) if turn["role"] == "user")
    if rules.empty == "set_aside" and any(not turn["content"].strip() for turn in turns[:last]):
        raise RowError("an empty turn")
    return turns
