"""The options of a multiple-choice question: part of its prompt, and what names the right one."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from delia_ray.ingest.columns import Row, is_empty
from delia_ray.ingest.turns import RowError, plain

_NAMES = ("options", "choices", "answer_choices")
_LETTERS = "ABCDEFGHIJ"
_COLUMNS = ("{}", "option_{}", "option{}", "choice_{}")
"""Columns for one option each, by its letter in lower case."""
_OF_ONE = tuple(
    tuple(pattern.format(letter) for letter in _LETTERS.lower()) for pattern in _COLUMNS
)
_MARK = re.compile(r"\(?(?P<label>[A-Za-z]|\d{1,2})[).:]\s*\S")


@dataclass(frozen=True)
class Choices:
    """Options and what they are called."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    marked: bool = False
    """Whether the texts begin with their labels."""

    @classmethod
    def of(cls, row: Row) -> "Choices | None":
        """The options of ``row``, if it has any.

        Raises:
            RowError: they are of no known form.
        """
        for name in row.present(_NAMES):
            if row.has(name) and not is_empty(row.peek(name)):
                return cls._from(row.use(name, "prompt"), name)
        for names in _OF_ONE:
            own = tuple(name for name in row.present(names) if row.has(name))
            if len(own) > 1 and own == names[: len(own)]:
                return cls._listed([row.text(name, "prompt").strip() for name in own])
        return None

    @classmethod
    def _from(cls, value: Any, name: str) -> "Choices":
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise RowError(f"{name} is not a list", "text that is not valid JSON") from None
        if isinstance(value, str):
            return cls((value.strip(),), ("",), True)
        if isinstance(value, Mapping):
            if isinstance(value.get("text"), list):
                return cls._listed(value["text"], value.get("label"), name)
            return cls._listed(list(value.values()), [str(key) for key in value], name)
        if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            texts = [one.get("text") for one in value]
            return cls._listed(texts, [one.get("label", one.get("id")) for one in value], name)
        return cls._listed(value, None, name)

    @classmethod
    def _listed(cls, value: Any, labels: Any = None, name: str = "options") -> "Choices":
        if not isinstance(value, list):
            raise RowError(f"{name} is not a list", type(value).__name__)
        texts = [plain(one) for one in value]
        if any(text is None for text in texts):
            raise RowError(f"{name} is not a list of texts")
        own = tuple(str(text).strip() for text in texts)
        marks = [_MARK.match(text) for text in own]
        if labels is None and all(marks):
            return cls(own, tuple(str(mark["label"]) for mark in marks if mark), True)
        if not isinstance(labels, list) or len(labels) != len(own) or None in labels:
            labels = [_LETTERS[i] if i < len(_LETTERS) else str(i + 1) for i in range(len(own))]
        return cls(own, tuple(str(label).strip() for label in labels))

    def text(self, answer: str) -> str:
        """The options for the prompt: by their labels, or as a list where ``answer`` is the text
        of one of them."""
        if self.marked:
            return "\n".join(self.texts)
        if answer.strip() in self.texts and answer.strip() not in self.labels:
            return "\n".join(f"- {text}" for text in self.texts)
        pairs = zip(self.labels, self.texts, strict=True)
        return "\n".join(f"{label}. {text}" for label, text in pairs)

    def answer(self, row: Row, name: str | None, answer: str) -> str:
        """``answer``, or the label of the option whose place it is.

        Raises:
            RowError: it is a place, and the first rows do not show whether counting begins at
                0 or at 1.
        """
        text = answer.strip()
        if not text.isascii() or not text.isdigit() or text in (*self.labels, *self.texts):
            return answer
        facts, place = row.evidence.get(name or ""), int(text[:9])
        first = 0 if facts is None or facts.least == 0 else 1
        if first == 1 and (facts is None or facts.most < len(self.labels)):
            raise RowError("an answer by its place", f"{name}: {text}, counted from 0 or from 1?")
        if not first <= place < first + len(self.labels):
            raise RowError("an answer by its place", f"{name}: {text} of {len(self.labels)}")
        return self.labels[place - first]
