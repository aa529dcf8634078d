"""Containers by content, not by name: JSONL, JSON array, CSV/TSV, parquet; plain or gzip."""

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import fsspec

HEAD = 64 * 1024
"""Bytes from which the container is told."""
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


def read_rows(url: str) -> Iterator[Numbered]:
    """The rows of one file at any fsspec URL.

    What is broken comes out as `Bad` in its place and reading goes on behind it where the
    container allows that.

    Raises:
        OSError: the file cannot be opened or the connection breaks.
    """
    import pyarrow as pa

    number = 0
    with fsspec.open(url, "rb") as raw:
        try:
            for number, row in _decode(raw):
                if isinstance(row, (dict, Bad)):
                    yield number, row
                else:
                    kind = type(row).__name__
                    yield number, Bad("not an object", kind, excerpt(row))
        # Not OSError: a broken connection must end the run, not shorten the data.
        except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error, pa.ArrowInvalid) as error:
            yield number + 1, Bad("the file is damaged from here on", str(error), "")


def excerpt(row: Any) -> str:
    """The beginning of a row, as text that any encoding can hold."""
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    return text[:EXCERPT].encode("utf-8", "backslashreplace").decode()


def _decode(raw: Any) -> Iterator[tuple[int, Any]]:
    stream: Any = io.BufferedReader(raw, HEAD)
    if stream.peek(2)[:2] == b"\x1f\x8b":
        stream = io.BufferedReader(gzip.GzipFile(fileobj=stream), HEAD)
    head = stream.peek(HEAD)
    kind = container(head)
    if kind == "parquet":
        return _parquet(stream)
    if kind == "utf-16":
        return iter([(1, Bad("not UTF-8", "it looks like UTF-16", ""))])
    if kind == "array":
        return _array(stream.read().decode("utf-8-sig", "surrogateescape"))
    if kind == "csv":
        text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
        return _csv(text, _delimiter(head))
    return _jsonl(stream)


def container(head: bytes) -> str:
    """``parquet``, ``array``, ``jsonl``, ``csv`` or ``utf-16``, told from the first bytes."""
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    text = head.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines or lines[0].startswith("{"):
        return "jsonl"
    if lines[0].startswith("["):
        # A first line that is whole, with more behind it, is a row that is no object.
        return "jsonl" if len(lines) > 1 and _is_json(lines[0]) else "array"
    objects = sum(line.startswith("{") and _is_json(line) for line in lines)
    return "jsonl" if 2 * objects >= len(lines) else "csv"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _jsonl(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(stream, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        # Undecodable bytes survive as surrogates: they matter only in text that is used.
        text = line.decode("utf-8", "surrogateescape").strip()
        if not text:
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            row = Bad("not valid JSON", _where(error), excerpt(text))
        yield number, row


def _where(error: Exception) -> str:
    """Without the line that the decoder counts: it saw one line only."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)


_SPACE = re.compile(r"[ \t\r\n]*")


def _array(text: str) -> Iterator[tuple[int, Any]]:
    """Element by element, so that those before a fault are kept."""

    def skip(at: int) -> int:
        return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # matches always

    decode = json.JSONDecoder().raw_decode
    at, number = skip(skip(0) + 1), 0
    while not text.startswith("]", at):
        number += 1
        try:
            row, end = decode(text, at)
        except (ValueError, RecursionError) as error:
            yield number, Bad("not valid JSON", str(error), excerpt(text[at : at + EXCERPT]))
            return
        yield number, row
        at = skip(end)
        if text.startswith(",", at):
            at = skip(at + 1)
        elif not text.startswith("]", at):
            detail = f"expected ',' or ']' after record {number}"
            yield number + 1, Bad("not valid JSON", detail, excerpt(text[at : at + EXCERPT]))
            return
    if rest := text[skip(at + 1) :]:
        yield number + 1, Bad("not valid JSON", "text after the array", excerpt(rest[:EXCERPT]))


def _delimiter(head: bytes) -> str:
    """The one that cuts the header into the most columns; a comma where none does."""
    text = head.decode("utf-8-sig", "replace")
    csv.field_size_limit(2**31 - 1)  # a cell may well hold a long document

    def columns(delimiter: str) -> int:
        return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), []))

    return max(",\t;", key=columns)


_END = "\x00end of file\x00"


def _csv(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, Any]]:
    # The sentinel shows a quote that is never closed, which would otherwise swallow the
    # rest of the file into one cell without a word.
    reader = csv.reader(itertools.chain(lines, [_END]), delimiter=delimiter)
    header: list[str] | None = None
    number, line = 0, 1
    for cells in reader:
        first, line = line, reader.line_num + 1
        if cells == [_END]:
            return
        if not cells:  # an empty line
            continue
        if header is None and not cells[-1].endswith(_END):
            header = cells
            continue
        number += 1
        text = excerpt(delimiter.join(cells)[:EXCERPT])
        if cells[-1].endswith(_END):
            yield number, Bad("a quote is never closed", f"from line {first} on", text)
        elif header is not None and len(cells) != len(header):
            detail = f"{len(cells)} instead of {len(header)} on line {first}"
            yield number, Bad("wrong number of columns", detail, text)
        else:
            yield number, dict(zip(header or [], cells, strict=True))


def _parquet(stream: Any) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Parquet is read from its end; gzip and some servers cannot jump there.
    jumps = stream.seekable() and not isinstance(stream.raw, gzip.GzipFile)
    source = stream if jumps else pa.BufferReader(stream.read())
    number = 0
    for batch in pq.ParquetFile(source).iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            number += 1
            yield number, row
