"""Row layouts: how a raw row becomes a prompt and an answer. One class each; see `readers`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from delia_ray.config import Parallel as ParallelText
from delia_ray.config import Turns as Rules
from delia_ray.ingest.columns import Row, is_empty
from delia_ray.ingest.rules import Chat, split_turns
from delia_ray.ingest.turns import RowError, Spelling, Turn

RawRow = Mapping[str, Any]

SYSTEM = ("system", "system_prompt", "system_message")
HISTORY = ("history",)
CONTEXT = ("context", "contexts", "passage", "article", "document", "paragraph", "background")
QUERIES = (
    "prompt",
    "question",
    "query",
    "user_query",
    "inputs",
    "problem",
    "input",
    "user",
    "human",
)
ANSWERS = (
    "completion",
    "response",
    "answer",
    "chatgpt_response",
    "chosen",
    "targets",
    "target",
    "output",
    "solution",
    "reply",
    "assistant",
    "gpt",
    "bot",
    "answers",
    "answerkey",
    "answer_key",
)
_GOOD = ("label", "kto_tag")
"""Columns that may say whether the answer is a good one (TRL's, LLaMA-Factory's KTO)."""
_REASONING = ("reasoning_content", "reasoning", "thinking")
_BAD = ("false", "0")


@dataclass(frozen=True)
class Options:
    """What of a source's settings layouts follow."""

    turns: Rules = field(default_factory=Rules)
    parallel: ParallelText = field(default_factory=ParallelText)
    template: str | None = None
    """The prompt with ``{column}`` for the columns' texts."""
    reasoning: tuple[str, str] | None = None
    """What the model's chat template writes before and after an answer's reasoning."""


class Layout(ABC):
    """One way of laying out a row."""

    keys: ClassVar[tuple[str, ...]]
    """The names it reads, which are those that ``Source.columns`` may map."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def fits(self, row: Row) -> bool:
        """Whether the row looks like this layout (for ``format: auto``)."""

    @abstractmethod
    def read(self, row: Row) -> Chat:
        """The row as turns and answer; an empty answer counts as none.

        Raises:
            RowError: the row is not of this layout.
        """

    def guess(self, row: Row) -> str:
        """What was concluded from values where the row is read so, in words."""
        return ""

    def advice(self, row: Row) -> str:
        """Why a row that nearly looks like this layout is not read so, and which setting
        changes that; "" where it is far from it."""
        return ""

    def chat(self, row: Row, turns: list[Turn]) -> Chat:
        """``turns`` with the row's system turn and history before them, cut by the rules.

        Raises:
            RowError: see `split_turns`; or there are two system turns that differ.
        """
        before: list[Turn] = []
        for name in row.present(HISTORY):
            if row.has(name):
                value = row.use(name, "history")
                try:
                    before = [] if is_empty(value) else self.spelling().chat(value)
                except RowError as error:
                    raise RowError("history cannot be read", str(error)) from None
        turns = [*before, *turns]
        if system := row.option(SYSTEM, "system"):
            own = turns[0].content if turns and turns[0].role == "system" else ""
            if own.strip() not in ("", system):
                raise RowError("two system turns that differ")
            begun = bool(turns) and turns[0].role == "system"
            turns = [Turn("system", system), *(turns[1:] if begun else turns)]
        return split_turns(turns, self.options.turns)

    def spelling(self) -> Spelling:
        return Spelling(self.options.turns.reasoning, self.options.reasoning)

    def answer_of(self, row: Row, name: str | None) -> str:
        """The text of the answer under ``name``; of several, the first; with its reasoning
        where a column holds that.

        Raises:
            RowError: it is marked as a bad one, or something else is there.
        """
        if name is None:
            return ""
        check_good(row)
        value = row.peek(name)
        several = value.get("text", value.get("value")) if isinstance(value, Mapping) else value
        if isinstance(several, list) and all(isinstance(one, str) for one in several):
            row.use(name, "answer")
            if len(several) > 1:
                row.left[f"{row.column(name)} (others than the first)"] = several[1]
            return several[0] if several else ""
        if isinstance(value, Mapping) and isinstance(several, str):
            row.use(name, "answer")
            return several
        text = row.text(name, "answer")
        if text and (thought := row.first(_REASONING)) and not is_empty(row.peek(thought)):
            spelling = self.spelling()
            text = spelling.with_reasoning(text, row.peek(thought))
            if not spelling.left:
                row.use(thought, "reasoning")
        return text


def check_good(row: Row) -> None:
    """
    Raises:
        RowError: the row says that its answer is a bad one.
    """
    for name in row.present(_GOOD):
        value = row.peek(name)
        if isinstance(value, bool) or (isinstance(value, str) and value.lower() in _BAD[:1]):
            row.use(name, "label")
            if str(value).lower() in _BAD:
                raise RowError("an answer marked as bad", f"{name}: {value}")


def missing(key: str, row: Row) -> RowError:
    """The error of a row that lacks ``key``."""
    return RowError(f"no {key}", f"keys {row.shown()}")
