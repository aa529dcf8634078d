"""Row layouts: how a raw row becomes a prompt and an answer. One class each; see `readers`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from delia_ray import ifeval
from delia_ray.config import Parallel as ParallelText
from delia_ray.config import Turns as Rules
from delia_ray.ingest.languages import language
from delia_ray.ingest.turns import RowError, Turns, chat, check_encodable, split_turns
from delia_ray.records import digest

RawRow = Mapping[str, Any]


@dataclass(frozen=True)
class Options:
    """What of a source's settings layouts follow."""

    turns: Rules = field(default_factory=Rules)
    parallel: ParallelText = field(default_factory=ParallelText)


class Layout(ABC):
    """One way of laying out a row."""

    keys: tuple[str, ...]
    """The names it reads, which are those that ``Source.columns`` may map."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def fits(self, row: RawRow) -> bool:
        """Whether the row's keys look like this layout (for ``format: auto``)."""

    @abstractmethod
    def read(self, row: RawRow) -> Turns:
        """The row as turns and answer; an empty answer counts as none.

        Raises:
            RowError: the row is not of this layout.
        """

    def single(self, prompt: str, answer: str) -> Turns:
        """One question and its answer."""
        return split_turns(
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        )


class Messages(Layout):
    """OpenAI ``messages`` [{role, content}] or ShareGPT ``conversations`` [{from, value}], in
    the spellings of `turns`."""

    keys = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")

    def fits(self, row: RawRow) -> bool:
        return any(_listed(row.get(key)) for key in self.keys) or any(
            row.get(key) is not None for key in self.keys[:2]
        )

    def read(self, row: RawRow) -> Turns:
        turns = next((row[key] for key in self.keys if row.get(key) is not None), None)
        if turns is None:
            raise missing("messages", row)
        messages = chat(turns)
        system = row.get("system")  # ShareGPT keeps it beside the turns
        beside = isinstance(system, str) and bool(system.strip())
        if beside and messages and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": str(system)}, *messages]
        return split_turns(messages, self.options.turns)


def _listed(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] == "[")


class Alpaca(Layout):
    """``instruction``, optional ``input``, optional ``output``; Self-Instruct's ``instances``
    [{input, output}] where there is one."""

    keys = ("instruction", "input", "output", "instances")
    answers = ("output", "response", "answer", "completion")

    def fits(self, row: RawRow) -> bool:
        return row.get("instruction") is not None

    def read(self, row: RawRow) -> Turns:
        instruction = text_of(row, "instruction")
        if isinstance(row.get("instances"), list):
            instances = row["instances"]
            if len(instances) != 1 or not isinstance(instances[0], Mapping):
                raise RowError("not one instance", f"{len(instances)} of them")
            row = instances[0]
        given = text_of(row, "input" if row.get("input") is not None else "context", optional=True)
        prompt = "\n\n".join(part for part in (instruction, given) if part.strip())
        key = next((k for k in self.answers if row.get(k) is not None), "output")
        return self.single(prompt, text_of(row, key, optional=True))


class PromptCompletion(Layout):
    """A query and its answer under the names that data sets use, or the query alone."""

    queries = ("prompt", "question", "query", "user_query", "inputs", "problem", "input")
    answers = (
        "completion", "response", "answer", "chatgpt_response", "chosen", "targets", "target",
        "output", "solution", "reply",
    )  # fmt: skip
    keys = ("prompt", "completion")

    def fits(self, row: RawRow) -> bool:
        return any(row.get(key) is not None for key in self.queries)

    def read(self, row: RawRow) -> Turns:
        query = next((key for key in self.queries if row.get(key) is not None), "prompt")
        answer = next((key for key in self.answers if row.get(key) is not None), "completion")
        if isinstance(row.get(query), list):  # TRL's conversational layout
            said = row.get(answer)
            more = said if isinstance(said, list) else []
            return split_turns(chat([*row[query], *more]), self.options.turns)
        return self.single(text_of(row, query), text_of(row, answer, optional=True))


class Parallel(Layout):
    """A text and its translation: a struct ``translation`` {code: text}, two columns named by
    languages or by ``Source.parallel``, or ``source`` and ``target``."""

    keys = ("source", "target")

    def fits(self, row: RawRow) -> bool:
        return self._pair(row) is not None

    def read(self, row: RawRow) -> Turns:
        pair = self._pair(row)
        if pair is None:
            raise RowError("no two languages", f"keys {shown(row)}")
        (code, text), (other, translation) = pair
        if self.options.parallel.reverse:
            (code, text), (other, translation) = pair[1], pair[0]
        for given in (text, translation):
            if not isinstance(given, str):
                raise RowError("a text of the pair is not text", type(given).__name__)
            check_encodable(given)
        if not translation.strip():
            raise RowError("empty translation")
        if not text.strip():
            raise RowError("empty prompt")
        templates = self.options.parallel.templates
        # Chosen by content, so that it does not depend on the row's place.
        template = templates[int(digest([text, translation]), 16) % len(templates)]
        filled = template.replace("{source}", language(code) or code)
        filled = filled.replace("{target}", language(other) or other)
        return self.single(filled.replace("{text}", text.strip()), translation.strip())

    def _pair(self, row: RawRow) -> tuple[tuple[str, Any], tuple[str, Any]] | None:
        inner = row.get("translation")
        if isinstance(inner, Mapping):
            row = inner
        wanted = self.options.parallel
        names = [name for name in row if language(str(name))]
        first = wanted.source if wanted.source in row else None
        second = wanted.target if wanted.target in row else None
        if first is None and second is None and "source" in row and "target" in row:
            names, first, second = [], "source", "target"
        elif first is None and second is None and {"0", "1"} <= set(row):
            names, first, second = [], "0", "1"  # a table without a header
        elif first is None and second is None and len(names) != 2:
            return None
        rest = [name for name in names if name not in (first, second)]
        first = first or next(iter(rest), None)
        second = second or next((name for name in rest if name != first), None)
        if first is None or second is None:
            return None
        said = (wanted.source or first, wanted.target or second)
        return (said[0], row.get(first)), (said[1], row.get(second))


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
        prompt = text_of(row, "prompt")
        for key in self.keys[1:]:
            if row.get(key) is None:
                raise missing(key, row)
        try:
            return self.single(prompt, ifeval.encode(row["instruction_id_list"], row["kwargs"]))
        except ifeval.ConstraintError as error:
            raise RowError(error.reason, error.detail) from None


def text_of(row: RawRow, key: str, optional: bool = False) -> str:
    """The text under ``key``.

    Raises:
        RowError: there is none, or something else.
    """
    value = row.get(key)
    if value is None:
        if optional:
            return ""
        raise missing(key, row)
    if not isinstance(value, str):
        raise RowError(f"{key} is not text", type(value).__name__)
    return value


def missing(key: str, row: RawRow) -> RowError:
    """The error of a row that lacks ``key``."""
    return RowError(f"no {key}", f"keys {shown(row)}")


def shown(row: RawRow) -> str:
    """The names of what the row holds."""
    names = ", ".join(str(key) for key, value in row.items() if value is not None)
    return names[:120] or "none"
