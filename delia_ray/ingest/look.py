"""What a source's files would be read as, from their beginnings; no Ray, no run's folder."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from delia_ray.config import Source
from delia_ray.errors import UserError
from delia_ray.ingest.failures import advice, nothing_in
from delia_ray.ingest.files import InputFile
from delia_ray.ingest.parse import Job, Part, parse_file
from delia_ray.ingest.rows import Facts
from delia_ray.ingest.sources import Feed

ROWS = 5000
"""Rows looked at in one file."""
_FILES = 3
"""Files looked at of one folder."""
_RECORDS = 3
_WIDTH = 72
"""Characters shown of a turn."""
_SETTING = "look"
_KINDS = {
    "jsonl": "JSON lines", "array": "JSON array", "objects": "JSON objects", "csv": "CSV",
    "tsv": "TSV", "parquet": "parquet", "arrow": "Arrow", "lines": "plain lines, a query each",
    "tmx": "translation memory (TMX)", "xlsx": "Excel workbook",
}  # fmt: skip


def look(source: Source) -> Iterator[str]:
    """Lines for the screen about the files of ``source``: container, layout, the first records,
    what is set aside or not read and why, and the settings that would change it.

    Raises:
        UserError: there are no such files, or settings of the source cannot work.
    """
    feed = Feed("downstream", _SETTING, source.path, source)
    try:
        feed.check()
        files = feed.files
    except UserError as error:
        raise UserError(_plain(error)) from None
    if len(files) > 1 or feed.not_read:
        said = "1 file" if len(files) == 1 else f"{len(files):,} files, in the order of their names"
        yield f"{source.path}   {said}"
        yield from _not_read(feed.not_read)
    jobs = feed.jobs(seed=0)[:_FILES]
    for file, job in zip(files[:_FILES], jobs, strict=True):
        job = replace(job, answers_needed=False, limit=None, most=ROWS)
        yield from _of_file(feed, file, parse_file(job), job)
    if len(files) > _FILES:
        yield f"and {len(files) - _FILES:,} files more, at which this did not look"


def _of_file(feed: Feed, file: InputFile, part: Part, job: Job) -> Iterator[str]:
    facts, whole = part.facts, part.read < ROWS
    alone = len(feed.files) == 1 and not feed.not_read
    yield f"{feed.source.path if alone else file.name}   " + ", ".join(
        _described(file, facts, whole)
    )
    taken, *rest = part.notes.lines() or [""]
    if len(part.records):
        yield f"  read as    {taken}"
        for line in rest:
            yield f"             {line}"
    for note in facts.notes:
        yield f"  guessed    {note}"
    yield from _counts(part, facts, whole)
    yield from _not_read(facts.unread)
    for record in part.records.slice(0, _RECORDS).to_pylist():
        yield f"  {record['row']:<4}{_shown(record)}"
    if not len(part.records):
        yield f"  error      {_plain(nothing_in(replace_files(feed, file), file.name, part))}"
    yield "  not what you meant?  " + " | ".join(dict.fromkeys(_settings(feed.source, part)))


def replace_files(feed: Feed, file: InputFile) -> Feed:
    """``feed`` as if ``file`` were its only one."""
    alone = dataclasses.replace(feed)
    alone.__dict__["files"] = [file]
    return alone


def _described(file: InputFile, facts: Facts, whole: bool) -> Iterator[str]:
    kind = "tsv" if facts.dialect.startswith("parted by tabs") else facts.container
    yield _KINDS.get(kind, kind or "nothing")
    if facts.packing:
        yield " in ".join(facts.packing[::-1])
    if facts.members:
        yield f"{facts.members:,} member" + "s" * (facts.members > 1)
    if facts.encoding:
        yield facts.encoding.removesuffix("-sig").upper()
    if facts.dialect:
        yield facts.dialect
    if facts.lines:
        yield f"{facts.lines:,} lines" if whole else f"more than {facts.lines:,} lines"
    if file.local:
        yield f"{os.path.getsize(file.url):,} bytes"
    if facts.header is not None:
        yield f"header: {', '.join(facts.header)[:200]}"
    elif facts.container in ("csv", "tsv", "xlsx") and facts.rows:
        yield "no header"
    if not whole:
        yield f"looked at the first {ROWS:,} rows"


def _counts(part: Part, facts: Facts, whole: bool) -> Iterator[str]:
    unanswered = part.records["answer"].null_count
    said = f"  records    {len(part.records):,}"
    if unanswered:
        said += f", {unanswered:,} of them without an answer (good as queries only)"
    kinds = Counter(part.rejects["kind"].to_pylist())
    rows: dict[str, list[int]] = {}
    for row in part.rejects.select(["kind", "row"]).to_pylist():
        rows.setdefault(row["kind"], []).append(row["row"])
    unit = "line" if facts.container == "jsonl" and not facts.members else "row"
    aside = [f"{n:,} {kind} ({_places(unit, rows[kind])})" for kind, n in kinds.most_common()]
    yield said + (f"      set aside: {'; '.join(aside)}" if aside else "")
    for kind, _ in kinds.most_common(3):
        first = next(row for row in part.rejects.to_pylist() if row["kind"] == kind)
        yield f"             {unit} {first['row']}: {first['reason']}"[:300]
    for row in part.damages.slice(0, _RECORDS).to_pylist():
        yield f"  damaged    behind row {row['row'] - 1:,}: {row['reason']}"[:300]
    if len(part.damages):
        yield "             what stood there is unknown; an error unless damaged: set_aside"
    aside_lines = {"blank": facts.blank, "of the header": facts.header_lines}
    if held := [f"{n:,} {name}" for name, n in aside_lines.items() if n and facts.lines]:
        yield (
            f"  lines      {facts.lines:,}: {facts.rows + facts.faults:,} rows, {', '.join(held)}"
            + (f", {facts.continued:,} that continue a row" if facts.continued else "")
        )


def _places(unit: str, rows: Sequence[int]) -> str:
    named = ", ".join(f"{row:,}" for row in rows[:5])
    return f"{unit}{'s' if len(rows) > 1 else ''} {named}{' ...' if len(rows) > 5 else ''}"


def _not_read(unread: dict[str, str]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for name, why in unread.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
        yield f"  not read   {', '.join(names[:5])}{more}: {why}"


def _shown(record: dict[str, Any]) -> str:
    turns = [*record["prompt"], {"role": "assistant", "content": record["answer"]}]
    return "      ".join(
        f"{turn['role']}: {_short(turn['content'])}" for turn in turns if turn["content"]
    )


def _short(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 4]} ..."


def _plain(error: UserError) -> str:
    return str(error).replace(f"{_SETTING}.", "")


def _settings(source: Source, part: Part) -> Iterator[str]:
    """Settings that would change how the file is read, the likeliest first."""
    facts, reasons = part.facts, part.rejects["reason"].to_pylist()
    if reasons:
        kind = Counter(part.rejects["kind"].to_pylist()).most_common(1)[0][0]
        reason = next(r for r in reasons if r.startswith(kind))
        said = advice(_SETTING, kind, reason, part).replace(f"{_SETTING}.", "")
        if said.startswith(("see ", "name ", "raise ")):
            yield said
    if facts.container in ("csv", "tsv", "xlsx") and facts.lines:
        yield f"header: {'false' if facts.header is not None else 'true'}"
    if facts.dialect:
        yield f"quoting: {'standard' if 'quoting: none' in facts.dialect else 'none'}"
    if facts.container in ("csv", "lines", "chat log", "text with markup"):
        yield "container: " + ("csv" if facts.container == "lines" else "lines")
    if any("\\udc" in reason or "UTF-8" in reason for reason in reasons):
        yield "encoding: cp1252"
    left = [name for name in part.notes.left_out if "." not in name]
    if left:
        yield f"columns: {{prompt: {left[0]}}}"
        yield f'template: "... {{{left[0]}}} ..."'
    elif facts.container not in ("lines", "tmx"):
        yield "columns: {prompt: ..., completion: ...}"
    yield "format: " + ("prompt_completion" if "parallel" in part.notes.layouts else "parallel")
