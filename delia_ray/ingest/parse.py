"""One file becomes one table of records and one of rejects; runs as one Ray task."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from delia_ray import miniature
from delia_ray.ingest.containers import Bad, Numbered, excerpt, read_rows
from delia_ray.ingest.pool import pool_key
from delia_ray.ingest.readers import RowError, candidates, read_row
from delia_ray.records import EXAMPLE, QUERY, REJECT, conform, content_id

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


@dataclass(frozen=True)
class Part:
    """What one file gave, in file order."""

    records: pa.Table
    """EXAMPLE, or QUERY where the job has a weight."""
    rejects: pa.Table
    """KIND_REJECT; none of rows that stand after the job's limit."""
    read: int
    """Rows in the file, good or not."""


def parse_file(job: Job) -> Part:
    """Read the file of ``job``.

    Raises:
        OSError: the file cannot be read.
    """
    layouts = candidates(job.format, job.columns)
    records = _Rows(EXAMPLE if job.weight is None else QUERY)
    rejects = _Rows(KIND_REJECT)
    read = 0
    for number, row in _raw_rows(job):
        read += 1
        if job.limit is not None and len(records) >= job.limit:
            continue
        origin = {"source": job.source, "file": job.file, "row": number}
        try:
            if isinstance(row, Bad):
                raise RowError(row.reason, row.detail)
            prompt, answer = read_row(row, layouts, job.columns)
            if answer is None and job.answers_needed:
                raise RowError("no answer")
        except RowError as error:
            text = row.excerpt if isinstance(row, Bad) else excerpt(row)
            reason = str(error).encode("utf-8", "backslashreplace").decode()
            rejects.add({**origin, "reason": reason, "excerpt": text, "kind": error.reason})
            continue
        record = {"id": content_id(prompt, answer), **origin, "prompt": prompt, "answer": answer}
        if job.weight is not None:
            record["key"] = pool_key(job.seed, str(record["id"]), job.weight)
        records.add(record)
    return Part(records.table(), rejects.table(), read)


def _raw_rows(job: Job) -> Iterator[Numbered]:
    if job.format == "miniature":
        # Always the same data, whatever the run's seed: it stands in for a fixed file.
        return iter(enumerate(miniature.rows(job.source, job.limit or 0, seed=0), 1))
    return read_rows(job.url)


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
