"""Completions by content: what was generated once is never generated again.

The key of a completion is the digest of everything that decides it: the chat, the model's
files, the sampling parameters, the seed and the engine. Results are written as they
arrive, one small parquet file for each batch, so a killed run repeats at most the batches
in flight. The cache lives beside the runs and is shared by them, also while they run: files
are only ever added whole, and ``compact`` removes small ones after one that holds all their
rows is there.
"""

import functools
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from delia_ray.artifacts import Folder
from delia_ray.engines import OWN_FAULT
from delia_ray.records import COMPLETION

_SMALL = 64
"""So many batch files are worth packing into one."""
_ATTEMPTS = 5
_READERS = 8
"""Files read at a time."""


@dataclass(frozen=True)
class Cache:
    """Completions of one model in ``folder``."""

    folder: Folder
    limits: str = ""
    """Names what the engine accepts (its longest prompt and so on). Requests that it refuses
    are kept by that name, apart from the completions: other limits, other refusals."""

    @property
    def refused(self) -> Folder:
        """Requests that are in error themselves; asking them again is in vain."""
        return self.folder / f"refused-{self.limits}"

    def read(self, wanted: Iterable[str]) -> pa.Table:
        """The completions there are among the keys ``wanted``, each once, in any order.

        Scans all files batch by batch, so it holds only what it finds.
        """
        keys = pa.array(wanted, pa.string())
        if not len(keys):
            return COMPLETION.empty_table()
        found = [_scan(folder, keys) for folder in (self.folder, self.refused)]
        return once(pa.concat_tables(found))

    def write(self, batch: pa.Table) -> pa.Table:
        """Keep a batch of completions and hand it on.

        Runs inside Ray Data, behind the engine. Requests that failed for no fault of their
        own are handed on but not kept, so that the next run asks them again.
        """
        table = batch.select(COMPLETION.names).cast(COMPLETION)
        error = table["error"]
        fault = pc.is_in(pc.list_element(pc.split_pattern(error, ":"), 0), pa.array(OWN_FAULT))
        for folder, rows in ((self.folder, pc.equal(error, "")), (self.refused, fault)):
            kept = table.filter(rows)
            if len(kept):
                folder.write_table(f"part-{uuid.uuid4().hex}.parquet", kept)
        return table

    def compact(self) -> int:
        """Pack the files of single batches into one where there are many; how many were."""
        parts = [n for n in _files(self.folder) if n.startswith("part-")]
        if len(parts) < _SMALL:
            return 0
        packed = once(_scan(self.folder, None, names=parts))
        self.folder.write_table(f"pack-{uuid.uuid4().hex}.parquet", packed)
        for name in parts:
            self.folder.remove(name)
        return len(parts)

    def keys(self) -> list[str]:
        """Of the completions in all files; a key comes as often as it was written."""
        return list(_scan(self.folder, None, ["key"])["key"].to_pylist())


def _files(folder: Folder) -> list[str]:
    # Unfinished files end in .tmp-...
    return [n for n in folder.names() if n.endswith(".parquet")]


def _scan(
    folder: Folder,
    wanted: pa.Array | None,
    columns: list[str] | None = None,
    names: list[str] | None = None,
) -> pa.Table:
    own = columns or COMPLETION.names
    left = _ATTEMPTS
    while True:
        left -= 1
        read = functools.partial(_read, folder, wanted, own)
        try:
            with ThreadPoolExecutor(_READERS) as pool:
                found = list(pool.map(read, names or _files(folder)))
        except FileNotFoundError:  # another run packed them just now: look again
            names = None
            if not left:
                raise
        else:
            return pa.concat_tables([COMPLETION.empty_table().select(own), *found])


def _read(folder: Folder, wanted: pa.Array | None, columns: list[str], name: str) -> pa.Table:
    """The rows of one file whose keys are ``wanted``, or all; no more of it in memory."""
    schema = COMPLETION.empty_table().select(columns).schema
    with folder.table(name, COMPLETION) as table:
        found = [schema.empty_table()]
        for batch in table.batches(columns):
            own = batch if wanted is None else batch.filter(pc.is_in(batch["key"], wanted))
            if len(own):
                # A file does not say of a column that it is never null; that was looked at.
                found.append(pa.Table.from_batches([own]).cast(schema))
        return pa.concat_tables(found)


def once(table: pa.Table) -> pa.Table:
    """The rows of ``table`` with each key once, the first of each."""
    numbered = pa.table({"key": table["key"], "at": pa.array(range(len(table)), pa.int64())})
    first = numbered.group_by("key").aggregate([("at", "min")])["at_min"]
    return table.take(first.combine_chunks()) if len(first) < len(table) else table
