"""Writers of small files in every container."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.config import RunConfig

Rows = Sequence[dict[str, Any]]


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def array(rows: Rows) -> bytes:
    return json.dumps(list(rows), indent=2).encode()


def table(rows: Rows, delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, delimiter=delimiter, restval="")  # CRLF is its default
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


def arrow_stream(rows: Rows) -> bytes:
    return _arrow(rows, pa.ipc.new_stream)


def arrow_file(rows: Rows) -> bytes:
    return _arrow(rows, pa.ipc.new_file)


def _arrow(rows: Rows, opener: Any) -> bytes:
    made, sink = pa.Table.from_pylist(list(rows)), io.BytesIO()
    with opener(sink, made.schema) as writer:
        writer.write_table(made)
    return sink.getvalue()


CONTAINERS: dict[str, Callable[[Rows], bytes]] = {
    "jsonl": jsonl,
    "array": array,
    "csv": lambda rows: table(rows, ","),
    "tsv": lambda rows: table(rows, "\t"),
    "parquet": parquet,
    "arrow stream": arrow_stream,
    "arrow file": arrow_file,
}
TEXT = ("jsonl", "array", "csv", "tsv")
FLAT = ("csv", "tsv")
"""These hold text only, so no list of messages."""


def zst(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def write(folder: Path, name: str, data: bytes, packed: str | bool = "") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pack = {"zst": zst, "gz": gzip.compress, True: gzip.compress}.get(packed, bytes)
    path.write_bytes(pack(data))
    return str(path)


DOWNSTREAM = [{"prompt": f"task {i}", "completion": str(i)} for i in range(4)]
QUERIES = [{"instruction": f"query {i}", "output": f"reference {i}"} for i in range(30)]


def config_of(tree: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(json.loads(json.dumps(tree)))
