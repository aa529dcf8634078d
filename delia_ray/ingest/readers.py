"""Row layouts: how a raw row becomes a prompt and an answer. One class and one line each.

To read another layout: write a `Layout`, add it to `LAYOUTS`, and add its name to
``Source.format`` in ``config/data.py``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from delia_ray import ifeval
from delia_ray.records import Message

RawRow = Mapping[str, Any]
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


class Layout(ABC):
    """One way of laying out a row."""

    keys: tuple[str, ...]
    """The names it reads, which are those that ``Source.columns`` may map."""

    @abstractmethod
    def fits(self, row: RawRow) -> bool:
        """Whether the row's keys look like this layout (for ``format: auto``)."""

    @abstractmethod
    def read(self, row: RawRow) -> Turns:
        """The row as turns and answer; an empty answer counts as none.

        Raises:
            RowError: the row is not of this layout.
        """


class Messages(Layout):
    """OpenAI ``messages`` [{role, content}] or ShareGPT ``conversations`` [{from, value}]."""

    keys = ("messages", "conversations")

    def fits(self, row: RawRow) -> bool:
        return any(row.get(key) is not None for key in self.keys)

    def read(self, row: RawRow) -> Turns:
        turns = next((row[key] for key in self.keys if row.get(key) is not None), None)
        if turns is None:
            raise _missing("messages", row)
        if not isinstance(turns, list):
            raise RowError("messages is not a list", type(turns).__name__)
        return split_turns([_message(turn) for turn in turns])


class Alpaca(Layout):
    """``instruction``, optional ``input``, optional ``output``."""

    keys = ("instruction", "input", "output")

    def fits(self, row: RawRow) -> bool:
        return row.get("instruction") is not None

    def read(self, row: RawRow) -> Turns:
        parts = [_text(row, "instruction"), _text(row, "input", optional=True)]
        prompt = "\n\n".join(part for part in parts if part.strip())
        return _single(prompt, _text(row, "output", optional=True))


class PromptCompletion(Layout):
    """``prompt`` and ``completion``, or ``prompt`` alone for queries without an answer."""

    keys = ("prompt", "completion")

    def fits(self, row: RawRow) -> bool:
        return row.get("prompt") is not None

    def read(self, row: RawRow) -> Turns:
        return _single(_text(row, "prompt"), _text(row, "completion", optional=True))


class IfEval(Layout):
    """IFEval's rows (arXiv 2311.07911): ``prompt``, ``instruction_id_list`` and ``kwargs``.

    The answer is the constraints as JSON text, for the metrics ``constraints`` and
    ``constraints_per_instruction``. A row with an instruction that nobody here can check is
    of no use and set aside.
    """

    keys = ("prompt", "instruction_id_list", "kwargs")

    def fits(self, row: RawRow) -> bool:
        return all(row.get(key) is not None for key in self.keys)

    def read(self, row: RawRow) -> Turns:
        prompt = _text(row, "prompt")
        for key in self.keys[1:]:
            if row.get(key) is None:
                raise _missing(key, row)
        try:
            return _single(prompt, ifeval.encode(row["instruction_id_list"], row["kwargs"]))
        except ifeval.ConstraintError as error:
            raise RowError(error.reason, error.detail) from None


LAYOUTS: dict[str, type[Layout]] = {
    "messages": Messages,
    "alpaca": Alpaca,
    "prompt_completion": PromptCompletion,
    "miniature": Messages,
    "ifeval": IfEval,
}
"""Format name -> class; ``auto`` takes the first that fits the row."""

_BY_NAME_ONLY = ("miniature", "ifeval")
"""Not tried by ``auto``: the prompts of IFEval are good queries without their constraints."""


def candidates(format: str, columns: Mapping[str, str]) -> list[Layout]:
    """The layouts that may read a source's rows: all that know the renamed columns.

    Raises:
        LookupError: ``columns`` names something that no layout (or not this one) reads.
    """
    names = [n for n in LAYOUTS if n not in _BY_NAME_ONLY] if format == "auto" else [format]
    fitting = [LAYOUTS[n]() for n in names if set(columns) <= set(LAYOUTS[n].keys)]
    if not fitting:
        known = "; ".join(f"{n}: {', '.join(LAYOUTS[n].keys)}" for n in names)
        raise LookupError(f"no layout reads {', '.join(columns)} together ({known})")
    return fitting


def read_row(row: RawRow, layouts: Sequence[Layout], columns: Mapping[str, str]) -> Turns:
    """One raw row as turns and answer, by the only layout or the first that fits.

    Raises:
        RowError: no layout fits, or the one that does cannot read the row.
    """
    if columns:
        row = rename(row, columns)
    if len(layouts) == 1:
        turns, answer = layouts[0].read(row)
    else:
        layout = next((one for one in layouts if one.fits(row)), None)
        if layout is None:
            raise RowError("no known layout", f"keys {_keys(row)}")
        turns, answer = layout.read(row)
    for text in [turn["content"] for turn in turns] + [answer or ""]:
        if not _encodable(text):
            raise RowError("not valid UTF-8")
    return turns, answer


def rename(row: RawRow, columns: Mapping[str, str]) -> dict[str, Any]:
    """The row with each wanted name taken from its column, ``a.b`` from within ``a``.

    A wanted name whose column is missing is missing itself: another column of that name
    is not what the config asked for.
    """
    renamed = dict(row)
    for wanted, name in columns.items():
        value: Any = row
        for part in [name] if name in row else name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        renamed[wanted] = value
    return renamed


def split_turns(turns: Sequence[Message]) -> Turns:
    """Cut a chat after its last user turn.

    Chat templates refuse turns that do not alternate; such a row is set aside here rather
    than ending a later stage.

    Raises:
        RowError: no user turn, not alternating, or the last user turn is empty.
    """
    roles = [turn["role"] for turn in turns]
    if "user" not in roles:
        raise RowError("no user turn")
    spoken = roles[1:] if roles[0] == "system" else roles
    if any(role != ("user", "assistant")[i % 2] for i, role in enumerate(spoken)):
        raise RowError("user and assistant do not alternate", ", ".join(roles[:8]))
    cut = len(roles) - roles[::-1].index("user")
    if not turns[cut - 1]["content"].strip():
        raise RowError("empty prompt")
    answer = turns[cut]["content"] if cut < len(turns) else ""
    return list(turns[:cut]), answer if answer.strip() else None


_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise RowError("a turn is not an object", type(turn).__name__)
    sharegpt = turn.get("role") is None
    role = turn.get("from" if sharegpt else "role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RowError("unknown role", repr(role)[:40])
    content = turn.get("value" if sharegpt else "content")
    if content is None and _ROLES[role] == "assistant":
        content = ""
    if not isinstance(content, str):
        raise RowError("a turn's content is not text", type(content).__name__)
    return {"role": _ROLES[role], "content": content}


def _single(prompt: str, answer: str) -> Turns:
    return split_turns(
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    )


def _text(row: RawRow, key: str, optional: bool = False) -> str:
    value = row.get(key)
    if value is None:
        if optional:
            return ""
        raise _missing(key, row)
    if not isinstance(value, str):
        raise RowError(f"{key} is not text", type(value).__name__)
    return value


def _missing(key: str, row: RawRow) -> RowError:
    return RowError(f"no {key}", f"keys {_keys(row)}")


def _keys(row: RawRow) -> str:
    names = ", ".join(str(key) for key, value in row.items() if value is not None)
    return names[:120] or "none"


def _encodable(text: str) -> bool:
    """False for lone surrogates: undecodable bytes, or JSON escapes such as \\ud800."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
