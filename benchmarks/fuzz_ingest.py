"""Mutated files: nothing but a record, a reject or an error of ours may come of them.

    python benchmarks/fuzz_ingest.py --files 10000

Each file is a good one in some container, compression and encoding, with bytes changed, cut out,
put in, doubled or swapped. The rows that come out are checked too: every row is a record or a
reject, records hold text that can be encoded, and rows are numbered upwards. The last line is
JSON; exit code 1 if anything else happened, with the file kept.
"""

import argparse
import gzip
import io
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.errors import DeliaError, UserError
from delia_ray.ingest.parse import Job, parse_file

SHAPES = ("prompt", "alpaca", "messages", "sharegpt", "translation", "lines")


def rows_of(rng: random.Random) -> list[dict[str, Any]]:
    """A few rows in one layout."""
    shape, rows = rng.choice(SHAPES), []
    for number in range(rng.randint(1, 12)):
        query, answer = f'query {number} þæð\n"你"', rng.choice(["", "yes", "x" * 300])
        rows.append(
            {
                "prompt": {"prompt": query, "completion": answer},
                "alpaca": {"instruction": query, "input": "", "output": answer},
                "messages": {"messages": [{"role": "user", "content": query},
                                          {"role": "assistant", "content": answer}]},
                "sharegpt": {"conversations": [{"from": "human", "value": query},
                                               {"from": "gpt", "value": answer}]},
                "translation": {"translation": {"is": query, "en": answer}},
                "lines": {"prompt": query},
            }[shape]
        )  # fmt: skip
    return rows


def packed(rows: list[dict[str, Any]], rng: random.Random) -> bytes:
    """``rows`` in some container, encoding and compression."""
    kind = rng.choice(["jsonl", "array", "indented", "csv", "parquet", "arrow", "feather"])
    if kind in ("parquet", "arrow", "feather"):
        table, sink = pa.Table.from_pylist(rows), io.BytesIO()
        if kind == "parquet":
            pq.write_table(table, sink, compression=rng.choice(["none", "snappy", "zstd"]))
        else:
            opener = pa.ipc.new_stream if kind == "arrow" else pa.ipc.new_file
            with opener(sink, table.schema) as writer:
                writer.write_table(table)
        data = sink.getvalue()
    else:
        if kind == "jsonl":
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        elif kind == "csv":
            cells = [",".join('"' + str(v).replace('"', '""') + '"' for v in row.values())
                     for row in rows]  # fmt: skip
            text = "\r\n".join([",".join(rows[0]), *cells])
        else:
            text = json.dumps(rows, indent=2 if kind == "indented" else None)
        data = text.encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le"]))
    pack = rng.choice([bytes, bytes, gzip.compress, lambda d: pa.compress(d, "zstd", asbytes=True)])
    return mutated(bytes(pack(mutated(data, rng))), rng) if rng.random() < 0.5 else bytes(
        pack(mutated(data, rng))
    )  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """``data`` with a few faults."""
    out = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        at, size = rng.randrange(len(out) + 1), rng.choice([1, 1, 4, 50])
        fault = rng.randrange(6)
        if fault == 0:
            out[at : at + size] = rng.randbytes(size)
        elif fault == 1:
            del out[at : at + size]
        elif fault == 2:
            out[at:at] = rng.choice(
                [b'"', b"\n", b"\0", b"[", b"}", b",", b"\xff", b"\xed\xa0\x80"]
            )
        elif fault == 3:
            del out[at:]
        elif fault == 4:
            out[at:at] = out[at : at + size] * 2
        else:
            out = out[at:] + out[:at]
    return bytes(out)


def check(path: str, name: str, rng: random.Random) -> str:
    """What came of the file: ``records``, ``rejects``, ``nothing`` or the name of our error.

    Raises:
        Exception: whatever is none of ours.
    """
    job = Job("fuzz", name, path, "auto", {}, None, rng.random() < 0.3,
              control=("<|im_end|>",) if rng.random() < 0.3 else ())  # fmt: skip
    try:
        part = parse_file(job)
    except (UserError, DeliaError) as error:
        return type(error).__name__
    if part.read != len(part.records) + len(part.rejects) + len(part.damages):
        raise AssertionError(f"{part.read} rows read, not all accounted for")
    for row in part.records.to_pylist():
        assert row["prompt"][-1]["role"] == "user", row
        assert row["prompt"][-1]["content"].strip(), row
        assert row["answer"] is None or row["answer"].strip(), row
        assert "\0" not in row["prompt"][-1]["content"], row
    for table in (part.records, part.rejects):
        numbers = table.column("row").to_pylist()
        assert numbers == sorted(set(numbers)), numbers
    return "records" if len(part.records) else "rejects" if len(part.rejects) else "nothing"


def fuzz(files: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Check ``files`` mutated files in ``folder``.

    Returns:
        What came of them, and the tracebacks of what must not happen.
    """
    outcomes: Counter[str] = Counter()
    faults = []
    for number in range(files):
        rng = random.Random(f"{seed}/{number}")
        name = rng.choice(["x.jsonl", "x.json", "x.csv", "x.parquet", "x.arrow", "x.txt", "x.en"])
        path = folder / f"{number}-{name}"
        path.write_bytes(packed(rows_of(rng), rng))
        try:
            outcomes[check(str(path), name, rng)] += 1
            path.unlink()
        except Exception:
            outcomes["fault"] += 1
            faults.append(f"{path}\n{traceback.format_exc()}")
    return outcomes, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder, began = Path(tempfile.mkdtemp(prefix="fuzz-ingest-")), time.monotonic()
    outcomes, faults = fuzz(arguments.files, arguments.seed, folder)
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    if not faults:
        folder.rmdir()
    print(
        json.dumps(
            {
                "benchmark": "fuzz_ingest",
                "date": datetime.now(UTC).date().isoformat(),
                "device": f"CPU, {os.cpu_count()} cores",
                "files": arguments.files,
                "seed": arguments.seed,
                "seconds": round(time.monotonic() - began, 1),
                "outcomes": dict(outcomes),
                "not_ours": len(faults),
            }
        )
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
