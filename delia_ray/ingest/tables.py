"""Rows of tables in text, CSV and its kin; and plain lines."""

import csv
from collections import deque
from collections.abc import Iterator
from typing import Any

from delia_ray.ingest.dialect import Dialect
from delia_ray.ingest.json_rows import MARK
from delia_ray.ingest.languages import pair_of_file
from delia_ray.ingest.rows import Bad, Facts, LimitError, Reading, excerpt

_LONGEST_RECORD = 4 * 2**20
"""Characters of a record in which a quote must close; an open one would swallow the file."""


def has_header(cells: list[str], reading: Reading) -> bool:
    """Whether the first record names columns; where the config does not say, it must hold a
    name that a layout reads."""
    if reading.header is not None:
        return reading.header
    return bool(reading.names & {cell.strip().lower() for cell in cells})


class _Lines:
    """Lines of a file that can be put back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._again = lines, deque[str]()
        self.taken: list[str] = []
        """Of the record that is being read."""
        self.number = 0
        """Of the line taken last."""
        self._size = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._size > _LONGEST_RECORD:
            raise StopIteration
        line = self._again.popleft() if self._again else next(self._lines)
        if not self.taken and line[0] == MARK:
            line = line.lstrip(MARK) or "\n"
        self.taken.append(line)
        self._size += len(line)
        self.number += 1
        return line

    def begin(self) -> None:
        self.taken, self._size = [], 0

    def back_to_second(self) -> None:
        """Read everything but the record's first line again."""
        self._again.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1


def delimited(
    text: Iterator[str], dialect: Dialect, reading: Reading, facts: Facts
) -> Iterator[tuple[int, Any]]:
    """Records of a delimited file. A record whose quotes are wrong costs its first line only."""
    csv.field_size_limit(min(2**31 - 1, reading.longest))
    lines = _Lines(text)
    try:
        yield from _Records(lines, dialect, reading, facts).rows()
    finally:
        facts.lines += lines.number


class _Records:
    """Reads one file."""

    def __init__(self, lines: _Lines, dialect: Dialect, reading: Reading, facts: Facts) -> None:
        self.lines, self.dialect, self.reading, self.facts = lines, dialect, reading, facts
        self.header: list[str] | None = None
        self.first: list[str] | None = None
        """The header as it was read."""

    def rows(self) -> Iterator[tuple[int, Any]]:
        number, lines, facts = 0, self.lines, self.facts
        if self.dialect.sep_line:
            next(lines)
            facts.header_lines += 1
        while True:
            lines.begin()
            place = lines.number + 1
            cells, fault = self._next()
            if cells is None and not fault:
                return
            if fault:
                number += 1
                start = excerpt(lines.taken[0].rstrip("\r\n"))
                yield number, Bad(fault, self._detail(fault, place), start)
                lines.back_to_second()
            elif not cells:  # an empty line
                facts.blank += len(lines.taken)
            elif cells == self.first or (self.header is None and self._is_header(cells)):
                facts.header_lines += len(lines.taken)
            else:
                number += 1
                facts.continued += len(lines.taken) - 1
                yield number, self._row(cells, place)

    def _next(self) -> tuple[list[str] | None, str]:
        """The cells of the next record, None at the end; or what is wrong with its quotes."""
        try:
            return next(self.dialect.reader(self.lines)), ""
        except StopIteration:
            return None, "a quote is never closed" if self.lines.taken else ""
        except csv.Error as error:
            return None, _named(error)

    def _detail(self, fault: str, place: int) -> str:
        if fault == _TOO_LONG:
            return f"limits.value_mib={self.reading.limits.value_mib}, line {place}"
        return f"from line {place} on"

    def _is_header(self, cells: list[str]) -> bool:
        if len(cells) > self.reading.limits.columns:
            limit = self.reading.limits.columns
            raise LimitError(f"{len(cells):,} columns", "columns", limit)
        if has_header(cells, self.reading):
            self.header = [cell.strip() for cell in cells]
            self.first, self.facts.header = cells, self.header
            return True
        self.header = [str(index) for index in range(len(cells))]
        pair = pair_of_file(self.reading.name) if len(cells) == 2 else None
        if pair and self.reading.header is None:
            self.header = list(pair)
            self.facts.note(f"no header; columns {' and '.join(pair)} after the file's name")
        return False

    def _row(self, cells: list[str], place: int) -> Any:
        header = self.header or []
        if twice := repeated(header, self.reading):
            text = excerpt(self.dialect.delimiter.join(cells))
            return Bad("a column name comes twice", f"the column {twice!r}", text)
        if len(cells) != len(header):
            detail = f"{len(cells)} instead of {len(header)} on line {place}"
            text = excerpt(self.dialect.delimiter.join(cells))
            return Bad("wrong number of columns", detail, text)
        return dict(zip(header, cells, strict=True))


def repeated(header: list[str], reading: Reading) -> str | None:
    """A name that matters and that two columns have, so that nobody can say which is meant."""
    if len(set(header)) == len(header):
        return None
    again = [name for name in header if header.count(name) > 1]
    return next((name for name in again if name.lower() in reading.names), None)


_TOO_LONG = "a cell is too long"


def _named(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote is never closed"
    if "field larger" in str(error):
        return _TOO_LONG
    return "text behind a closing quote" if "expected after" in str(error) else str(error)


def plain_lines(text: Iterator[str], facts: Facts) -> Iterator[tuple[int, Any]]:
    """Each line as ``{"prompt": line}``, empty ones too: they keep two files aligned."""
    number = 0
    try:
        for number, line in enumerate(text, 1):
            yield number, {"prompt": line.rstrip("\r\n").removeprefix(MARK)}
    finally:
        facts.lines += number
