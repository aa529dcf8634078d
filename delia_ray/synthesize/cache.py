"""Completions by content: what was generated once is never generated again.

The key of a completion is the digest of everything that decides it: the chat, the model's
files, the sampling parameters, the seed and the engine. Results are written as they
arrive, one small parquet file for each batch, so a killed run repeats at most the batches
in flight. The cache lives beside the runs and is shared by them.
"""

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from delia_ray.artifacts import Folder

COMPLETION = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class Cache:
    """Completions of one model in ``folder``."""

    folder: Folder

    def read(self, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
        """The completions there are among the keys ``wanted``."""
        wanted = set(wanted)
        found: dict[str, dict[str, Any]] = {}
        for table in self._parts():
            mask = pa.array([k in wanted for k in table["key"].to_pylist()])
            found.update((row["key"], row) for row in table.filter(mask).to_pylist())
        return found

    def write(self, batch: pa.Table) -> pa.Table:
        """Keep a batch of completions; returns one row that counts it.

        Runs inside Ray Data, behind the engine. Failed requests are not kept, so that the
        next run asks them again.
        """
        table = batch.select(COMPLETION.names).cast(COMPLETION)
        good = table.filter(pa.compute.equal(table["error"], ""))
        if len(good):
            self.folder.write_table(f"part-{uuid.uuid4().hex}.parquet", good)
        failed = [] if len(good) == len(table) else table.filter(
            pa.compute.not_equal(table["error"], "")
        )["error"].to_pylist()  # fmt: skip
        return pa.table(
            {
                "rows": [len(table)],
                "tokens": [sum(good["completion_tokens"].to_pylist())],
                "failed": [len(failed)],
                "error": [failed[0] if failed else ""],
            }
        )

    def _parts(self) -> Iterator[pa.Table]:
        for name in self.folder.names():
            if name.endswith(".parquet"):  # unfinished ones end in .tmp-...
                yield self.folder.read_table(name)
