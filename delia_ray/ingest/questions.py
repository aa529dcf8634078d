"""Questions with their answers, in columns of their own."""

import re
from collections.abc import Mapping
from typing import Any

from delia_ray import ifeval
from delia_ray.ingest.choices import Choices
from delia_ray.ingest.columns import Row, listed
from delia_ray.ingest.conversations import as_turn, first_asked, is_chat, is_texts
from delia_ray.ingest.layouts import ANSWERS, CONTEXT, QUERIES, Layout, check_good, missing
from delia_ray.ingest.rules import Chat, split_turns
from delia_ray.ingest.turns import RowError, Turn, exchange, is_turn

_VAGUE = ("input", "inputs")
"""Of `QUERIES`, names that columns of numbers have too."""
_OTHERS = {query: tuple(name for name in ANSWERS if name != query) for query in QUERIES}
_WHOLE = ("input", "inputs", "prompt")
"""Of `QUERIES`, those beside which an ``input`` repeats what they hold."""


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
    answers = ("output", *ANSWERS)

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
        if isinstance(row.peek(query), list) or is_chat(said) or is_turn(said):
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
            answer = spelling.chat([as_turn(said)])
        if answer and answer[0].role != "assistant":  # the whole conversation
            if isinstance(asked, list) or any(t.content.strip() == asked.strip() for t in answer):
                row.use(query, "prompt")
            turns = answer
        elif is_texts(asked):
            turns = [*first_asked(row, query, row.use(query, "prompt")), *answer]
        elif isinstance(asked, list):
            turns = [*spelling.chat(row.use(query, "prompt")), *answer]
        else:
            turns = [Turn("user", row.query(query)), *answer]
        row.left |= {f"{row.column(query)}.{key}": v for key, v in spelling.left.items()}
        return self.chat(row, turns)


def _sum(value: Any) -> bool:
    return isinstance(value, str) and re.search(r"[=+*/?]", value) is not None


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
