"""The corpus on its way to the pool: records lie in files by ranges of the pool key, and memory
holds for each only what deciding about it needs.

A worker writes the records of its file, a batch at a time, cut by key into buckets; the driver
decides which stay from the slim tables, and reads one bucket of all files after the other. So
memory depends on the largest bucket and on some bytes for each record, not on the corpus.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from delia_ray.artifacts import Folder
from delia_ray.ingest.curate.near import Signatures
from delia_ray.ingest.pool import merge_by_key
from delia_ray.records import MESSAGES, QUERY
from delia_ray.stored import reading
from delia_ray.tables import open_arrow

SLIM = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("key", pa.float64()),
        pa.field("answered", pa.bool_()),
        pa.field("place", pa.int64()),  # among the records of its file
        pa.field("bands", pa.binary()),  # empty where near-duplicates are not asked for
        pa.field("marks", pa.binary()),
    ]
)
_STORED = QUERY.append(pa.field("place", pa.int64(), nullable=False))


def boundaries(buckets: int) -> npt.NDArray[np.float64]:
    """Keys between ``buckets`` ranges that hold equally many records of weight 1."""
    return np.array([-math.log1p(-i / buckets) for i in range(1, buckets)], np.float64)


@dataclass(frozen=True)
class Stored:
    """Where the records of one file lie."""

    folder: Folder
    name: str
    buckets: tuple[int, ...]
    """The bucket of each batch in the file."""


@dataclass
class Writer:
    """Writes the records of one file and keeps their slim rows."""

    folder: Folder
    name: str
    limits: npt.NDArray[np.float64]
    slim: list[pa.Table] = field(default_factory=list)
    buckets: list[int] = field(default_factory=list)
    written: int = 0
    _stream: Any = None
    _file: Any = None

    def write(self, records: Sequence[dict[str, Any]], signatures: Signatures | None) -> None:
        """Append ``records`` (QUERY rows of one source and file)."""
        if not records:
            return
        if self._file is None:
            self.folder.fs.makedirs(self.folder.path, exist_ok=True)
            self._stream = self.folder.fs.open(self.folder.file(self.name), "wb")
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._file = pa.ipc.new_file(self._stream, _STORED, options=options)
        places = np.arange(self.written, self.written + len(records))
        table = _table(records, places)
        keys = table.column("key").to_numpy()
        bucket = np.searchsorted(self.limits, keys, side="right")
        order = np.argsort(bucket, kind="stable")
        table, bucket = table.take(pa.array(order)), bucket[order]
        ends = [*np.flatnonzero(np.diff(bucket)) + 1, len(bucket)]
        start = 0
        for end in ends:
            for batch in table.slice(start, end - start).combine_chunks().to_batches():
                self._file.write_batch(batch)
                self.buckets.append(int(bucket[start]))
            start = end
        self.slim.append(_slim(records, places, signatures))
        self.written += len(records)

    def close(self) -> tuple[pa.Table, Stored]:
        """Finish the file.

        Returns:
            The slim rows in file order, and where the records lie.
        """
        if self._file is not None:
            self._file.close()
            self._stream.close()
        table = pa.concat_tables([SLIM.empty_table(), *self.slim])
        return table, Stored(self.folder, self.name, tuple(self.buckets))


def _table(records: Sequence[dict[str, Any]], places: npt.NDArray[np.int64]) -> pa.Table:
    """By columns: `conform` makes one Python object for each field of each turn."""
    turns = [turn for record in records for turn in record["prompt"]]
    ends = np.cumsum([len(record["prompt"]) for record in records])
    content = pa.array([turn["content"] for turn in turns], pa.string())
    roles = pa.array([turn["role"] for turn in turns], pa.string())
    structs = pa.StructArray.from_arrays([roles, content], fields=list(MESSAGES.value_type))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    columns: dict[str, Any] = {
        name: pa.array([record[name] for record in records], _STORED.field(name).type)
        for name in ("id", "source", "file", "row", "answer", "unsupervised", "key")
    }
    columns["prompt"] = pa.ListArray.from_arrays(offsets, structs, type=MESSAGES)
    columns["place"] = pa.array(places)
    return pa.table([columns[name] for name in _STORED.names], schema=_STORED)


def _slim(
    records: Sequence[dict[str, Any]],
    places: npt.NDArray[np.int64],
    signatures: Signatures | None,
) -> pa.Table:
    nothing = [b""] * len(records)
    bands = nothing if signatures is None else [row.tobytes() for row in signatures.bands]
    marks = nothing if signatures is None else [row.tobytes() for row in signatures.marks]
    return pa.table(
        {
            "id": [record["id"] for record in records],
            "row": [record["row"] for record in records],
            "key": [record["key"] for record in records],
            "answered": [record["answer"] is not None for record in records],
            "place": places,
            "bands": bands,
            "marks": marks,
        },
        schema=SLIM,
    )


def signatures_of(tables: Sequence[pa.Table]) -> Signatures:
    """The signatures in slim rows of all ``tables``."""

    def array(name: str, kind: type) -> Any:
        parts = [_bytes(chunk) for table in tables for chunk in table.column(name).chunks]
        joined = np.concatenate(parts) if parts else np.empty(0, np.uint8)
        return joined.view(kind).reshape(rows, -1) if rows else np.empty((0, 1), kind)

    rows = sum(map(len, tables))
    return Signatures(array("bands", np.uint64), array("marks", np.uint8))


def _bytes(chunk: pa.BinaryArray) -> npt.NDArray[np.uint8]:
    """All values of ``chunk`` without a copy: an object for each would cost more than they do."""
    _, ends, data = chunk.buffers()
    if data is None:
        return np.empty(0, np.uint8)
    found = np.frombuffer(ends, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return np.frombuffer(data, np.uint8)[found[0] : found[-1]]


def without_signatures(slim: pa.Table) -> pa.Table:
    """Slim rows whose signatures have served; they are most of what such rows take."""
    return slim.drop_columns(["bands", "marks"])


def pool(kept: Sequence[tuple[Stored, pa.Table]], buckets: int) -> Iterator[pa.Table]:
    """The records of slim tables ``kept``, with all else that they hold, in pool order."""
    chosen = []
    for stored, slim in kept:
        places = slim.column("place").to_numpy()
        mask = np.zeros(int(places.max(initial=-1)) + 1, bool)
        mask[places] = True
        chosen.append((stored, mask))
    for bucket in range(buckets):
        tables = [_read(stored, mask, bucket) for stored, mask in chosen]
        yield merge_by_key([QUERY.empty_table(), *tables])


def _read(stored: Stored, mask: npt.NDArray[np.bool_], bucket: int) -> pa.Table:
    wanted = [i for i, one in enumerate(stored.buckets) if one == bucket]
    if not wanted or not len(mask):
        return QUERY.empty_table()
    where = f"{stored.folder}/{stored.name}"
    with reading(where), stored.folder.open(stored.name) as stream:
        file = open_arrow(stream)
        table = pa.Table.from_batches([file.get_batch(i) for i in wanted], _STORED)
    places = table.column("place").to_numpy()
    inside = places < len(mask)
    keep = inside & mask[np.minimum(places, len(mask) - 1)]
    return table.filter(pa.array(keep)).drop_columns("place").cast(QUERY)


def early(slim: pa.Table, cap: int) -> pa.Array:
    """A mask of the ``cap`` rows that come first in the pool."""
    order = pc.sort_indices(slim, [("key", "ascending"), ("id", "ascending")]).slice(0, cap)
    mask = np.zeros(len(slim), bool)
    mask[order.to_numpy()] = True
    return pa.array(mask)
