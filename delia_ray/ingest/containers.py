"""Containers by content, not by name: JSONL, JSON array, CSV/TSV, parquet, Arrow, plain lines;
each plain, gzip or zst, in UTF-8, UTF-16 or an encoding that the config names."""

import csv
from collections.abc import Iterator
from typing import Any

import fsspec

from delia_ray.ingest.json_rows import is_json, json_array, json_lines, json_objects
from delia_ray.ingest.languages import language_of_file
from delia_ray.ingest.opening import (
    DAMAGE,
    Opened,
    Watched,
    decode_head,
    encoding_of,
    opened,
    text_of,
)
from delia_ray.ingest.rows import Bad, Numbered, Reading, excerpt
from delia_ray.ingest.tables import (
    arrow,
    delimited,
    delimiter_of,
    first_record,
    parquet,
    plain_lines,
)

CONTAINERS = ("jsonl", "array", "objects", "csv", "tsv", "parquet", "arrow", "lines")
"""What ``Source.container`` may name."""

_MAGIC = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),
    (b"version https://git-lfs.github.com/", "git-lfs pointer"),
    (b"PK\x03\x04", "zip archive (or office document)"),
    (b"BZh", "bzip2 file"),
    (b"\xfd7zXZ", "xz file"),
    (b"7z\xbc\xaf", "7z archive"),
    (b"SQLite format 3", "SQLite database"),
    (b"%PDF", "PDF"),
    (b"\x80\x04", "Python pickle"),
    (b"\x80\x05", "Python pickle"),
    (b"\x89HDF", "HDF5 file"),
    (b"\x93NUMPY", "NumPy array"),
)
_ADVICE = {"git-lfs pointer": "the data itself was not downloaded: run `git lfs pull`"}


def read_rows(url: str, reading: Reading | None = None) -> Iterator[Numbered]:
    """The rows of one file at any fsspec URL.

    What is broken comes out as `Bad` in its place and reading goes on behind it where the
    container allows that.

    Raises:
        OSError: the file cannot be opened or the connection breaks.
    """
    import pyarrow as pa

    number = 0
    with fsspec.open(url, "rb") as source:
        raw = Watched(source)
        try:
            for number, row in _decode(opened(raw), reading or Reading(url)):
                if isinstance(row, (dict, Bad)):
                    yield number, row
                else:
                    kind = type(row).__name__
                    yield number, Bad("not an object", kind, excerpt(row))
        # MemoryError: a damaged length asks for more than any machine has.
        except (
            *DAMAGE,
            OSError,
            ValueError,
            OverflowError,
            MemoryError,
            csv.Error,
            pa.ArrowException,
        ) as error:
            if raw.failed:  # a broken connection must end the run, not shorten the data
                raise
            detail = f"{type(error).__name__}: {error}"[:300]
            yield number + 1, Bad("the file is damaged from here on", excerpt(detail), "")


def _decode(file: Opened, reading: Reading) -> Iterator[tuple[int, Any]]:
    head = file.head()
    if not head:
        return iter(())
    encoding = encoding_of(head) if reading.encoding == "auto" else reading.encoding
    kind = reading.container
    if kind == "auto":
        kind = container(head, reading, encoding)
    if kind in ("parquet", "arrow"):
        return {"parquet": parquet, "arrow": arrow}[kind](file.stream, file.jumps)
    if kind not in CONTAINERS:
        start = excerpt(head[:80].decode("utf-8", "replace"))
        return iter([(1, Bad(f"no rows but a {kind}", _ADVICE.get(kind, ""), start))])
    table = kind in ("csv", "tsv")
    text = text_of(file.stream, encoding, "" if table else "\n")
    if head.startswith(b"\xef\xbb\xbf") and encoding == "utf-8":
        text.read(1)
    if table:
        delimiter = "\t" if kind == "tsv" else delimiter_of(decode_head(head, encoding))
        return delimited(text, delimiter, reading)
    if kind == "lines":
        return plain_lines(text)
    return {"jsonl": json_lines, "array": json_array, "objects": json_objects}[kind](text)


def container(head: bytes, reading: Reading | None = None, encoding: str = "utf-8") -> str:
    """One of `CONTAINERS`, told from the first bytes, or what the file is instead."""
    for magic, kind in _MAGIC:
        if head.startswith(magic) and encoding != "utf-32":
            return kind
    if not head.strip(b"\0"):
        return "run of zero bytes"
    text = decode_head(head, encoding)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        return "jsonl"
    if lines[0][:9].lower() in ("<!doctype", "<html>") or lines[0].startswith(("<?xml", "<html")):
        return "web page or XML"
    if lines[0] == "{":
        return "objects"
    if lines[0].startswith("{"):
        return "jsonl"
    if lines[0].startswith("["):
        # A first line that is whole, with more behind it, is a row that is no object.
        return "jsonl" if len(lines) > 1 and is_json(lines[0]) else "array"
    objects = sum(line.startswith("{") and is_json(line) for line in lines)
    if 2 * objects >= len(lines):
        return "jsonl"
    return "lines" if _plain(text, reading or Reading()) else "csv"


def _plain(text: str, reading: Reading) -> bool:
    """Whether text that is no JSON is lines rather than a table: its name says so, and its
    first line names no column."""
    name = reading.name.lower().removesuffix(".gz").removesuffix(".zst")
    if not name.endswith(".txt") and not language_of_file(name):
        return False
    cells = first_record(text, delimiter_of(text))
    return not reading.names & {cell.strip().lower() for cell in cells}
