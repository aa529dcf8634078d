"""What a container gives: raw rows, or what was wrong in their place."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from delia_ray.config import Limits

EXCERPT = 200
"""Characters of a row kept with a reject."""


@dataclass(frozen=True)
class Bad:
    """Something in a file that is no row."""

    reason: str
    """The same for every such fault, so that counts group."""
    detail: str
    """What is particular here."""
    excerpt: str


@dataclass(frozen=True)
class Damage(Bad):
    """A place behind which a file cannot be read: how many rows stood there nobody knows."""


Numbered = tuple[int, dict[str, Any] | Bad]
"""1-based line (JSONL) or record number, with the raw row or what was wrong with it."""


class LimitError(ValueError):
    """A file goes beyond one of its source's ``limits``."""

    def __init__(self, what: str, setting: str, value: object) -> None:
        super().__init__(f"{what} (limits.{setting}={value})")
        self.setting = setting


@dataclass(frozen=True)
class Reading:
    """What is known of a file before it is opened; the rest its content tells."""

    name: str = ""
    """The file's own name."""
    container: str = "auto"
    encoding: str = "auto"
    header: bool | None = True
    """Whether a table's first line names its columns; None tells by ``names``."""
    names: frozenset[str] = frozenset()
    """Column names that a layout reads, in lower case."""
    quoting: str = "auto"
    split: str = "train"
    limits: Limits = field(default_factory=Limits)
    most: int | None = None
    """Rows that will be asked for, where not all are."""

    @property
    def longest(self) -> int:
        """Characters of the longest line, cell or value."""
        return int(self.limits.value_mib * 2**20)


@dataclass
class Facts:
    """What was found of a file while it was read.

    Of text in lines, ``lines = blank + header + continued + rows + faults``; of JSON values,
    ``characters = inside + between + broken``.
    """

    container: str = ""
    packing: list[str] = field(default_factory=list)
    """Compressions and archives, the outermost first."""
    members: int = 0
    """Members of an archive that were read."""
    encoding: str = ""
    dialect: str = ""
    """Of a table, how its cells are parted."""
    header: list[str] | None = None
    """The names that a table's first line gave its columns."""
    rows: int = 0
    faults: int = 0
    damaged: int = 0
    lines: int = 0
    blank: int = 0
    header_lines: int = 0
    continued: int = 0
    """Further lines of rows over several."""
    characters: int = 0
    inside: int = 0
    between: int = 0
    broken: int = 0
    notes: list[str] = field(default_factory=list)
    """What was guessed."""
    unread: dict[str, str] = field(default_factory=dict)
    """Members of an archive or sheets that were not read, and why."""

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def counted(self, rows: Iterator[Numbered]) -> Iterator[Numbered]:
        """``rows``, counted as they go by."""
        good = 0
        try:
            for numbered in rows:
                if numbered[1].__class__ is dict:
                    good += 1
                elif isinstance(numbered[1], Damage):
                    self.damaged += 1
                else:
                    self.faults += 1
                yield numbered
        finally:
            self.rows += good


def excerpt(row: Any) -> str:
    """The beginning of a row, as text that any encoding can hold."""
    try:
        text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = type(row).__name__
    return text[:EXCERPT].encode("utf-8", "backslashreplace").decode()
