"""Row layouts: how a raw row becomes a prompt and an answer. One class each; see `readers`."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from delia_ray import ifeval
from delia_ray.config import Parallel as ParallelText
from delia_ray.config import Turns as Rules
from delia_ray.ingest.choices import Choices
from delia_ray.ingest.columns import Row, is_empty, listed
from delia_ray.ingest.marks import marked
from delia_ray.ingest.rules import Chat, split_turns
from delia_ray.ingest.turns import RowError, Spelling, Turn, exchange, is_turn, plain

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
_VAGUE = ("input", "inputs")
"""Of `QUERIES`, names that columns of numbers have too."""
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
_OTHERS = {query: tuple(name for name in ANSWERS if name != query) for query in QUERIES}
_WHOLE = ("input", "inputs", "prompt")
"""Of `QUERIES`, those beside which an ``input`` repeats what they hold."""
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
                value = row.peek(name)
                spelling = self.spelling()
                before = spelling.chat(value if value != "" else [])
                row.use(name, "history")
        turns = [*before, *turns]
        if system := row.option(SYSTEM, "system"):
            own = turns[0].content if turns and turns[0].role == "system" else ""
            if own.strip() not in ("", system):
                raise RowError("two system turns that differ")
            turns = [Turn("system", system), *(turns[1:] if own else turns)]
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


class Messages(Layout):
    """OpenAI ``messages`` [{role, content}] or ShareGPT ``conversations`` [{from, value}], in
    the spellings of `turns`; a ``chosen`` answer or conversation of a preference pair."""

    names = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")
    keys = (*names, "system", "history", "chosen")

    def fits(self, row: Row) -> bool:
        return self._column(row) is not None

    def _column(self, row: Row) -> str | None:
        found = next((n for n in row.present(self.names) if _listed(row.peek(n))), None)
        if found is None and _chats(row.peek("data")):  # UltraChat's
            found = "data"
        if found is None and not row.first(QUERIES) and _chats(row.peek("chosen")):
            found = "chosen"
        return found or row.first(self.names[:2])

    def read(self, row: Row) -> Chat:
        name = self._column(row)
        if name is None:
            raise missing("messages", row)
        value, spelling = row.use(name, "messages"), self.spelling()
        if name == "messages" and isinstance(value, list) and len(value) == 1 and _texts(value):
            raise RowError("a turn is not an object", "str")
        if name == "turns" and isinstance(value, list) and value and _texts(value):
            # MT-bench's: the user's turns alone, the later ones about answers nobody has.
            if len(value) > 1:
                row.left[f"{row.column(name)} (after the first)"] = value[1]
            return self.chat(row, [Turn("user", value[0])])
        turns = spelling.chat(value)
        if name != "chosen" and row.has("chosen") and turns and turns[-1].role == "user":
            chosen = row.use("chosen", "answer")
            turns += spelling.chat(chosen if isinstance(chosen, list) else [_said(chosen)])
        if turns and turns[-1].role == "assistant":
            check_good(row)
        if turns and turns[0].role == "assistant":
            row.left[f"{row.column(name)} (before the first user turn)"] = turns[0].content
        row.left |= {f"{row.column(name)}.{key}": v for key, v in spelling.left.items()}
        return self.chat(row, turns)


def _said(value: Any) -> Any:
    return {"role": "assistant", "content": value} if isinstance(value, str) else value


def _texts(value: list[Any]) -> bool:
    return all(isinstance(one, str) for one in value)


def _listed(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(inner, list) for inner in value.values())
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] == "[")


def _chats(value: Any) -> bool:
    """A list of at least two texts, or of turns."""
    if not isinstance(value, list) or not value:
        return False
    return (len(value) > 1 and _texts(value)) or all(is_turn(one) for one in value)


class Alpaca(Layout):
    """``instruction``, optional ``input``, optional ``output``; Self-Instruct's ``instances``
    [{input, output}] where there is one; ``system`` and ``history`` (LLaMA-Factory's)."""

    given = ("input", *CONTEXT, "question", "query")
    keys = (
        "instruction",
        "input",
        "output",
        "instances",
        "system",
        "history",
        "context",
        "question",
        "choices",
        "label",
    )
    answers = ("output", "response", "answer", "completion", "chosen", "answers")

    def fits(self, row: Row) -> bool:
        return row.has("instruction")

    def read(self, row: Row) -> Chat:
        if not row.has("instruction"):
            raise missing("instruction", row)
        parts = [row.query("instruction")]
        if isinstance(row.peek("instances"), list):
            instances = row.use("instances", "prompt and answer")
            if len(instances) != 1 or not isinstance(instances[0], Mapping):
                raise RowError("not one instance", f"{len(instances)} of them")
            row.values = {**row.values, **instances[0]}
            row.__post_init__()
        parts += row.options(self.given, "prompt")
        name = row.first(self.answers)
        choices = Choices.of(row)
        answer = self.answer_of(row, name)
        if choices:
            answer = choices.answer(row, name, answer)
            parts.append(choices.text(answer))
        prompt = "\n\n".join(part for part in parts if part.strip())
        return self.chat(row, exchange([prompt, answer]))


class PromptCompletion(Layout):
    """A query and its answer under the names that data sets use, or the query alone."""

    keys = ("prompt", "completion", "system", "history", "context", "choices", "label")

    def fits(self, row: Row) -> bool:
        name = row.first(QUERIES)
        if name is None:
            return False
        value, facts = row.peek(name), row.evidence.get(name)
        if isinstance(value, list):
            return True
        # A table of measurements has an input and an output too.
        return name not in _VAGUE or facts is None or not facts.is_number or _sum(value)

    def advice(self, row: Row) -> str:
        name = row.first(QUERIES)
        if name not in _VAGUE:
            return ""
        return f"the column {row.column(name)} holds numbers; if they are the query, map it: " + (
            f"columns: {{prompt: {row.column(name)}}}"
        )

    def read(self, row: Row) -> Chat:
        query = row.first(QUERIES)
        if query is None:
            raise missing("prompt", row)
        name = row.first(_OTHERS.get(query, ANSWERS))
        said = row.peek(name) if name else None
        if isinstance(row.peek(query), list) or _chats(said) or is_turn(said):
            return self._conversation(row, query, name)
        given = CONTEXT if query in _WHOLE else ("input", *CONTEXT)
        answer = self._worked(row, query) or self.answer_of(row, name)
        parts = [row.query(query), *row.options(given, "prompt")]
        if choices := Choices.of(row):
            answer = choices.answer(row, name, answer)
            parts.append(choices.text(answer))
        prompt = "\n\n".join(part for part in parts if part.strip())
        return self.chat(row, exchange([prompt, answer]))

    def _worked(self, row: Row, query: str) -> str:
        """A problem's solution and its result, where they stand in columns of their own."""
        if not row.has("solution") or not row.has("answer") or query == "solution":
            return ""
        solution, result = row.text("solution", "answer"), row.text("answer", "answer")
        if not solution.strip() or result.strip() in solution:
            return solution or result
        return f"{solution.rstrip()}\n\n{result}"

    def _conversation(self, row: Row, query: str, name: str | None) -> Chat:
        """TRL's conversational layout; a text beside a chosen conversation repeats its query."""
        spelling = self.spelling()
        asked, said = row.peek(query), row.use(name, "answer") if name else None
        if name:
            check_good(row)
        answer = spelling.chat(said) if isinstance(said, list) else []
        if isinstance(said, (str, Mapping)):
            answer = spelling.chat([_said(said)])
        if answer and answer[0].role != "assistant":  # the whole conversation
            if isinstance(asked, list) or any(t.content.strip() == asked.strip() for t in answer):
                row.use(query, "prompt")
            turns = answer
        elif isinstance(asked, list):
            turns = [*spelling.chat(row.use(query, "prompt")), *answer]
        else:
            turns = [Turn("user", row.query(query)), *answer]
        row.left |= {f"{row.column(query)}.{key}": v for key, v in spelling.left.items()}
        return self.chat(row, turns)


def _sum(value: Any) -> bool:
    return isinstance(value, str) and re.search(r"[=+*/?]", value) is not None


class Marked(Layout):
    """One text with marks where turns begin, see `marks`."""

    names = ("text", "chosen", "content", "prompt")
    keys = ("text",)

    def fits(self, row: Row) -> bool:
        value = row.peek("text") if row.has("text") else row.peek("chosen")
        return isinstance(value, str) and marked(value) is not None

    def guess(self, row: Row) -> str:
        found = marked(str(row.peek("text") or row.peek("chosen")))
        return f"turns told by {found[0]}" if found else ""

    def advice(self, row: Row) -> str:
        if not isinstance(row.peek("text"), str):
            return ""
        return (
            "text has no turn marks that alternate (### Human:, [INST], ChatML ...); to take it "
            "as the query set columns: {prompt: text}"
        )

    def read(self, row: Row) -> Chat:
        name = row.first(("text", "chosen"))
        if name is None:
            raise missing("text", row)
        found = marked(row.text(name, "messages"))
        if found is None:
            raise RowError("no turn marks that alternate", "see format")
        return self.chat(row, found[1])


class Templated(Layout):
    """The prompt by ``Source.template``, the answer in a column."""

    keys = ("completion", "system", "history", "label")

    def fits(self, row: Row) -> bool:
        return True

    def read(self, row: Row) -> Chat:
        template = self.options.template or ""
        texts = {name: listed(row, name.lower(), "prompt") for name in _names(template)}
        if absent := [name for name, text in texts.items() if not text.strip()]:
            raise RowError(f"no {absent[0]}", f"columns {row.shown()}")
        prompt = re.sub(r"\{([^{}]+)\}", lambda found: texts[found[1]], template)
        name = row.first(tuple(n for n in ANSWERS if row.column(n) not in row.used))
        return self.chat(row, exchange([prompt, self.answer_of(row, name)]))


def _names(template: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\{([^{}]+)\}", template)))


class IfEval(Layout):
    """IFEval's rows (arXiv 2311.07911): ``prompt``, ``instruction_id_list`` and ``kwargs``.

    The answer is the constraints as JSON text, for the metrics ``constraints`` and
    ``constraints_per_instruction``. A row with an instruction that nobody here can check is
    of no use and set aside.
    """

    keys = ("prompt", "instruction_id_list", "kwargs")

    def fits(self, row: Row) -> bool:
        return all(row.has(key) for key in self.keys)

    def read(self, row: Row) -> Chat:
        for key in self.keys:
            if not row.has(key):
                raise missing(key, row)
        prompt = row.text("prompt", "prompt")
        ids, kwargs = row.use(self.keys[1], "answer"), row.use(self.keys[2], "answer")
        try:
            return split_turns(exchange([prompt, ifeval.encode(ids, kwargs)]))
        except ifeval.ConstraintError as error:
            raise RowError(error.reason, error.detail) from None


def missing(key: str, row: Row) -> RowError:
    """The error of a row that lacks ``key``."""
    return RowError(f"no {key}", f"keys {row.shown()}")


__all__ = [
    "Alpaca",
    "IfEval",
    "Layout",
    "Marked",
    "Messages",
    "Options",
    "PromptCompletion",
    "RawRow",
    "Templated",
    "missing",
    "plain",
]
