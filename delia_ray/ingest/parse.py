"""One file becomes one table of records and one of rejects; runs as one Ray task."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from delia_ray import miniature
from delia_ray.artifacts import Folder
from delia_ray.config import Limits
from delia_ray.ingest import trees
from delia_ray.ingest.columns import SAMPLE
from delia_ray.ingest.containers import read_rows
from delia_ray.ingest.curate.steps import Curation, Statistics
from delia_ray.ingest.languages import language_of_file, pair_of_file
from delia_ray.ingest.layouts import Options
from delia_ray.ingest.notes import Notes
from delia_ray.ingest.pool import pool_key
from delia_ray.ingest.readers import KNOWN, Reader, RowError, candidates
from delia_ray.ingest.rows import Bad, Damage, Facts, Numbered, Reading, excerpt
from delia_ray.ingest.spill import Stored, Writer, boundaries
from delia_ray.records import (
    EXAMPLE,
    LEAK,
    QUERY,
    REJECT,
    REMOVED,
    Message,
    conform,
    content_id,
)

KIND_REJECT = REJECT.append(pa.field("kind", pa.string(), nullable=False))
"""A reject with the part of its reason that groups; the stage drops it after counting."""
_BATCH = 8192  # rows held as Python objects at a time


@dataclass(frozen=True)
class Job:
    """One file to read and all that the result depends on."""

    source: str
    """The source's path as the config gives it."""
    file: str
    """The file's name within the source."""
    url: str
    format: str
    columns: dict[str, str]
    limit: int | None
    """Records after which the rest of the file is only counted."""
    answers_needed: bool
    """Downstream rows and suites: a row without an answer is a reject."""
    weight: float | None = None
    """For queries: makes the pool key, together with ``seed``."""
    seed: int = 0
    container: str = "auto"
    encoding: str = "auto"
    header: bool | None = None
    quoting: str = "auto"
    split: str = "train"
    most: int | None = None
    """Rows after which the rest of the file is not even counted, to look at its beginning."""
    limits: Limits = field(default_factory=Limits)
    options: Options = field(default_factory=Options)
    aligned: str | None = None
    """URL of the file whose lines translate those of ``url``."""
    without: tuple[str, ...] = ()
    """Columns that are as if they were not there."""
    control: tuple[str, ...] = ()
    """The chat template's own tokens; texts that hold one are no records."""
    strip_control: bool = False
    """Take them out instead."""
    store: tuple[Folder, str] | None = None
    """Folder and file for the records, which memory then does not hold."""
    buckets: int = 1
    """Ranges of the pool key that the file is cut into."""

    def reading(self, name: str) -> Reading:
        """How to open the file of that name."""
        header = self.header
        # A name such as pairs.is-en.tsv says that the columns are texts of two languages.
        if header is None and self.format != "parallel" and not pair_of_file(name):
            header = True
        names = KNOWN | {name.lower() for name in self.columns.values()}
        return Reading(
            name, self.container, self.encoding, header, names, self.quoting,
            self.split, self.limits, self.most,
        )  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What one file gave, in file order."""

    records: pa.Table
    """EXAMPLE; QUERY where the job has a weight; SLIM where it has a store."""
    rejects: pa.Table
    """KIND_REJECT; none of rows that stand after the job's limit."""
    read: int
    """Rows in the file, good or not, and places where it is damaged."""
    damages: pa.Table = field(default_factory=KIND_REJECT.empty_table)
    """KIND_REJECT; places behind which the file (or a member of it) could not be read."""
    facts: Facts = field(default_factory=Facts)
    stored: Stored | None = None
    removed: pa.Table = field(default_factory=REMOVED.empty_table)
    leaks: pa.Table = field(default_factory=LEAK.empty_table)
    statistics: Statistics = field(default_factory=Statistics)
    notes: Notes = field(default_factory=Notes)
    """What the rows were taken for."""


class _Records(Protocol):
    """Where records go."""

    def full(self, limit: int | None) -> bool: ...

    def add(self, row: dict[str, Any]) -> None: ...

    def part(self, rejects: pa.Table, read: int, **rest: Any) -> Part: ...


def parse_file(job: Job, curation: Curation | None = None) -> Part:
    """Read the file of ``job``; ``curation`` is for jobs with a store.

    Raises:
        OSError: the file cannot be read.
    """
    job = _named_languages(job)
    control = re.compile("|".join(map(re.escape, job.control))) if job.control else None
    refused = None if job.strip_control else control
    records: _Records = _InMemory(job) if job.store is None else _OnDisk(job, curation)
    layouts = candidates(job.format, job.columns, job.options)
    reader = Reader(layouts, job.columns, job.without, refused)
    rejects, damages, facts = _Rows(KIND_REJECT), _Rows(KIND_REJECT), Facts()
    read = 0
    for number, row in _studied(itertools.islice(_raw_rows(job, facts), job.most), reader):
        read += 1
        if records.full(job.limit):
            continue
        origin = {"source": job.source, "file": job.file, "row": number}
        try:
            if isinstance(row, Bad):
                raise RowError(row.reason, row.detail)
            prompt, answer, unsupervised = reader.read(row)
            if control is not None and job.strip_control:
                prompt, answer = _without(control, prompt, answer)
            if answer is None and job.answers_needed:
                raise RowError("no answer")
        except RowError as error:
            text = row.excerpt if isinstance(row, Bad) else excerpt(row)
            reason = str(error).encode("utf-8", "backslashreplace").decode()
            bad = damages if isinstance(row, Damage) else rejects
            bad.add({**origin, "reason": reason, "excerpt": text, "kind": error.reason})
            continue
        record = {"id": content_id(prompt, answer), **origin, "prompt": prompt, "answer": answer}
        records.add({**record, "unsupervised": list(unsupervised) or None})
    return records.part(
        rejects.table(), read, damages=damages.table(), facts=facts, notes=reader.notes
    )


def _studied(rows: Iterator[Numbered], reader: Reader) -> Iterator[Numbered]:
    """``rows``, of which the first have told ``reader`` what the columns hold."""
    first = list(itertools.islice(rows, SAMPLE))
    good = [row for _, row in first if not isinstance(row, Bad)]
    rows = itertools.chain(first, rows)
    if trees.is_tree(good):
        return trees.chats(rows)
    reader.study(good)
    return rows


class _InMemory:
    """Records as one table."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._rows = _Rows(EXAMPLE if job.weight is None else QUERY)

    def full(self, limit: int | None) -> bool:
        return limit is not None and len(self._rows) >= limit

    def add(self, row: dict[str, Any]) -> None:
        self._rows.add(row if self._job.weight is None else _keyed(row, self._job))

    def part(self, rejects: pa.Table, read: int, **rest: Any) -> Part:
        return Part(self._rows.table(), rejects, read, **rest)


class _OnDisk:
    """Records curated and written a batch at a time, see `spill`."""

    def __init__(self, job: Job, curation: Curation | None) -> None:
        if job.store is None:
            raise AssertionError("no store")
        self._job, self._curation = job, curation
        folder, name = job.store
        self._writer = Writer(folder, name, boundaries(job.buckets))
        self._waiting: list[dict[str, Any]] = []
        self._removed, self._leaks = _Rows(REMOVED), _Rows(LEAK)
        self._statistics = Statistics()

    def full(self, limit: int | None) -> bool:
        if limit is None:
            return False
        if self._writer.written + len(self._waiting) >= limit:
            self._flush()  # curation may leave fewer
        return self._writer.written >= limit

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        if len(self._waiting) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        records, signatures = self._waiting, None
        self._waiting = []
        if self._curation is not None and records:
            curated = self._curation(records, self._statistics)
            records, signatures = curated.records, curated.signatures
            for row in curated.removed:
                self._removed.add(row)
            for row in curated.leaks:
                self._leaks.add(row)
        self._writer.write([_keyed(record, self._job) for record in records], signatures)

    def part(self, rejects: pa.Table, read: int, **rest: Any) -> Part:
        self._flush()
        slim, stored = self._writer.close()
        return Part(
            slim, rejects, read, stored=stored, removed=self._removed.table(),
            leaks=self._leaks.table(), statistics=self._statistics, **rest,
        )  # fmt: skip


def _keyed(row: dict[str, Any], job: Job) -> dict[str, Any]:
    return {**row, "key": pool_key(job.seed, str(row["id"]), job.weight or 1.0)}


def _without(
    control: re.Pattern[str], prompt: list[Message], answer: str | None
) -> tuple[list[Message], str | None]:
    """The chat without control tokens, taken out until putting the rest together makes none."""

    def clean(text: str) -> str:
        while (shorter := control.sub("", text)) != text:
            text = shorter
        return text

    prompt = [{"role": turn["role"], "content": clean(turn["content"])} for turn in prompt]
    if not prompt[-1]["content"].strip():
        raise RowError("empty prompt")
    answer = clean(answer or "")
    return prompt, answer if answer.strip() else None


def _named_languages(job: Job) -> Job:
    """Line-aligned files name their languages; the config's names win."""
    if job.aligned is None:
        return job
    wanted = job.options.parallel
    first = wanted.source or language_of_file(job.url) or "source"
    second = wanted.target or language_of_file(job.aligned) or "target"
    if first == second:
        second = "target"
    parallel = wanted.model_copy(update={"source": first, "target": second})
    return replace(job, format="parallel", options=replace(job.options, parallel=parallel))


def _raw_rows(job: Job, facts: Facts) -> Iterator[Numbered]:
    if job.format == "miniature":
        # Always the same data, whatever the run's seed: it stands in for a fixed file.
        return iter(enumerate(miniature.rows(job.source, job.limit or 0, seed=0), 1))
    if job.aligned is not None:
        return _aligned_rows(job, job.aligned, facts)
    return read_rows(job.url, job.reading(job.file), facts)


def _aligned_rows(job: Job, aligned: str, facts: Facts) -> Iterator[Numbered]:
    reading = replace(job.reading(job.file), container="lines")
    counts = [sum(1 for _ in read_rows(url, reading)) for url in (job.url, aligned)]
    if counts[0] != counts[1]:
        # Nobody can say where a line is missing, so none of the pairs can be trusted.
        detail = f"{counts[0]:,} against {counts[1]:,}"
        for number in range(1, max(counts) + 1):
            yield number, Bad("the two files differ in lines", detail, "")
        return
    parallel = job.options.parallel
    both = zip(read_rows(job.url, reading, facts), read_rows(aligned, reading), strict=True)
    for (number, text), (_, translation) in both:
        if isinstance(text, Bad) or isinstance(translation, Bad):
            yield number, text if isinstance(text, Bad) else translation
        else:
            yield (
                number,
                {
                    parallel.source or "source": text["prompt"],
                    parallel.target or "target": translation["prompt"],
                },
            )


@dataclass
class _Rows:
    """Rows turned into Arrow a batch at a time, since Python objects cost far more memory."""

    schema: pa.Schema
    batch: list[dict[str, Any]] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.batch) + _BATCH * len(self.tables)

    def add(self, row: dict[str, Any]) -> None:
        self.batch.append(row)
        if len(self.batch) == _BATCH:
            self.tables.append(conform(self.batch, self.schema))
            self.batch = []

    def table(self) -> pa.Table:
        return pa.concat_tables([*self.tables, conform(self.batch, self.schema)])
