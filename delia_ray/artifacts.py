"""Run folders: files on any filesystem, fingerprints, manifests, atomic publishing.

``<storage>/<run>/<stage>/<fingerprint>/`` holds what one stage made from one
configuration and one set of inputs. ``manifest.json`` is written last, in one atomic
step, and is the done marker: a folder without it is unfinished, whatever else it holds.
Object stores cannot rename folders, so the marker file is the only protocol that is
atomic on all of them. A changed setting changes the fingerprint and so the folder; the
old result stays and is found again when the setting goes back.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.errors import DeliaError
from delia_ray.names import is_scratch, leads_out
from delia_ray.records import schema_of
from delia_ray.scratch import clear, remove, scratch
from delia_ray.stored import (
    Damaged,
    Table,
    check_manifest,
    digest_of,
    parse_json,
    reading,
    sealed,
    unsealed,
)

MANIFEST = "manifest.json"
_UNSEALED = ("checkpoints", "train")
"""Of a finished stage: folders that serve those who train, have checks of their own, and are no
part of its result."""
_LITTLE = 8 * 2**20
"""Bytes of a remote file up to which it is read once more to see that it is whole."""
ROW_GROUP = 8192
"""Rows of a table that are read together; later stages share a table out by these."""


@dataclass(frozen=True)
class Folder:
    """A folder on any fsspec filesystem; picklable, since it is only a URL."""

    url: str
    root: str = field(default="", compare=False)
    """The local folder that no link in it may lead out of; empty where nobody minds."""
    digests: Mapping[str, str] | None = field(default=None, compare=False, repr=False)
    """Of a finished stage: what its files must be, see `stored.digest_of`."""
    inside: str = field(default="", compare=False)
    """Of a folder within such a stage: where in it, with a slash behind."""

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        fs, path = fsspec.core.url_to_fs(self.url)
        return fs, path.rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        own = ("url", "root", "digests", "inside")
        return {k: self.__dict__[k] for k in own}  # filesystems hold connections: these stay

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def fs(self) -> Any:
        """The fsspec filesystem; also what pyarrow takes as ``filesystem``."""
        return self._opened[0]

    @property
    def path(self) -> str:
        """The folder's path within ``fs``."""
        return self._opened[1]

    @property
    def is_local(self) -> bool:
        """Whether ordinary file calls reach it."""
        return "file" in _protocols(self.fs)

    def __truediv__(self, name: str) -> "Folder":
        if leads_out(name):
            raise DeliaError(f"{self}: {name!r} is no folder inside it")
        url = f"{self.url.rstrip('/')}/{name}"
        return Folder(url, self.root, self.digests, f"{self.inside}{name}/")

    def rooted(self) -> "Folder":
        """The same, as a place that no link in it may lead out of."""
        return replace(self, root=self.path if self.is_local else "")

    def finished(self) -> "Folder":
        """The same; where it is that of a finished stage, what is read from it is held against
        the digests in its manifest.

        Raises:
            DeliaError: the manifest is damaged.
        """
        manifest = self.manifest()
        return self if manifest is None else replace(self, digests=manifest["digests"], inside="")

    def __str__(self) -> str:
        return self.path if self.is_local else self.url

    def file(self, name: str) -> str:
        """Path of a file within ``fs``.

        Raises:
            DeliaError: it is not inside the folder, or a link leads it out of ``root``.
        """
        path = self._place(name)
        self._stay(path)
        return path

    def _place(self, name: str) -> str:
        if leads_out(name):
            raise DeliaError(f"{self}: {name!r} is no file inside it")
        return f"{self.path}/{name}"

    def _stay(self, path: str) -> None:
        if not self.root or not self.is_local:
            return
        real, root = os.path.realpath(path), os.path.realpath(self.root)
        if os.path.commonpath([real, root]) != root:
            raise DeliaError(
                f"{path} leads to {real}, out of {self.root}: a link stands in its way. Remove the "
                "link; to keep runs elsewhere, set storage to that place itself"
            )

    def exists(self, name: str = "") -> bool:
        """
        Raises:
            DeliaError: a finished stage left the file ``name``, and it is gone.
        """
        found = bool(self.fs.exists(self.file(name) if name else self.path))
        if not found and self.digests is not None and f"{self.inside}{name}" in self.digests:
            raise Damaged(f"{self}/{name}", "the stage left it, and it is gone")
        return found

    def names(self) -> list[str]:
        """Names of files and folders directly inside; empty where there is no folder."""
        if not self.exists():
            return []
        self.fs.invalidate_cache()
        return sorted(p.rstrip("/").rsplit("/", 1)[-1] for p in self.fs.ls(self.path, detail=False))

    def write_bytes(self, name: str, data: Any) -> None:
        """Write one file so that readers see all of it or nothing."""
        target = self.file(name)
        if not self.is_local:
            self.fs.pipe_file(target, bytes(data))  # one PUT: object stores publish it whole
            return
        with scratch(target) as path, open(path, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def read_bytes(self, name: str) -> bytes:
        """
        Raises:
            DeliaError: it is missing, cannot be read, or is not what the stage left.
        """
        with reading(f"{self}/{name}"):
            data = bytes(self.fs.cat_file(self.file(name)))
            self._verify(name, data)
            return data

    def write_text(self, name: str, text: str) -> None:
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any, seal: bool = True) -> None:
        """Write JSON; a mapping gets a ``seal`` by which damage shows, unless it is made for
        others to read."""
        own = sealed(value) if seal and isinstance(value, Mapping) else value
        self.write_text(name, json.dumps(own, indent=1, ensure_ascii=False) + "\n")

    def read_json(self, name: str, sealed: bool = False) -> Any:
        """
        Args:
            name: of the file.
            sealed: it must have a seal.

        Raises:
            DeliaError: it is missing, not JSON, or not as it was written.
        """
        with reading(f"{self}/{name}"):
            return unsealed(parse_json(self.read_bytes(name)), needed=sealed)

    def check(self, name: str) -> None:
        """
        Raises:
            DeliaError: the file is missing, or not what the finished stage left.
        """
        with reading(f"{self}/{name}"):
            self._verify(name)

    def _verify(self, name: str, data: bytes | None = None) -> None:
        """
        Args:
            name: of a file.
            data: its content, where it was read already.

        Raises:
            Damaged: the file is not what the finished stage left. Large remote ones are not
                looked at: that would be reading them twice.
        """
        own = f"{self.inside}{name}"
        if self.digests is None or own == MANIFEST or own.split("/")[0] in _UNSEALED:
            return
        where, path = f"{self}/{name}", self.file(name)
        if (wanted := self.digests.get(own)) is None:
            raise Damaged(where, "the stage did not leave it")
        if data is not None:
            found = digest_of(io.BytesIO(data), len(data))
        elif self.is_local:
            status = os.stat(path)
            found = _local_digest(path, status.st_ino, status.st_size, status.st_mtime_ns)
        elif int(self.fs.size(path)) <= _LITTLE:
            found = self._digest(path)
        else:
            return
        if found != wanted:
            raise Damaged(where, "its digest is not the one in the stage's manifest")

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write ``table`` as parquet, atomically."""
        sink = pa.BufferOutputStream()
        pq.write_table(
            table, sink, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True
        )
        self.write_bytes(name, memoryview(sink.getvalue()))

    def write_tables(self, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
        """Write ``tables`` as one parquet file, atomically where it is local, with no more of
        them in memory than a row group needs."""
        target = self.file(name)
        with (
            scratch(target) if self.is_local else contextlib.nullcontext(target) as path,
            self.fs.open(str(path), "wb") as stream,
            pq.ParquetWriter(
                stream, schema, compression="zstd", write_page_checksum=True
            ) as writer,
        ):
            waiting = schema.empty_table()
            for table in tables:
                waiting = pa.concat_tables([waiting, table])
                whole = len(waiting) - len(waiting) % ROW_GROUP
                if whole:
                    writer.write_table(waiting.slice(0, whole), row_group_size=ROW_GROUP)
                    waiting = waiting.slice(whole).combine_chunks()
            writer.write_table(waiting, row_group_size=ROW_GROUP)

    @contextlib.contextmanager
    def table(self, name: str, schema: pa.Schema | None = None) -> Iterator[Table]:
        """A table, open.

        Args:
            name: of its file.
            schema: what it must have; None is what `records.schema_of` says.

        Raises:
            DeliaError: it is missing or damaged, or has another schema.
        """
        where = f"{self}/{name}"
        with contextlib.ExitStack() as stack:
            with reading(where):
                self._verify(name)
                stream = stack.enter_context(self.open(name))
            yield Table(stream, where, schema or schema_of(name))

    def open(self, name: str) -> Any:
        """A file as a seekable binary stream, by pyarrow itself where it is local."""
        path = self.file(name)
        return pa.OSFile(path) if self.is_local else self.fs.open(path, "rb")

    def read_table(
        self, name: str, columns: Sequence[str] | None = None, schema: pa.Schema | None = None
    ) -> pa.Table:
        """A whole table, or ``columns`` of it; arguments and errors as of ``table``."""
        with self.table(name, schema) as table:
            return table.read(columns)

    def read_first(self, name: str, columns: Sequence[str], rows: int) -> pa.Table:
        """The first ``rows`` rows of a table, without reading the rest of it."""
        with self.table(name) as table:
            found, held = [], 0
            for batch in table.batches(columns):
                found.append(batch)
                held += batch.num_rows
                if held >= rows:
                    break
            schema = pa.schema([table.schema.field(column) for column in columns])
            return pa.Table.from_batches(found, schema).slice(0, rows)

    def upload(self, local: Path, name: str) -> None:
        """Copy a local folder here as ``name``; on a local filesystem in one rename."""
        target = self.file(name)
        if not self.is_local:
            self.fs.put(f"{local}/", f"{target}/", recursive=True)
            return
        with scratch(target) as path:
            shutil.copytree(local, path)
            self.remove(name)

    def download(self, name: str) -> str:
        """A local path with the content of the file or folder ``name``.

        The thing itself where it is local, else a copy in a temporary folder.
        """
        if self.is_local:
            whole = Path(self.file(name))
            if self.digests is not None and whole.is_dir():
                for path in sorted(p for p in whole.rglob("*") if not p.is_dir()):
                    with reading(str(path)):
                        self._verify(f"{name}/{path.relative_to(whole)}")
            elif self.digests is not None:
                self._verify(name)
            return str(whole)
        copy = tempfile.mkdtemp(prefix="delia-")
        target = f"{copy}/{name.rsplit('/', 1)[-1]}"
        self.fs.get(self.file(name), target, recursive=True)
        return target

    def remove(self, name: str) -> None:
        if not self.is_local:
            if self.exists(name):
                self.fs.rm(self.file(name), recursive=True)
            return
        path = Path(self._place(name))
        self._stay(str(path.parent))
        # A link itself, wherever it leads; and not by fsspec, which asks for the current folder,
        # and a job may have lost it.
        remove(path)

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None while the stage that fills this folder is unfinished."""
        if not self.exists(MANIFEST):
            return None
        with reading(f"{self}/{MANIFEST}"):
            return check_manifest(self.read_json(MANIFEST, sealed=True))

    def publish(self, manifest: dict[str, Any]) -> None:
        """Mark this folder finished; the last write of a stage."""
        if self.is_local:
            clear(self.path)
        names = [n for n in self.names() if not is_scratch(n) and n != MANIFEST]
        files = {n: self._describe(n) for n in names}
        digests = {}
        for name in (n for n in names if n not in _UNSEALED):
            for path in sorted(self.fs.find(self.file(name))):
                digests[path[len(self.path) + 1 :]] = self._digest(path)
        self.write_json(MANIFEST, {**manifest, "files": files, "digests": digests})

    def _digest(self, path: str) -> str:
        with self.fs.open(path, "rb") as stream:
            return digest_of(stream, int(self.fs.size(path)))

    def _describe(self, name: str) -> dict[str, Any]:
        """Bytes of a file or folder; of a table its digest too, see ``Stage.needs``."""
        described: dict[str, Any] = {"bytes": int(self.fs.du(self.file(name)))}
        if name.endswith(".parquet"):
            with self.fs.open(self.file(name), "rb") as stream:
                described["sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
        return described


@lru_cache(maxsize=4096)
def _local_digest(path: str, inode: int, size: int, mtime_ns: int) -> str:
    """Inode, size and time only say when to read again: a process opens a table many times."""
    with open(path, "rb") as stream:
        return digest_of(stream, size)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def open_storage(storage: str) -> Folder:
    """The folder or URL of ``storage``; relative local paths become absolute, because
    Ray's workers run in folders of their own."""
    return Folder(storage if "://" in storage else os.path.abspath(os.path.expanduser(storage)))
