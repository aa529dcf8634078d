"""Rows of tables: CSV and its kin, parquet, Arrow; and plain lines."""

import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import Any

from delia_ray.ingest.rows import Bad, Reading, excerpt

_LONGEST_RECORD = 4 * 2**20
"""Characters of a record in which a quote must close; an open one would swallow the file."""
_BATCH = 2048


def delimiter_of(text: str) -> str:
    """The sign that cuts the first record of ``text`` into the most columns; a comma where
    none does."""
    return max(",\t;|", key=lambda sign: len(first_record(text, sign)))


def first_record(text: str, delimiter: str) -> list[str]:
    """Cells of the first record."""
    csv.field_size_limit(2**31 - 1)  # a cell may well hold a long document
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


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


def delimited(text: Iterator[str], delimiter: str, reading: Reading) -> Iterator[tuple[int, Any]]:
    """Records of a delimited file. A record whose quotes are wrong costs its first line only.

    Strict, since a quote in the wrong place otherwise moves text between cells unseen.
    """
    lines = _Lines(text)
    header: list[str] | None = None
    number = 0
    while True:
        lines.begin()
        first, fault = lines.number + 1, ""
        cells: list[str] = []
        try:
            cells = next(csv.reader(lines, delimiter=delimiter, strict=True))
        except StopIteration:
            if not lines.taken:
                return
            fault = "a quote is never closed"
        except csv.Error as error:
            fault = _named(error)
        if fault:
            number += 1
            text_ = excerpt(lines.taken[0].rstrip("\r\n"))
            yield number, Bad(fault, f"from line {first} on", text_)
            lines.back_to_second()
            continue
        if not cells:  # an empty line
            continue
        if header is None:
            if has_header(cells, reading):
                header = [cell.strip() for cell in cells]
                continue
            header = [str(index) for index in range(len(cells))]
        number += 1
        if twice := _twice(header, reading):
            detail = f"the column {twice!r}"
            yield number, Bad("a column name comes twice", detail, excerpt(delimiter.join(cells)))
        elif len(cells) != len(header):
            detail = f"{len(cells)} instead of {len(header)} on line {first}"
            yield number, Bad("wrong number of columns", detail, excerpt(delimiter.join(cells)))
        else:
            yield number, dict(zip(header, cells, strict=True))


def _twice(header: list[str], reading: Reading) -> str | None:
    """A name that matters and that two columns have, so that nobody can say which is meant."""
    if len(set(header)) == len(header):
        return None
    again = [name for name in header if header.count(name) > 1]
    return next((name for name in again if name.lower() in reading.names), None)


def _named(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote is never closed"
    return "text behind a closing quote" if "expected after" in str(error) else str(error)


def plain_lines(text: Iterator[str]) -> Iterator[tuple[int, Any]]:
    """Each line as ``{"prompt": line}``, empty ones too: they keep two files aligned."""
    for number, line in enumerate(text, 1):
        yield number, {"prompt": line.rstrip("\r\n")}


def parquet(stream: Any, jumps: bool) -> Iterator[tuple[int, Any]]:
    """Rows of a parquet file."""
    import pyarrow as pa

    from delia_ray.tables import open_parquet

    # Parquet is read from its end; compression and some servers cannot jump there.
    source = stream if jumps else pa.BufferReader(stream.read())
    yield from _numbered(open_parquet(source).iter_batches(batch_size=_BATCH))


def arrow(stream: Any, jumps: bool) -> Iterator[tuple[int, Any]]:
    """Rows of an Arrow IPC stream (as ``datasets`` saves) or file (also called Feather)."""
    import pyarrow as pa

    from delia_ray.tables import open_arrow, open_arrow_stream

    if stream.peek(6)[:6] == b"ARROW1":
        source = stream if jumps else pa.BufferReader(stream.read())
        file = open_arrow(source)
        batches = (file.get_batch(i) for i in range(file.num_record_batches))
    else:
        batches = iter(open_arrow_stream(stream))
    yield from _numbered(
        part.slice(at, _BATCH) for part in batches for at in range(0, part.num_rows, _BATCH)
    )


def _numbered(batches: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    number = 0
    for batch in batches:
        for row in _rows(batch):
            number += 1
            yield number, row


def _rows(batch: Any) -> Iterator[Any]:
    try:
        # Of a damaged file even lengths may be wrong, and pyarrow would read beyond its memory.
        batch.validate(full=True)
        rows = batch.to_pylist()
    except _CELL:  # a time beyond Python's, text that is not UTF-8
        for index in range(batch.num_rows):
            one = batch.slice(index, 1)
            try:
                one.validate(full=True)
                yield one.to_pylist()[0]
            except _CELL as error:
                yield Bad("a cell cannot be read", f"{type(error).__name__}: {error}"[:200], "")
        return
    yield from rows


_CELL = (ValueError, OverflowError)
"""What pyarrow raises for values; its own errors of validity are ValueErrors."""
