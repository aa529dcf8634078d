"""What a container gives: raw rows, or what was wrong in their place."""

import json
from dataclasses import dataclass
from typing import Any

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


Numbered = tuple[int, dict[str, Any] | Bad]
"""1-based line (JSONL) or record number, with the raw row or what was wrong with it."""


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


def excerpt(row: Any) -> str:
    """The beginning of a row, as text that any encoding can hold."""
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    return text[:EXCERPT].encode("utf-8", "backslashreplace").decode()
