"""Tampered files of a finished run: only errors of ours or an unchanged result come of them, and
nothing outside the run is written or executed.

    python benchmarks/fuzz_storage.py --run runs/miniature --files 10000

``--run`` is any finished run (a copy of it is what is tampered with, beside a sweep's records, a
checkpoint and parts of an evaluation that are added to it); without it a small one is made.
Each case changes one file (bytes, length, type, place, content by the rules of its format), then
asks everything that reads it. In every third case the stage's manifest and the file's seal are
made to fit, as somebody who can write there would: then a changed result is his right, but errors
must still be ours. The last line is JSON; exit code 1 if anything else happened.
"""

import argparse
import functools
import hashlib
import json
import os
import pickle
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data  # noqa: F401  -- registers the types whose columns are unpickled
import storage_readers
from storage_readers import OF_FOLDER, digest_of, readers

from delia_ray.artifacts import MANIFEST, Folder
from delia_ray.errors import DeliaError
from delia_ray.stored import SEAL, sealed, unsealed
from delia_ray.tables import open_arrow, open_parquet

PATHS = ("../../../victim", "/etc/passwd", "..", ".", "", "a/../../victim", "\0", "~", "con|x",
         "file:///tmp/x", "{victim}", "{victim}/secret.json")  # fmt: skip
HUGE: tuple[Any, ...] = (10**40, -(10**40), 1e308, -1, 0, 2**63, float("nan"), float("inf"))
VALUES: tuple[Any, ...] = (None, True, [], {}, "x", "x" * 10_000, [[]], {"a": {"b": 1}}, 3.5)


@dataclass
class Case:
    """One tampered file."""

    path: Path
    """Of the file, in the copy of the run."""
    how: str
    fits: bool
    """Whether seal and manifest were made to fit."""


class Evil:
    """Writes a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (open, (str(self.mark), "w"))


# --- one file --------------------------------------------------------------------------------


def _bytes(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """``data`` as a disk or a careless tool would spoil it."""
    at = rng.randrange(max(1, len(data)))
    how = rng.choice(["flip", "flip", "flip", "cut", "cut", "more", "empty", "noise", "zero"])
    if how == "flip":
        changed = bytearray(data or b"\0")
        for _ in range(rng.choice([1, 1, 1, 4, 32])):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return how, bytes(changed)
    if how == "zero":
        return how, data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]
    noise = rng.randbytes(rng.choice([1, 100, 5000]))
    return how, {"cut": data[:at], "more": data + noise, "empty": b"", "noise": noise}[how]


def _json(data: bytes, rng: random.Random, victim: str) -> tuple[str, bytes]:
    """JSON with one value of another type, a path, a huge number, or nested without end."""
    how = rng.choice(["value", "value", "path", "huge", "gone", "new key", "deep", "bare"])
    if how == "deep":
        depth = rng.choice([100, 5000, 200_000])
        return how, b'{"a":' * depth + b"1" + b"}" * depth
    if how == "bare":
        return how, json.dumps(rng.choice([*VALUES, *HUGE])).encode()
    tree = json.loads(data)
    holder, key = _somewhere(tree, rng)
    if holder is None:
        return "empty", b""
    if how == "gone":
        del holder[key]
    elif how == "new key" and isinstance(holder, dict):
        holder[rng.choice(PATHS).format(victim=victim)] = holder[key]
    else:
        new = {"path": [p.format(victim=victim) for p in PATHS], "huge": HUGE}.get(how, VALUES)
        holder[key] = rng.choice(list(new))
    return how, json.dumps(tree).encode()


def _somewhere(tree: Any, rng: random.Random) -> tuple[Any, Any]:
    """A holder of a value inside ``tree``, and the value's key there."""
    holder, key = None, None
    while isinstance(tree, dict | list) and tree and (holder is None or rng.random() < 0.75):
        holder = tree
        key = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
        tree = holder[key]
    return holder, key


def _table(data: bytes, rng: random.Random, evil: bytes) -> tuple[str, bytes]:
    """A table with other columns, types, values or an extension type, as parquet."""
    table = open_parquet(pa.BufferReader(data)).read()
    how, table = _columns(table, rng, evil)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return how, bytes(sink.getvalue())


def _arrow(data: bytes, rng: random.Random, evil: bytes) -> tuple[str, bytes]:
    """The same of an Arrow file; sometimes a stream in its place."""
    how, table = _columns(open_arrow(pa.BufferReader(data)).read_all(), rng, evil)
    sink = pa.BufferOutputStream()
    opener = rng.choice([pa.ipc.new_file, pa.ipc.new_file, pa.ipc.new_stream])
    with opener(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1024)
    return how, bytes(sink.getvalue())


def _columns(table: pa.Table, rng: random.Random, evil: bytes) -> tuple[str, pa.Table]:
    how = rng.choice(["pickled", "nested", "drop", "rename", "retype", "null", "fewer", "twice"])
    at = rng.randrange(max(1, table.num_columns))
    name = table.column_names[at]
    meta = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object",
            b"ARROW:extension:metadata": b""}  # fmt: skip
    column = pa.array([evil] * len(table), pa.large_binary())
    field = pa.field(name, pa.large_binary(), metadata=meta)
    if how == "nested":
        column = pa.StructArray.from_arrays([column], fields=[field])
        field = pa.field(name, column.type)
    if how in ("pickled", "nested"):
        if rng.random() < 0.5:
            return how, table.set_column(at, field, column)
        return how, table.append_column(field.with_name("extra"), column)
    if how == "drop":
        return how, table.drop_columns(name)
    if how == "rename":
        names = [
            rng.choice(PATHS) or "x" if i == at else n for i, n in enumerate(table.schema.names)
        ]
        return how, table.rename_columns(names)
    if how == "retype":
        column = pa.array([rng.choice(["x", "../x"])] * len(table), pa.string())
        return how, table.set_column(at, pa.field(name, pa.string()), column)
    if how == "null":
        kind = table.schema.field(at).type
        return how, table.set_column(at, pa.field(name, kind), pa.nulls(len(table), kind))
    return how, table.slice(1) if how == "fewer" else pa.concat_tables([table, table])


# --- a run -----------------------------------------------------------------------------------


class Place:
    """A copy of a run that is tampered with and mended again."""

    def __init__(self, run: Path, scratch: Path) -> None:
        self.base = scratch / "base"
        self.run = self.base / "runs" / run.name
        shutil.copytree(run, self.run, ignore=shutil.ignore_patterns("train", "log.txt"))
        if (run.parent / "cache").exists():
            shutil.copytree(run.parent / "cache", self.base / "runs" / "cache")
        self.victim = scratch / "victim"
        self.victim.mkdir()
        (self.victim / "secret.json").write_text('{"stage": "report"}')
        (self.victim / "secret.parquet").write_bytes(b"PAR1")
        self.mark = scratch / "MARK"
        self.scratch = scratch
        storage_readers.add_pieces(self.run)
        self.readers = readers(self.run)
        self.readers["report"](self.run)  # by the code of now, as each time after
        self.wanted = {name: digest_of(read(self.run)) for name, read in self.readers.items()}
        again = {name: digest_of(read(self.run)) for name, read in self.readers.items()}
        unstable = [name for name in again if again[name] != self.wanted[name]]
        assert not unstable, f"{unstable} give another result the second time"
        self.kept = {p: p.read_bytes() for p in self._files()}
        self.stamps = {p: self._stamp(p) for p in self.kept}
        self.files = sorted(self.kept)
        self.outside = self._outside()
        self.evil = pickle.dumps(Evil(self.mark))

    def _files(self) -> list[Path]:
        found = []
        for folder, _, names in os.walk(self.base):
            found += [Path(folder) / name for name in names]
        return found

    @staticmethod
    def _stamp(path: Path) -> tuple[int, int, int]:
        status = path.lstat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _outside(self) -> list[Any]:
        """All that lies beside the run and its cache."""
        seen = sorted(p for p in self.scratch.iterdir() if p != self.base)
        inside = [sorted(p.iterdir()) for p in (self.base, self.base / "runs", self.victim)]
        held = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(self.victim.iterdir())]
        return [seen, inside, held]

    def kind(self, path: Path) -> str:
        """A key of ``OF_FOLDER``."""
        parts = path.relative_to(self.base / "runs").parts
        for special in ("checkpoints", "parts"):
            if special in parts:
                return special
        return "cache" if parts[0] == "cache" else ("" if len(parts) == 2 else parts[1])

    def mend(self) -> None:
        """Everything as it was."""
        for folder, names, files in os.walk(self.base):
            for name in [*names, *files]:
                path = Path(folder) / name
                if path.is_symlink() or (path in self.kept and path.is_dir()):
                    path.unlink() if path.is_symlink() else shutil.rmtree(path)
        for path in set(self._files()) - set(self.kept):
            path.unlink()
        for path, data in self.kept.items():
            if not path.exists() or self._stamp(path) != self.stamps[path]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                self.stamps[path] = self._stamp(path)

    # --- tampering ---------------------------------------------------------------------------

    def tamper(self, rng: random.Random) -> Case:
        """Change one file."""
        path = rng.choice(self.files)
        data, fits = self.kept[path], rng.random() < 1 / 3
        if rng.random() < 0.12:
            # What goes by files alone is not done where one is gone.
            free = self.kind(path) in ("cache", "parts", "trials", "checkpoints")
            return Case(path, self._replace(path, rng), free)
        ways: list[Callable[[], tuple[str, bytes]]] = [lambda: _bytes(data, rng)]
        special = {
            ".json": functools.partial(_json, data, rng, str(self.victim)),
            ".parquet": functools.partial(_table, data, rng, self.evil),
            ".arrow": functools.partial(_arrow, data, rng, self.evil),
        }.get(path.suffix)
        if special is not None:
            ways += [special] * 2
        way = rng.choice(ways)
        how, changed = way()
        # These tables have no manifest that could say what they were.
        fits |= (
            way is special and path.suffix == ".parquet" and self.kind(path) in ("cache", "parts")
        )
        if fits and path.suffix == ".json":
            changed = _resealed(changed)
        path.write_bytes(changed)
        if fits:
            self._fit_manifest(path, changed)
        return Case(path, how, fits)

    def _replace(self, path: Path, rng: random.Random) -> str:
        """Another thing in the file's place, or in that of a folder above it."""
        how = rng.choice(
            ["gone", "folder", "link", "link to nothing", "loop", "swap", "folder link"]
        )
        if how == "swap":
            path.write_bytes(self.kept[rng.choice(self.files)])
            return how
        if how == "folder link":
            above = rng.choice([p for p in path.parents if self.run in p.parents] or [path])
            shutil.rmtree(above) if above.is_dir() else above.unlink()
            above.symlink_to(self.victim)
            return how
        path.unlink()
        if how == "folder":
            path.mkdir()
        targets = {"link": self.victim / f"secret{path.suffix}", "loop": path,
                   "no link": self.victim / "new" / "file"}  # fmt: skip
        if how in targets:
            path.symlink_to(targets[how])
        return how

    def _fit_manifest(self, path: Path, changed: bytes) -> None:
        for above in path.parents:
            manifest = above / MANIFEST
            if manifest.exists() and manifest != path:
                tree = unsealed(json.loads(manifest.read_text()))
                tree["digests"][str(path.relative_to(above))] = hashlib.sha256(changed).hexdigest()
                Folder(str(above)).write_json(MANIFEST, tree)
                return


def _resealed(data: bytes) -> bytes:
    try:
        tree = json.loads(data)
        if isinstance(tree, dict) and tree.pop(SEAL, None) is not None:
            return json.dumps(sealed(tree)).encode()
    except (ValueError, RecursionError):
        pass
    return data


def _asked(case: Case, place: Place, rng: random.Random) -> list[str]:
    """One of those who read the file; the whole report now and then, since it takes longest."""
    names = OF_FOLDER.get(place.kind(case.path), ("figures",))
    return [rng.choice(names), *(["report"] if rng.random() < 0.01 else [])]


def fuzz(files: int, seed: int, place: Place) -> tuple[Counter[str], list[str]]:
    """Outcomes of ``files`` tampered files, and what must not be, in words."""
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    rng = random.Random(seed)
    for number in range(files):
        case = place.tamper(rng)
        said = f"file {number}: {case.how} {case.path}" + (" (made to fit)" if case.fits else "")
        for name in _asked(case, place, rng):
            try:
                found = digest_of(place.readers[name](place.run))
                same = found == place.wanted[name]
                outcomes["unchanged" if same else "changed"] += 1
                if not same and not case.fits:
                    faults.append(f"{said}: {name} gives another result")
            except DeliaError:
                outcomes["errors of ours"] += 1
            except Exception:
                outcomes["not ours"] += 1
                faults.append(f"{said}: {name}\n{traceback.format_exc(limit=-6)}")
        if place.mark.exists() or place._outside() != place.outside:
            outcomes["outside"] += 1
            faults.append(f"{said}: something outside the run was written")
            place.mark.unlink(missing_ok=True)
            place.outside = place._outside()
        place.mend()
    return outcomes, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        run = arguments.run or storage_readers.small_run(Path(scratch) / "made")
        (work := Path(scratch) / "work").mkdir()
        outcomes, faults = fuzz(arguments.files, arguments.seed, Place(run, work))
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    print(
        json.dumps(
            {
                "files": arguments.files, "seed": arguments.seed,
                "read": sum(outcomes.values()) - outcomes["outside"],
                "unchanged": outcomes["unchanged"], "errors_of_ours": outcomes["errors of ours"],
                "changed_but_made_to_fit": outcomes["changed"],
                "not_ours": outcomes["not ours"], "outside": outcomes["outside"],
                "faults": len(faults), "seconds": round(time.monotonic() - began),
                "date": datetime.now(UTC).date().isoformat(),
            }
        )
    )  # fmt: skip
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
