"""From rows of text to the store of sequences, one file for each part of the tables.

Parts are independent: a part is the downstream rows with their rewordings, one row group of
the answers, or the corpus's answers to the queries of such a group, and becomes one file of
the store and one table of what is in it. Up to a hundred thousand rows are done here; more of
them by Ray Data tasks on all CPUs of the cluster.
"""

import contextlib
import functools
import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from delia_ray import runtime
from delia_ray.artifacts import Folder
from delia_ray.chats.texts import Refused
from delia_ray.mix.mosaic import mosaic
from delia_ray.mix.tokenize import Encoded, encode, split
from delia_ray.models import end_ids, load_tokenizer, locate
from delia_ray.records import SEQUENCE, TOKENS, UNTRAINED, conform
from delia_ray.store import lists, write_file
from delia_ray.tables import open_arrow_stream

STORE, ANSWERS = "sequences", "answers.parquet"
NO_REFERENCE = "the corpus has no answer to it"


@dataclass(frozen=True)
class Job:
    """What a task needs to know; plain data and URLs."""

    model: str
    special_tokens: tuple[str, ...]
    ingest: Folder
    synthesize: Folder
    out: Folder
    max_length: int
    overlong: str
    turns: str
    mosaic: int
    few: int = 100_000
    """Rows up to which starting workers costs more than they save."""
    reference: bool = False
    """Whether an arm uses the corpus's answers."""

    def parts(self) -> int:
        """The downstream rows, then each row group of the answers; then, where an arm uses
        them, the corpus's answers to the queries of each."""
        return 1 + len(self._groups()) * (1 + self.reference)

    def rows(self) -> int:
        """Diverse rows, before any is set aside."""
        return sum(self._groups()) * (1 + self.reference)

    @property
    def is_large(self) -> bool:
        """Whether starting Ray's workers pays."""
        return self.rows() > self.few

    def _groups(self) -> list[int]:
        """Rows of each row group of the answers."""
        with self.synthesize.table(ANSWERS) as table:
            return table.groups

    def read(self, part: int) -> Iterator[dict[str, Any]]:
        """The rows of a part: what SEQUENCE says of them, ``prompt`` and ``answer``, which is
        None where the corpus has no reference."""
        if part == 0:
            yield from self._downstream()
            return
        with self.synthesize.table(ANSWERS) as table:
            again, group = divmod(part - 1, len(table.groups))
            first = sum(table.groups[:group])
            rows = table.group(group, ["id", "source", "prompt", "answer"]).to_pylist()
        for at, row in enumerate(rows, start=first):
            row.update(row=at, kind="reference" if again else "diverse", variant=0)
        self._note_unsupervised(rows)
        if again:
            # Further samples of a query are in the pool as often as the query was asked; so
            # is its reference, or the arm would have fewer rows than the one it is held against.
            answers = self._of_corpus(map(_query, rows), "answer")
            for row in rows:
                row["answer"] = answers.get(_query(row))
            yield from (row for row in rows if row["answer"] is None)
        yield from mosaic((row for row in rows if row["answer"] is not None), self.mosaic)

    def _note_unsupervised(self, rows: list[dict[str, Any]]) -> None:
        """Give ``rows`` the turns of their prompts that are never supervised, where any might be;
        the queries of the answers are the corpus's."""
        if self.turns != "all":
            return
        several = [row for row in rows if len(row["prompt"]) > 2]
        places = self._of_corpus(map(_query, several), "unsupervised") if several else {}
        for row in several:
            row["unsupervised"] = places.get(_query(row))

    def _of_corpus(self, queries: Iterable[str], column: str) -> dict[str, Any]:
        """A column of the corpus by query; only row groups that hold one of the ``queries`` are
        read."""
        found: dict[str, Any] = {}
        wanted = pa.array(list(set(queries)), pa.string())
        with self.ingest.table("corpus.parquet") as table:
            for group in range(len(table.groups)):
                ids = table.group(group, ["id"])["id"]
                own = pc.is_in(ids, value_set=wanted)
                if pc.any(own).as_py():
                    values = table.group(group, [column])[column]
                    kept = (ids.filter(own).to_pylist(), values.filter(own).to_pylist())
                    found.update(zip(*kept, strict=True))
                if len(found) == len(wanted):  # the pool order: often a few groups hold all
                    break
        return found

    def _downstream(self) -> Iterator[dict[str, Any]]:
        wordings: dict[str, list[dict[str, Any]]] = {}
        for rewording in self.synthesize.read_table("rewordings.parquet").to_pylist():
            wordings.setdefault(rewording["id"], []).append(rewording)
        columns = ["id", "source", "prompt", "answer", "unsupervised"]
        table = self.ingest.read_table("downstream.parquet", columns)
        for at, row in enumerate(table.to_pylist()):
            own = {**row, "kind": "downstream", "row": at}
            yield {**own, "variant": 0}
            # Popped: a downstream row that stands there twice shares its id, and has its
            # rewordings once.
            for other in wordings.pop(row["id"], []):
                yield {**own, "variant": other["variant"], "prompt": other["prompt"]}


def _query(row: dict[str, Any]) -> str:
    """The id of the query that a row answers."""
    return str(row["id"].partition("-")[0])


@dataclass(frozen=True)
class Built:
    """What became of one part."""

    part: int
    sequences: pa.Table
    """SEQUENCE, in the order of the file."""
    untrained: pa.Table
    """UNTRAINED."""


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """A part is millions of small lists without cycles; looking through them again and again
    for some would take a seventh of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_without_collector()
def build(job: Job, part: int) -> Built:
    """Tokenise a part and write its file of the store."""
    path = locate(job.model)
    tokenizer = _tokenizer(path, job.special_tokens)
    rows: list[dict[str, Any]] = []
    unanswered: list[dict[str, Any]] = []
    for row in job.read(part):
        (unanswered if row["answer"] is None else rows).append(row)
    encoded = encode(
        tokenizer,
        [(r.pop("prompt"), r.pop("answer")) for r in rows],
        end_ids(path),
        job.turns,
        [r.pop("unsupervised", None) or () for r in rows],
    )
    kept: list[Encoded] = []
    sequences: list[dict[str, Any]] = []
    untrained = [_untrained(row, 0, NO_REFERENCE) for row in unanswered]
    for row, chat in zip(rows, encoded, strict=True):
        pieces, reason = _pieces(chat, job)
        if reason:
            tokens = 0 if isinstance(chat, Refused) else len(chat.ids)
            untrained.append(_untrained(row, tokens, reason))
        for number, piece in enumerate(pieces):
            counted = int(np.count_nonzero(piece.supervised))
            sequences.append(
                {**row, "piece": number, "tokens": len(piece.ids), "supervised_tokens": counted}
            )
        kept += pieces
    write_file(
        job.out, STORE, part,
        {
            "input_ids": lists([e.ids for e in kept], TOKENS.field("input_ids").type.value_type),
            "supervised": lists([e.supervised for e in kept], pa.bool_()),
        },
    )  # fmt: skip
    return Built(part, conform(sequences, SEQUENCE), conform(untrained, UNTRAINED))


def build_all(job: Job) -> Iterator[Built]:
    """Every part, as they are done."""
    for part, table in run_parts(job, functools.partial(_build_table, job=job)):
        row = table.to_pylist()[0]
        yield Built(part, _unpack(row["sequences"]), _unpack(row["untrained"]))


def run_parts(
    job: Job, work: Callable[[int], pa.Table], model: bool = False
) -> Iterator[tuple[int, pa.Table]]:
    """``work`` on each part, here or (of many rows) by Ray Data, (part, its table) as
    they are done. Work with a ``model`` gets a GPU where the cluster has any."""
    parts = job.parts()
    if not job.is_large:
        for part in range(parts):
            yield part, work(part)
        return
    import ray.data

    gpu = model and runtime.has_gpu()
    numbers = ray.data.range(parts, override_num_blocks=parts)
    done = numbers.map_batches(
        functools.partial(_task, work=work), batch_size=None, batch_format="pyarrow",
        num_cpus=0 if gpu else 1, num_gpus=1 if gpu else 0,
    )  # fmt: skip
    for batch in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in batch.to_pylist():
            yield row["part"], _unpack(row["table"])


def _task(batch: pa.Table, work: Callable[[int], pa.Table]) -> pa.Table:
    parts = batch["id"].to_pylist()
    return pa.table({"part": parts, "table": [_pack(work(part)) for part in parts]})


def _build_table(part: int, job: Job) -> pa.Table:
    built = build(job, part)
    return pa.table(
        {
            "sequences": [_pack(built.sequences)],
            "untrained": [_pack(built.untrained)],
        }
    )


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpack(data: bytes) -> pa.Table:
    return open_arrow_stream(data).read_all()


def _untrained(row: dict[str, Any], tokens: int, reason: str) -> dict[str, Any]:
    own = {k: row[k] for k in ("id", "source", "kind", "variant")}
    return {**own, "tokens": tokens, "reason": reason}


def _pieces(chat: Encoded | Refused, job: Job) -> tuple[list[Encoded], str]:
    """(what is trained on, why not all of the row)."""
    if isinstance(chat, Refused):
        return [], chat.reason
    if len(chat.ids) <= job.max_length:
        return [chat], ""
    if job.overlong != "split":
        return [], f"longer than mix.max_length={job.max_length}"
    pieces = split(chat, job.max_length)
    lost = len(chat.ids) - sum(len(p.ids) for p in pieces)
    supervised = int(chat.supervised.sum()) - sum(int(p.supervised.sum()) for p in pieces)
    if not lost and not supervised:
        return pieces, ""
    return pieces, f"split: {lost} tokens of the prompt left out, {supervised} not supervised"


@functools.cache
def _tokenizer(path: str, special_tokens: tuple[str, ...]) -> Any:
    tokenizer = load_tokenizer(path, special_tokens)
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        backend.no_truncation()
        backend.no_padding()
    return tokenizer
