"""Files by content, not by name: rows in lines, JSON, tables, parquet, Arrow, TMX or a
workbook; each plain, compressed or in an archive, in UTF-8, UTF-16 or an encoding that the config
names."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fsspec

from delia_ray.ingest.archives import archive_of, tar_members, zip_kind, zip_members
from delia_ray.ingest.columnar import arrow, parquet
from delia_ray.ingest.dialect import dialect_of, quotes_are_text
from delia_ray.ingest.json_rows import json_lines
from delia_ray.ingest.json_values import json_one_line, json_values
from delia_ray.ingest.kinds import ADVICE, COLUMNAR, CONTAINERS, container, several_lines
from delia_ray.ingest.opening import (
    Opened,
    Watched,
    check_nesting,
    damage,
    decode_head,
    encoding_of,
    opened,
    text_of,
)
from delia_ray.ingest.rows import Bad, Damage, Facts, LimitError, Numbered, Reading, excerpt
from delia_ray.ingest.sheets import sheet
from delia_ray.ingest.tables import delimited, plain_lines
from delia_ray.ingest.tmx import translation_units
from delia_ray.ingest.turns import is_turn
from delia_ray.redaction import redact_message

__all__ = ["CONTAINERS", "container", "read_rows"]


def read_rows(
    url: str, reading: Reading | None = None, facts: Facts | None = None
) -> Iterator[Numbered]:
    """The rows of one file at any fsspec URL; ``facts`` is filled while they are read.

    What is broken comes out as `Bad` in its place and reading goes on behind it where the
    container allows that; where it does not, the last is `Damage`.

    Raises:
        OSError: the file cannot be opened or the connection breaks.
    """
    reading, facts = reading or Reading(url), facts or Facts()
    with fsspec.open(url, "rb") as source:
        raw = Watched(source)
        rows = _checked(lambda: _rows_of(raw, raw, reading, facts), raw)
        yield from facts.counted(rows)


def _checked(read: Any, source: Watched) -> Iterator[Numbered]:
    """The rows that ``read`` gives, and `Damage` in the place where it fails."""
    import pyarrow as pa

    number = 0
    try:
        for number, row in read():
            if row.__class__ is dict or isinstance(row, Bad):
                yield number, row
            elif isinstance(row, list) and row and all(map(is_turn, row)):
                yield number, {"messages": row}  # a chat without a name for it
            else:
                yield number, Bad("not an object", type(row).__name__, excerpt(row))
    except LimitError as error:
        yield number + 1, Damage("beyond a limit of the source", str(error), "")
    # MemoryError: a damaged length asks for more than any machine has.
    except (
        *damage(), OSError, ValueError, OverflowError, MemoryError, RecursionError, csv.Error,
        pa.ArrowException,
    ) as error:  # fmt: skip
        if source.failed:  # a broken connection must end the run, not shorten the data
            raise
        detail = redact_message(f"{type(error).__name__}: {error}")[:300]
        yield number + 1, Damage("the file is damaged from here on", excerpt(detail), "")


def _rows_of(
    raw: Any, source: Watched, reading: Reading, facts: Facts, packing: tuple[str, ...] = ()
) -> Iterator[tuple[int, Any]]:
    """The rows of ``raw``, which is ``source`` or a member of an archive in it."""
    file = opened(raw, source, reading.limits, packing)
    head = file.head()
    archive = archive_of(head)
    disk = None
    if archive == "zip":
        disk = file.on_disk()
        archive = zip_kind(disk)
    facts.packing[:] = dict.fromkeys([*facts.packing, *file.packing])
    if archive == "xlsx" and reading.container in ("auto", "xlsx"):
        facts.container = "xlsx"
        return sheet(disk, file, reading, facts)
    if archive in ("tar", "zip"):
        facts.packing[:] = dict.fromkeys([*facts.packing, archive])
        check_nesting([*file.packing, archive], reading.limits)
        inside = tar_members(file) if archive == "tar" else zip_members(disk, file)
        return _rows_of_members(inside, file, source, reading, facts, archive)
    if archive:
        return iter([(1, _no_rows(archive, head))])
    return _decode(file, head, reading, facts)


def _rows_of_members(
    inside: Any, file: Opened, source: Watched, reading: Reading, facts: Facts, archive: str
) -> Iterator[tuple[int, Any]]:
    """Numbered through all members; what is broken says in which it is."""
    number, packing = 0, (*file.packing, archive)
    for member in inside:
        if member.raw is None:
            facts.unread[member.name] = member.why
            continue
        own, raw = replace(reading, name=member.name), member.raw
        rows = _checked(lambda r=raw, o=own: _rows_of(r, source, o, facts, packing), source)
        facts.members += 1
        for at, row in rows:
            number += 1
            if isinstance(row, Bad):
                row = replace(row, detail=f"{row.detail} (row {at} of {member.name})".lstrip())
            yield number, row


def _decode(file: Opened, head: bytes, reading: Reading, facts: Facts) -> Iterator[tuple[int, Any]]:
    if not head:
        return iter(())
    encoding = encoding_of(head) if reading.encoding == "auto" else reading.encoding
    kind = reading.container
    if kind == "auto":
        kind = container(head, reading, encoding)
    facts.container = kind
    if kind in COLUMNAR:
        return {"parquet": parquet, "arrow": arrow}[kind](file, reading)
    if kind == "tmx":
        return translation_units(file.stream, reading, facts)
    if kind not in CONTAINERS or kind == "xlsx":
        return iter([(1, _no_rows(kind, head))])
    facts.encoding = encoding
    if kind in ("csv", "tsv"):
        return _table(file, head, "\t" if kind == "tsv" else "", encoding, reading, facts)
    text = _text(file.stream, head, encoding, "\n")

    def in_lines() -> None:
        file.raw.longest = reading.longest

    if kind == "jsonl" and reading.container == "auto" and not several_lines(head, encoding):
        return json_one_line(text, reading, facts, in_lines)
    if kind in ("array", "objects"):
        return json_values(text, reading, facts)
    in_lines()
    return plain_lines(text, facts) if kind == "lines" else json_lines(text, reading, facts)


def _text(stream: Any, head: bytes, encoding: str, newline: str) -> Any:
    text = text_of(stream, encoding, newline)
    if head.startswith(b"\xef\xbb\xbf") and encoding == "utf-8":
        text.read(1)
    return text


def _table(
    file: Opened, head: bytes, sign: str, encoding: str, reading: Reading, facts: Facts
) -> Iterator[tuple[int, Any]]:
    file.raw.longest = reading.longest
    dialect, error = dialect_of(decode_head(head, encoding), sign), None
    stream = file.stream
    if reading.quoting == "none":
        dialect = replace(dialect, quoted=False)
    elif reading.quoting == "auto" and dialect.delimiter == "\t":
        stream, error = file.as_far_as_possible()
        text = _text(stream, head, encoding, "")
        if quotes_are_text(text, dialect, reading.most):
            dialect = replace(dialect, quoted=False)
        text.detach()
        stream.seek(0)
    facts.dialect = dialect.said()
    yield from delimited(_text(stream, head, encoding, ""), dialect, reading, facts)
    if error is not None:
        raise error


def _no_rows(kind: str, head: bytes) -> Bad:
    return Bad(
        f"no rows but a {kind}", ADVICE.get(kind, ""), excerpt(head[:80].decode("utf-8", "replace"))
    )
