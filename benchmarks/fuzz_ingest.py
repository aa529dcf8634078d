"""Mutated files: nothing but a record, a reject or an error of ours may come of them.

    python benchmarks/fuzz_ingest.py --files 10000

Each file is a good one in some container, compression, archive and encoding, with bytes changed,
cut out, put in, doubled or swapped. The rows that come out are checked too: records hold text that
can be encoded, rows are numbered upwards, and everything that went in is counted: rows are records,
rejects, beyond the limit or damage; lines are of rows, blank or of the header; characters of JSON
are in values, between them or in faults; and what was counted is what stands in the file, by
Python's own decompression and decoding. The last line is JSON (``unaccounted`` are files of which
anything is in no count); exit code 1 if anything else happened, with the file kept.
"""

import argparse
import bz2
import gzip
import io
import json
import lzma
import os
import random
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.errors import DeliaError, UserError
from delia_ray.ingest.opening import LOST, encoding_of
from delia_ray.ingest.parse import Job, Part, parse_file

KINDS = (
    "jsonl", "jsonl", "array", "indented", "arrays", "wrapped", "columns", "csv", "tsv", "unquoted",
    "semicolons", "sep", "parquet", "arrow", "feather", "tmx",
)  # fmt: skip
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
    kind = rng.choice(KINDS)
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
        elif kind in ("csv", "tsv", "semicolons", "sep"):
            sign = {"csv": ",", "tsv": "\t"}.get(kind, ";")
            cells = [sign.join('"' + str(v).replace('"', '""') + '"' for v in row.values())
                     for row in rows]  # fmt: skip
            first = ["sep=;"] if kind == "sep" else []
            text = "\r\n".join([*first, sign.join(rows[0]), *cells])
        elif kind == "unquoted":
            text = "".join(f'ein {n} "Haus\ta "house" {n}\n' for n in range(len(rows)))
        elif kind == "wrapped":
            text = json.dumps({"canary": "x", "data": rows}, indent=rng.choice([None, 1]))
        elif kind == "columns":
            table = {n: {str(i): r[n] for i, r in enumerate(rows)} for n in rows[0]}
            text = json.dumps(table)
        elif kind == "arrays":
            text = "\n".join(json.dumps(part) for part in (rows[:3], rows[3:]))
        elif kind == "tmx":
            units = "".join(
                f'<tu><tuv xml:lang="is"><seg>já {n}</seg></tuv>'
                f'<tuv xml:lang="en"><seg>yes &amp; {n}</seg></tuv></tu>\n'
                for n in range(len(rows))
            )
            text = f'<tmx version="1.4"><header srclang="is"/><body>{units}</body></tmx>'
        else:
            text = json.dumps(rows, indent=2 if kind == "indented" else None)
        data = text.encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le"]))
    pack = rng.choice(
        [bytes, bytes, bytes, gzip.compress, bz2.compress, lzma.compress, zipped, tarred,
         lambda d: pa.compress(d, "zstd", asbytes=True), lambda d: gzip.compress(tarred(d))]
    )  # fmt: skip
    return mutated(bytes(pack(mutated(data, rng))), rng) if rng.random() < 0.5 else bytes(
        pack(mutated(data, rng))
    )  # fmt: skip


def zipped(data: bytes) -> bytes:
    """``data`` as the only member that is read."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.md", b"about")
        archive.writestr("data/x.jsonl", data)
    return sink.getvalue()


def tarred(data: bytes) -> bytes:
    """``data`` as each of two members."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name in ("a.jsonl", "b.jsonl", "about.md"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


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
    limit = rng.choice([None, None, None, 2])
    part = parse_file(replace(job, limit=limit)) if limit else part
    if problem := unaccounted(part, limit, path):
        raise Unaccounted(problem)
    for row in part.records.to_pylist():
        assert row["prompt"][-1]["role"] == "user", row
        assert row["prompt"][-1]["content"].strip(), row
        assert row["answer"] is None or row["answer"].strip(), row
        assert "\0" not in row["prompt"][-1]["content"], row
    for table in (part.records, part.rejects, part.damages):
        numbers = table.column("row").to_pylist()
        assert numbers == sorted(set(numbers)), numbers
    if len(part.damages):
        return "damaged"
    return "records" if len(part.records) else "rejects" if len(part.rejects) else "nothing"


class Unaccounted(AssertionError):
    """Something of a file is in no count."""


def unaccounted(part: Part, limit: int | None, path: str) -> str:
    """What of a file is in no count, in words; "" where all is."""
    facts, damages = part.facts, part.damages["kind"].to_pylist()
    beyond = part.read - len(part.records) - len(part.rejects) - len(damages)
    if beyond < 0 or (beyond and limit is None) or (beyond and len(part.records) < (limit or 0)):
        return f"{part.read} rows, {beyond} of them in no count"
    if facts.rows + facts.faults + facts.damaged != part.read:
        return f"{facts} but {part.read} rows"
    if facts.characters != facts.inside + facts.between + facts.broken and not facts.damaged:
        return f"{facts.characters} characters: {facts}"
    if facts.characters and not facts.lines:
        return "" if damages or facts.members else _counted(path, facts.characters, "characters")
    if not facts.lines or facts.container not in ("jsonl", "csv", "tsv", "lines"):
        return ""
    placed = facts.blank + facts.header_lines + facts.continued + facts.rows + facts.faults
    cut = facts.lines - placed
    if cut < 0 or cut > facts.damaged:
        return f"{facts.lines} lines, {placed} in some count: {facts}"
    if facts.damaged or facts.members:
        return ""
    return _counted(path, facts.lines, "csv" if facts.container in ("csv", "tsv") else "lines")


def _counted(path: str, counted: int, unit: str) -> str:
    """Compare with what stands in the file by Python's own means."""
    data = Path(path).read_bytes()
    while True:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        elif data[:3] == b"BZh":
            data = bz2.decompress(data)
        elif data[:5] == b"\xfd7zXZ":
            data = lzma.decompress(data)
        elif data[:4] == b"\x28\xb5\x2f\xfd":
            return ""  # no decompressor of Python's own before 3.14
        else:
            break
    text = data.decode(encoding_of(data[: 64 * 1024]), LOST).removeprefix("\ufeff")
    found = len(text)
    if unit != "characters":
        text = text.replace("\r\n", "\n").replace("\r", "\n") if unit == "csv" else text
        found = text.count("\n") + (not text.endswith("\n") and bool(text))
    return "" if found == counted else f"{counted} {unit} counted, {found} there"


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
        except Unaccounted as error:
            outcomes["unaccounted"] += 1
            faults.append(f"{path}\n{error}")
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
                "unaccounted": outcomes["unaccounted"],
                "not_ours": outcomes["fault"],
            }
        )
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
