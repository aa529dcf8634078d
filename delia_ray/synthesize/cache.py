"""Completions by content: what was generated once is never generated again.

The key of a completion is the digest of everything that decides it: the chat, the model's
files, the sampling parameters, the seed and the engine. Results are written as they
arrive, one small parquet file for each batch, so a killed run repeats at most the batches
in flight. The cache lives beside the runs and is shared by them, also while they run: files
are only ever added whole, and ``compact`` removes small ones after one that holds all their
rows is there.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from delia_ray.artifacts import Folder

COMPLETION = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("error", pa.string()),
    ]
)
_SMALL = 64
"""So many batch files are worth packing into one."""
_ATTEMPTS = 5


@dataclass(frozen=True)
class Cache:
    """Completions of one model in ``folder``."""

    folder: Folder

    def read(self, wanted: Iterable[str]) -> pa.Table:
        """The completions there are among the keys ``wanted``, each once, in any order.

        Scans all files batch by batch, so it holds only what it finds.
        """
        keys = pa.array(wanted, pa.string())
        found = self._scan(self._files(), pc.field("key").isin(keys)) if len(keys) else None
        return once(found) if found is not None else COMPLETION.empty_table()

    def write(self, batch: pa.Table) -> pa.Table:
        """Keep a batch of completions and hand it on.

        Runs inside Ray Data, behind the engine. Failed requests are handed on but not kept,
        so that the next run asks them again.
        """
        table = batch.select(COMPLETION.names).cast(COMPLETION)
        good = table.filter(pc.equal(table["error"], ""))
        if len(good):
            self.folder.write_table(f"part-{uuid.uuid4().hex}.parquet", good)
        return table

    def compact(self) -> int:
        """Pack the files of single batches into one where there are many; how many were."""
        parts = [n for n in self._files() if n.startswith("part-")]
        if len(parts) < _SMALL:
            return 0
        packed = once(self._scan(parts, None))
        self.folder.write_table(f"pack-{uuid.uuid4().hex}.parquet", packed)
        for name in parts:
            self.folder.remove(name)
        return len(parts)

    def rows(self) -> int:
        """Completions in all files; a key counts as often as it was written."""
        return len(self._scan(self._files(), None, ["key"]))

    def _files(self) -> list[str]:
        # Unfinished files end in .tmp-...
        return [n for n in self.folder.names() if n.endswith(".parquet")]

    def _scan(
        self, names: list[str], condition: pc.Expression | None, columns: list[str] | None = None
    ) -> pa.Table:
        for attempt in range(_ATTEMPTS):
            paths = [self.folder.file(n) for n in names]
            try:
                if not paths:
                    break
                files = pads.dataset(
                    paths, schema=COMPLETION, format="parquet", filesystem=self.folder.fs
                )
                return files.to_table(filter=condition, columns=columns)
            except FileNotFoundError:  # another run packed them just now: look again
                if attempt == _ATTEMPTS - 1:
                    raise
                names = self._files()
        return COMPLETION.empty_table().select(columns or COMPLETION.names)


def once(table: pa.Table) -> pa.Table:
    """The rows of ``table`` with each key once, the first of each."""
    numbered = pa.table({"key": table["key"], "at": pa.array(range(len(table)), pa.int64())})
    first = numbered.group_by("key").aggregate([("at", "min")])["at_min"]
    return table.take(first.combine_chunks()) if len(first) < len(table) else table
