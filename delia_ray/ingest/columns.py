"""The columns of a raw row: asked for by name in any case, what is missing, which were used, and
what a table's first rows say a column holds."""

import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from delia_ray.ingest.turns import RowError, plain

SAMPLE = 256
"""Rows from which it is told what a column holds."""
_BLANKS = frozenset({"nan", "<na>", "#n/a"})
"""Texts that programs write where a table has no value (pandas', Excel's)."""
_NOTHING = _BLANKS | {
    "n/a",
    "none",
    "null",
    "<noinput>",
    "noinput",
    "no input",
    "<no input>",
    "[no input]",
}
"""The same for what may be missing: nobody gives the word ``none`` as an input."""
_NUMBER = re.compile(r"[-+]?\d[\d.,]{0,40}(e[-+]?\d{1,4})?%?", re.IGNORECASE)
_FLAGS = frozenset({"true", "false"})


def is_missing(value: Any) -> bool:
    """None, or a float that is no number, as tables write a cell without a value."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_empty(value: Any) -> bool:
    """Missing, or a text, list or object without anything in it."""
    if isinstance(value, str):
        return not value.strip()
    return is_missing(value) or (isinstance(value, (list, tuple, dict)) and not value)


@functools.lru_cache(maxsize=512)
def _by_name(names: tuple[str, ...]) -> dict[str, str]:
    """Name in lower case -> name; one that is in lower case itself goes first."""
    found = {str(name).strip().lower(): name for name in reversed(names)}
    return found | {name: name for name in names if name in found}


@functools.lru_cache(maxsize=4096)
def _present(own: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``wanted`` that are columns; most rows of a file have the same columns."""
    return tuple(name for name in wanted if name in _by_name(own))


@dataclass
class Held:
    """What the first rows of a table hold in one column."""

    rows: int = 0
    texts: int = 0
    """Cells with words: not numbers, flags or identifiers."""
    numbers: int = 0
    """Numbers and truth values, as such or as text."""
    typed: int = 0
    """Those that are no text."""
    values: set[str] = field(default_factory=set)
    """Different ones, of their beginnings."""
    least: float = math.inf
    most: float = -math.inf

    def add(self, value: Any, name: str = "") -> None:
        """Take ``value`` in; ``name`` is the column's, in lower case."""
        if is_empty(value):
            return
        self.rows += 1
        text = plain(value)
        if text is None:
            return
        text = text.strip()
        self.values.add(text[:200])
        self.typed += not isinstance(value, str)
        if not isinstance(value, str) or _NUMBER.fullmatch(text) or text.lower() in _FLAGS:
            self.numbers += 1
            if text[:15].isascii() and text[:15].isdigit():
                self.least, self.most = (
                    min(self.least, int(text[:15])),
                    max(self.most, int(text[:15])),
                )
        elif text.lower() != name and has_words(text):  # a header that comes again is no text
            self.texts += 1

    @property
    def is_text(self) -> bool:
        """Whether most cells are words, and not the same few again and again as labels are."""
        varied = self.rows < 8 or len(self.values) > max(2, self.rows // 10)
        return 2 * self.texts > self.rows and varied

    @property
    def is_plain(self) -> bool:
        """Whether most cells are numbers or truth values and not texts."""
        return 2 * self.typed > self.rows

    @property
    def is_number(self) -> bool:
        """Whether most cells are numbers or truth values."""
        return 2 * self.numbers > self.rows

    def example(self) -> str:
        return min(self.values, default="")[:40]


def has_words(text: str) -> bool:
    """Whether ``text`` is of some language rather than an identifier, a path, a number or a
    truth value."""
    if text.strip().lower() in _FLAGS:
        return False
    solid = text.replace(" ", "")
    if 2 * sum(map(str.isalpha, solid)) < len(solid):
        return False
    if any(map(str.isspace, text)) or not text.isascii():
        return True
    return not re.search(r"[\d_/\\@:.]\w", text)


Evidence = dict[str, Held]
"""Name of a column, in lower case -> what it holds."""


def study(rows: Iterable[Mapping[str, Any]]) -> Evidence:
    """What the columns of ``rows`` hold; ``a.b`` is column ``b`` within ``a``."""
    found: Evidence = {}
    for row in rows:
        for name, value in row.items():
            own = str(name).strip().lower()
            found.setdefault(own, Held()).add(value, own)
            if isinstance(value, Mapping):
                for inner, cell in value.items():
                    found.setdefault(f"{own}.{str(inner).lower()}", Held()).add(cell)
    return found


@dataclass
class Row:
    """One raw row while a layout reads it."""

    values: Mapping[str, Any]
    without: frozenset[str] = frozenset()
    """Columns (in lower case) that are as if they were not there."""
    evidence: Evidence = field(default_factory=dict)
    """What the first rows of its file hold."""
    used: dict[str, str] = field(default_factory=dict)
    """Column -> what it was taken for."""
    blanks: dict[str, str] = field(default_factory=dict)
    """Column -> a text in it that was taken for a missing value."""
    left: dict[str, Any] = field(default_factory=dict)
    """Parts of used columns that were not, as ``column.part`` -> an example."""

    def __post_init__(self) -> None:
        self._own = tuple(self.values)
        self._names = _by_name(self._own)

    def present(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of ``names`` that are columns, with a value or without."""
        return _present(self._own, names)

    def column(self, name: str) -> str | None:
        """The row's own spelling of ``name``, where it has a value there."""
        own = self._names.get(name)
        if own is None or name in self.without or is_missing(self.values[own]):
            return None
        return own

    def has(self, name: str) -> bool:
        return self.column(name) is not None

    def peek(self, name: str) -> Any:
        """The value of ``name`` or None, without using it."""
        own = self.column(name)
        return None if own is None else self.values[own]

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of ``names`` that has a value."""
        return next((name for name in self.present(names) if self.has(name)), None)

    def use(self, name: str, role: str) -> Any:
        """The value of ``name`` or None; the column counts as used for ``role``."""
        own = self.column(name)
        if own is None:
            return None
        self.used[own] = role
        return self.values[own]

    def text(self, name: str, role: str) -> str:
        """The text under ``name``, or a number or truth value as text where most of the column
        are such; "" where it is missing.

        Raises:
            RowError: something else is there.
        """
        value = self.use(name, role)
        if value is None:
            return ""
        text, facts = plain(value), self.evidence.get(name)
        alien = not isinstance(value, str) and facts is not None and not facts.is_plain
        if text is None or alien:
            raise RowError(f"{name} is not text", type(value).__name__)
        return self._unless(name, text, _BLANKS)

    def query(self, name: str) -> str:
        """The text under ``name``, which asks for something, as no number does.

        Raises:
            RowError: no text is there.
        """
        value = self.peek(name)
        if value is not None and not isinstance(value, str):
            raise RowError(f"{name} is not text", type(value).__name__)
        return self.text(name, "prompt")

    def option(self, names: tuple[str, ...], role: str) -> str:
        """The text under the first of ``names`` that has any, without space around it; ""
        where none has.

        Raises:
            RowError: something else is there.
        """
        for name in self.present(names):
            if self.has(name) and not is_empty(self.peek(name)):
                return self._unless(name, listed(self, name, role), _NOTHING).strip()
        return ""

    def options(self, names: tuple[str, ...], role: str) -> list[str]:
        """The texts of all of ``names`` that have any."""
        found = (self.option((name,), role) for name in self.present(names))
        return [text for text in found if text]

    def _unless(self, name: str, text: str, words: frozenset[str]) -> str:
        if text.strip().lower() not in words:
            return text
        self.blanks[str(self.column(name))] = text
        return ""

    def unused(self) -> dict[str, Any]:
        """Columns with something in them that were not used, and such parts of used ones."""
        rest = {
            str(name): value
            for name, value in self.values.items()
            if name not in self.used and not is_empty(value)
        }
        return rest | self.left

    def shown(self) -> str:
        """The names of what the row holds."""
        names = ", ".join(str(k) for k, value in self.values.items() if not is_missing(value))
        return names[:120] or "none"


def listed(row: Row, name: str, role: str) -> str:
    """The text under ``name``, a list of texts as paragraphs.

    Raises:
        RowError: it holds something else.
    """
    value = row.peek(name)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        row.use(name, role)
        return "\n\n".join(value)
    return row.text(name, role)
