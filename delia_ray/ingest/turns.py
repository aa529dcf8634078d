"""Turns of a chat in the spellings that people use, from a list of any of them."""

import datetime
import decimal
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from delia_ray.records import Message

CALLS = "calls a tool"
THINKS = "an answer with its reasoning apart"
MEDIA = {"image": "has images", "audio": "has audio", "video": "has video", "file": "has files"}
"""What a part of a turn, or a column, begins with -> why its row is set aside."""


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


def plain(value: Any) -> str | None:
    """A text, or a number, date or truth value as text; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, decimal.Decimal, datetime.date, datetime.time)):
        return str(value)
    return None


class Turn(NamedTuple):
    """One turn of a chat."""

    role: str
    content: str
    supervised: bool = True
    """False where the file says that nothing is to be learned from it."""

    def message(self) -> Message:
        return {"role": self.role, "content": self.content}


_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "ai": "assistant",
    "chatbot": "assistant",
}
_TOOLS = frozenset(
    {
        "tool",
        "tools",
        "function",
        "function_call",
        "function-call",
        "function_response",
        "function-response",
        "tool_call",
        "tool_response",
        "tool_result",
        "observation",
        "ipython",
    }
)
_WHO = ("role", "from", "speaker", "author")
_WHAT = ("content", "value", "text", "message")
_WEIGHT = ("weight", "train", "loss")
_CALLED = ("tool_calls", "function_call")
_REASONING = ("reasoning_content", "reasoning", "thinking", "thought")
_READ = frozenset((*_WHO, *_WHAT, *_WEIGHT, *_CALLED, *_REASONING))
_ASKED = ("user", "human", "input", "prompt", "question", "query", "instruction")
_ANSWERED = ("assistant", "gpt", "bot", "output", "response", "answer", "completion")


@dataclass
class Spelling:
    """Reads turns, and keeps what in them no record holds."""

    reasoning: str = "keep"
    """``keep``: between ``marks``; ``drop``; ``set_aside``."""
    marks: tuple[str, str] | None = None
    """What the model's template writes before and after reasoning; None: it knows none."""
    left: dict[str, Any] = field(default_factory=dict)
    """Parts of turns that were not used, by name, with an example."""

    def chat(self, value: Any) -> list[Turn]:
        """``value`` as turns: a list of them in any of the known spellings, that list as JSON
        text (a cell of a table holds nothing else), or an object of lists of equal length
        (what ``datasets`` makes of a list of objects).

        Raises:
            RowError: it is none.
        """
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise RowError("messages is not a list", "text that is not valid JSON") from None
        if isinstance(value, Mapping):
            value = _zipped(value)
        if not isinstance(value, list):
            raise RowError("messages is not a list", type(value).__name__)
        if value and all(isinstance(turn, str) for turn in value):
            return [Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(value)]
        turns: list[Turn] = []
        for turn in value:
            turns += self._turns(turn)
        return turns

    def _turns(self, turn: Any) -> list[Turn]:
        if isinstance(turn, list) and len(turn) == 2:
            return exchange(turn)
        if not isinstance(turn, Mapping):
            raise RowError("a turn is not an object", type(turn).__name__)
        if any(turn.get(key) is not None for key in _WHO):
            return [self._turn(turn)]
        if pair := _pair(turn):
            return pair
        raise RowError("unknown role", f"keys {', '.join(map(str, turn))}"[:80])

    def _turn(self, turn: Mapping[str, Any]) -> Turn:
        said = next(turn[key] for key in _WHO if turn.get(key) is not None)
        name = said.strip().lower() if isinstance(said, str) else ""
        if name in _TOOLS or any(turn.get(key) for key in _CALLED):
            raise RowError(CALLS)
        role = _ROLES.get(name)
        if role is None:
            raise RowError("unknown role", repr(said)[:40])
        content = next((turn[key] for key in _WHAT if turn.get(key) is not None), None)
        if isinstance(content, list):
            content = joined(content)
        if content is None and role == "assistant":
            content = ""
        if not isinstance(content, str):
            raise RowError("a turn's content is not text", type(content).__name__)
        if role == "assistant":
            content = self._thought(turn, content)
        for key in turn.keys() - _READ:
            if turn[key] not in (None, "", [], {}):
                self.left.setdefault(str(key), turn[key])
        return Turn(role, content, role != "assistant" or _counts(turn))

    def _thought(self, turn: Mapping[str, Any], text: str) -> str:
        apart = next((turn[k] for k in _REASONING if turn.get(k) not in (None, "")), None)
        if apart is not None:
            return self.with_reasoning(text, apart)
        if self.reasoning == "keep" or not (found := _INLINE.match(text)):
            return text
        return self.with_reasoning(text[found.end() :], found["thought"])

    def with_reasoning(self, text: str, thought: Any) -> str:
        """An answer whose reasoning stands apart, by the rule for that.

        Raises:
            RowError: it is set aside.
        """
        if self.reasoning == "drop":
            self.left.setdefault("reasoning", thought)
            return text
        if self.reasoning != "keep" or self.marks is None or not isinstance(thought, str):
            raise RowError(THINKS, "see turns.reasoning")
        return f"{self.marks[0]}{thought.strip()}{self.marks[1]}{text}"


_INLINE = re.compile(r"\s*<think>(?P<thought>[^<]*(?:<(?!/think>)[^<]*)*)</think>\s*")


def exchange(pair: Sequence[Any]) -> list[Turn]:
    """A question and its answer.

    Raises:
        RowError: one of them is no text.
    """
    texts = ["" if part is None else part for part in pair]
    if not all(isinstance(text, str) for text in texts):
        raise RowError("a turn's content is not text", "in a pair")
    return [Turn("user", texts[0]), Turn("assistant", texts[1])]


def _pair(turn: Mapping[str, Any]) -> list[Turn]:
    """The turns of an object that holds a question and its answer, or one turn under the name
    of its role; none where it holds something else."""
    found: list[Turn] = []
    for role, names in (("system", ("system",)), ("user", _ASKED), ("assistant", _ANSWERED)):
        text = next((turn[name] for name in names if turn.get(name) is not None), None)
        if isinstance(text, str):
            found.append(Turn(role, text))
    return found if any(turn.role != "system" for turn in found) or len(turn) == 1 else []


def _zipped(value: Mapping[str, Any]) -> Any:
    """An object of equally long lists as a list of objects; anything else as it is."""
    columns = [one for one in value.values() if isinstance(one, list)]
    known = any(key in value for key in (*_WHO, *_WHAT))
    if not known or len(columns) != len(value) or len({len(one) for one in columns}) != 1:
        return value
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def is_turn(value: Any) -> bool:
    """Whether ``value`` is an object that says who said what."""
    if not isinstance(value, Mapping):
        return False
    return any(k in value for k in _WHO) and any(k in value for k in (*_WHAT, *_CALLED))


def _counts(turn: Mapping[str, Any]) -> bool:
    given = next((turn[key] for key in _WEIGHT if turn.get(key) is not None), True)
    return given not in (0, "0", "false", "False")


def joined(parts: Sequence[Any]) -> str:
    """Content in parts, where all are text.

    Raises:
        RowError: they are pictures, calls or nothing known.
    """
    texts = []
    for part in parts:
        if not isinstance(part, Mapping):
            raise RowError("a turn's content is not text", "list")
        kind = str(part.get("type") or "text").lower().removeprefix("input_")
        for begin, reason in MEDIA.items():
            if kind.startswith(begin):
                raise RowError(reason)
        if kind.startswith("tool"):
            raise RowError(CALLS)
        text = next(
            (part[k] for k in ("text", "value", "content") if part.get(k) is not None), None
        )
        if not isinstance(text, str):
            raise RowError("a turn's content is not text", "a part that is no text")
        texts.append(text)
    if not texts:
        raise RowError("a turn's content is not text", "list")
    return "".join(texts)
