"""Rows of token lists on disk, read by position without reading the rest.

A store is a set of Arrow IPC files (uncompressed, in record batches of ``BATCH`` rows) and a
small index of how many rows each holds. Writers fill files side by side, each its own; a
reader maps local files into memory, so that the operating system keeps what is used and all
processes of a node share it, and reads single record batches of remote ones. Row i is found
by arithmetic.
"""

import bisect
import itertools
import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from delia_ray.artifacts import Folder
from delia_ray.records import STEP, TOKENS
from delia_ray.stored import Damaged, mismatch, reading
from delia_ray.tables import open_arrow

BATCH = 1024
"""Rows of a record batch: what a remote read fetches."""
_KEPT = 256
"""Record batches that a reader of remote files keeps; about 100 MB of common rows."""


def write_file(folder: Folder, name: str, number: int, columns: dict[str, pa.Array]) -> int:
    """Write one file of store ``name``, atomically; returns its rows."""
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH)
    folder.write_bytes(file_name(name, number), memoryview(sink.getvalue()))
    return len(table)


def write_index(folder: Folder, name: str, rows: Sequence[int], **facts: Any) -> None:
    """Say how many rows each file holds, and whatever readers should know besides; without it
    there is no store."""
    folder.write_json(f"{name}.json", {"rows": list(rows), "batch": BATCH, "facts": facts})


def lists(rows: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Rows of numbers (lists, or arrays) as one Arrow list column of ``kind`` values."""
    if rows and isinstance(rows[0], list):
        return pa.array(rows, pa.list_(kind))
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(r) for r in rows], out=offsets[1:])
    flat = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat).cast(kind))


class Store:
    """Reads rows of store ``name`` by position; picklable, opens its files where it is used.

    Raises:
        DeliaError: there is no such store, or it is unfinished or damaged.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder, self.name = folder, name
        index = folder.read_json(f"{name}.json")
        if fault := _fault(index):
            raise Damaged(f"{folder}/{name}.json", fault)
        self.batch: int = index["batch"]
        self.facts: dict[str, Any] = index["facts"]
        self.files: list[int] = index["rows"]
        """Rows of each file."""
        self._ends = list(itertools.accumulate(self.files))
        self._readers: dict[int, Any] = {}
        self._batches: OrderedDict[tuple[int, int], list[tuple[str, _Column]]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}, "_batches": OrderedDict()}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def row(self, position: int) -> dict[str, npt.NDArray[Any]]:
        """The lists at ``position`` by column name; numbers without a copy.

        Raises:
            IndexError: there is no such position.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of a store of {len(self)} rows")
        file = bisect.bisect_right(self._ends, position)
        within = position - (self._ends[file - 1] if file else 0)
        number, at = divmod(within, self.batch)
        return {name: column.row(at) for name, column in self._columns(file, number)}

    def rows(self, positions: Iterable[int]) -> list[dict[str, npt.NDArray[Any]]]:
        """``row`` of each of ``positions``, in their order."""
        return [self.row(int(p)) for p in positions]

    def _columns(self, file: int, number: int) -> "list[tuple[str, _Column]]":
        key = (file, number)
        if key in self._batches:
            self._batches.move_to_end(key)
            return self._batches[key]
        where = f"{self.folder}/{file_name(self.name, file)}"
        with reading(where):
            batch = self._reader(file).get_batch(number)
            if len(batch) != min(self.batch, self.files[file] - number * self.batch):
                raise ValueError(f"{len(batch)} rows, which are not those of the index")
            batch.validate(full=True)  # lengths in a damaged file reach beyond its numbers
            columns = zip(batch.schema.names, map(_Column, batch.columns), strict=True)
            self._batches[key] = list(columns)
        if len(self._batches) > _KEPT:
            self._batches.popitem(last=False)
        return self._batches[key]

    def _reader(self, file: int) -> Any:
        if file not in self._readers:
            name = file_name(self.name, file)
            self.folder.check(name)
            path = self.folder.file(name)
            local = self.folder.is_local
            source = pa.memory_map(path) if local else self.folder.fs.open(path, "rb")
            reader = open_arrow(source)
            known = {"sequences": TOKENS}.get(self.name)
            wanted = STEP if self.name.startswith("steps-") else known
            if wanted is not None and (fault := mismatch(reader.schema, wanted)):
                raise ValueError(fault)
            self._readers[file] = reader
        return self._readers[file]


class _Column:
    """The lists of one column of a record batch, as views of its buffers."""

    def __init__(self, column: pa.ListArray) -> None:
        offsets = np.frombuffer(column.buffers()[1], np.int32)
        # As a list: one number out of it is several times as fast as out of an array.
        self._offsets = offsets[column.offset : column.offset + len(column) + 1].tolist()
        values, self._bits = column.values, pa.types.is_boolean(column.values.type)
        self._first = values.offset  # in the buffer, in values
        buffer = values.buffers()[1] if len(values) else b""
        kind = np.uint8 if self._bits else values.type.to_pandas_dtype()
        self._values = np.frombuffer(buffer, kind)

    def row(self, at: int) -> npt.NDArray[Any]:
        begin, end = self._offsets[at] + self._first, self._offsets[at + 1] + self._first
        if not self._bits:
            return self._values[begin:end]
        # Arrow keeps eight truth values in a byte, the lowest bit first.
        octets = self._values[begin >> 3 : (end + 7) >> 3]
        bits = np.unpackbits(octets, bitorder="little")[begin & 7 : (begin & 7) + end - begin]
        return bits.view(np.bool_)


def _fault(index: Any) -> str:
    """What is wrong with the index of a store; empty where nothing is."""
    if not isinstance(index, dict) or not {"rows", "batch", "facts"} <= index.keys():
        return "it is no index of a store"
    rows, batch = index["rows"], index["batch"]
    if not isinstance(rows, list) or any(type(n) is not int or n < 0 for n in rows):
        return f"rows={str(rows)[:50]}"
    if sum(rows) > sys.maxsize:
        return f"rows={str(rows)[:50]}, more than any store holds"
    if type(batch) is not int or not 1 <= batch <= 2**20:
        return f"batch={str(batch)[:50]}"
    return "" if isinstance(index["facts"], dict) else "facts are no mapping"


def file_name(name: str, number: int) -> str:
    """Of file ``number`` of store ``name``."""
    return f"{name}-{number:05d}.arrow"
