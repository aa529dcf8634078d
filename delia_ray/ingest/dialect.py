"""How a delimited file was written: its delimiter, and what its quotation marks mean."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

_SIGNS = "\t;,|"
_LOOKED_AT = 50
"""Records by which a delimiter is told."""
_SEP = re.compile(r'\ufeff?"?sep=([^"\r\n])"?[ \t]*(?:\r\n|\r|\n|$)', re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """How cells are parted."""

    delimiter: str = ","
    quoted: bool = True
    """Whether quotation marks enclose cells."""
    spaced: bool = False
    """Whether blanks stand before such marks."""
    sep_line: bool = False
    """Whether the first line is Excel's ``sep=;``, which names the delimiter."""

    def said(self) -> str:
        """The dialect in words."""
        names = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars"}
        said = f"parted by {names.get(self.delimiter, repr(self.delimiter))}"
        return said if self.quoted else f"{said}, quotation marks are text (quoting: none)"

    def reader(self, lines: Iterator[str]) -> Any:
        """A strict reader of ``csv``: a quote in the wrong place would otherwise move text
        between cells unseen."""
        if not self.quoted:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
        return csv.reader(
            lines, delimiter=self.delimiter, strict=True, skipinitialspace=self.spaced
        )


def dialect_of(head: str, delimiter: str = "") -> Dialect:
    """The dialect by the beginning of a file; ``delimiter`` where it is known."""
    head = head.removeprefix("\ufeff")
    if found := _SEP.match(head):
        delimiter = delimiter or found.group(1)
        head = head[found.end() :]
    records = {sign: _records(head, Dialect(sign)) for sign in (delimiter or _SIGNS)}
    delimiter = delimiter or max(_SIGNS, key=lambda sign: _score(records[sign], sign))
    spaced = _spaced(head, records[delimiter], delimiter)
    return Dialect(delimiter, spaced=spaced, sep_line=bool(found))


def first_record(text: str, delimiter: str) -> list[str]:
    """Cells of the first record; none where its quotes are wrong."""
    return next(iter(_records(text, Dialect(delimiter), 1)), None) or []


def _records(text: str, dialect: Dialect, most: int = _LOOKED_AT) -> list[list[str] | None]:
    """The first records of ``text``, None in the place of those whose quotes are wrong."""
    lines = io.StringIO(text, newline="")
    found: list[list[str] | None] = []
    while len(found) < most:
        try:
            cells = next(dialect.reader(lines), None)
        except csv.Error:
            found.append(None)
            continue
        if cells is None:
            break
        if cells:
            found.append(cells)
    # The last is cut where the text is.
    return found[:-1] if len(found) > 1 and not text.endswith(("\n", "\r")) else found


def _score(records: list[list[str] | None], sign: str) -> tuple[float, ...]:
    """Greater for the likelier delimiter: the share of records with as many columns as the
    first; tabs, which text hardly holds, before others; then the number of columns."""
    width = len(records[0] or ()) if records else 0
    if width < 2:
        return (0,)
    same = sum(len(cells or ()) == width for cells in records) / len(records)
    return (round(same, 1), sign == "\t", same, width)


def _spaced(head: str, records: list[list[str] | None], delimiter: str) -> bool:
    """Whether blanks before quotation marks are no part of the cells."""
    if not re.search(re.escape(delimiter) + ' +"', head):
        return False
    trimmed = _records(head, Dialect(delimiter, spaced=True))
    width = len(next((cells for cells in trimmed if cells), ()))

    def wrong(some: list[list[str] | None]) -> int:
        return sum(cells is None or len(cells) != width for cells in some)

    return wrong(trimmed) <= wrong(records)


def quotes_are_text(text: IO[str], dialect: Dialect, most: int | None = None) -> bool:
    """Whether a whole file makes sense only with quotation marks as text: without them every
    line has as many columns, with them records are broken or joined from several lines.

    Reads ``text`` twice, or its first ``most`` lines.
    """
    widths: Counter[int] = Counter()
    marked = False
    for line in itertools.islice(text, most):
        if line.strip("\r\n"):
            widths[line.count(dialect.delimiter)] += 1
            marked = marked or '"' in line
    if not marked or not widths:
        return False
    [(width, times)] = widths.most_common(1)
    if not width or times < 0.98 * widths.total():
        return False
    text.seek(0)
    lines, odd = _Counted(itertools.islice(text, most)), 0
    allowed = 0 if times == widths.total() else 0.02 * widths.total()
    reader = dialect.reader(lines)
    while True:
        lines.taken = 0
        try:
            cells = next(reader)
        except StopIteration:
            return False
        except csv.Error:
            return True
        if lines.taken > 1 or (cells and len(cells) != width + 1):
            odd += 1
            if odd > allowed:
                return True


class _Counted:
    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self.taken = lines, 0

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> str:
        self.taken += 1
        return next(self._lines)
