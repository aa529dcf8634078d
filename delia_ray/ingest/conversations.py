"""Chats: one list of turns in a row, or one text with marks where turns begin."""

from collections.abc import Mapping
from typing import Any

from delia_ray.ingest.columns import Row
from delia_ray.ingest.layouts import QUERIES, Layout, check_good, missing
from delia_ray.ingest.marks import marked
from delia_ray.ingest.rules import Chat, greeting
from delia_ray.ingest.turns import RowError, Turn, is_turn


class Messages(Layout):
    """OpenAI ``messages`` [{role, content}] or ShareGPT ``conversations`` [{from, value}], in
    the spellings of `turns`; a ``chosen`` answer or conversation of a preference pair."""

    names = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")
    keys = (*names, "system", "history", "chosen")

    def fits(self, row: Row) -> bool:
        return self._column(row) is not None

    def _column(self, row: Row) -> str | None:
        found = next((n for n in row.present(self.names) if _listed(row.peek(n))), None)
        if found is None and is_chat(row.peek("data")):  # UltraChat's
            found = "data"
        if found is None and not row.first(QUERIES) and is_chat(row.peek("chosen")):
            found = "chosen"
        return found or row.first(self.names[:2])

    def read(self, row: Row) -> Chat:
        name = self._column(row)
        if name is None:
            raise missing("messages", row)
        value, spelling = row.use(name, "messages"), self.spelling()
        if name == "messages" and is_texts(value) and len(value) == 1:
            raise RowError("a turn is not an object", "str")
        if name == "turns" and is_texts(value):
            return self.chat(row, first_asked(row, name, value))
        turns = spelling.chat(value)
        if name != "chosen" and row.has("chosen") and turns and turns[-1].role == "user":
            chosen = row.use("chosen", "answer")
            turns += spelling.chat(chosen if isinstance(chosen, list) else [as_turn(chosen)])
        if turns and turns[-1].role == "assistant":
            check_good(row)
        for turn in greeting(turns):
            row.left[f"{row.column(name)} (before the first user turn)"] = turn.content
        row.left |= {f"{row.column(name)}.{key}": v for key, v in spelling.left.items()}
        return self.chat(row, turns)


def as_turn(value: Any) -> Any:
    """An answer that is a text as a turn; anything else as it is."""
    return {"role": "assistant", "content": value} if isinstance(value, str) else value


def first_asked(row: Row, name: str, texts: list[str]) -> list[Turn]:
    """Of a user's turns alone (MT-bench's) the first; the others are about answers that nobody
    has."""
    if len(texts) > 1:
        row.left[f"{row.column(name)} (after the first)"] = texts[1]
    return [Turn("user", texts[0])]


def is_texts(value: Any) -> bool:
    """Whether ``value`` is a list of texts, at least one."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _listed(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(inner, list) for inner in value.values())
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] == "[")


def is_chat(value: Any) -> bool:
    """A list of at least two texts, or of turns."""
    if is_texts(value):
        return len(value) > 1
    return isinstance(value, list) and bool(value) and all(map(is_turn, value))


class Marked(Layout):
    """One text with marks where turns begin, see `marks`."""

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
