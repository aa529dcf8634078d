"""Which files a source means, and what identifies their content."""

import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from delia_ray.errors import UserError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
"""What is read from a folder, each also with .gz; a file or glob may have any name."""
_METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_IDENTITY = ("ETag", "etag", "md5Hash", "blob_id")


@dataclass(frozen=True)
class InputFile:
    """One file of a source."""

    name: str
    """Relative to the source's folder, or the file's own name."""
    url: str
    """An absolute local path or an fsspec URL."""
    local: bool
    """On a disk of this machine, which other nodes of a cluster may not have."""


def find(path: str, setting: str) -> list[InputFile]:
    """The files of a file, glob or folder, sorted by name; of a folder those in it and in
    its subfolders that `SUFFIXES` names and that are neither hidden nor metadata.

    Raises:
        UserError: nothing is there, or it cannot be reached; names ``setting``.
    """
    with _explained(path, setting):
        fs, root = fsspec.core.url_to_fs(path)
        local = isinstance(fs, LocalFileSystem)
        if fs.isfile(root):
            name = root.rstrip("/").rsplit("/", 1)[-1]
            return [InputFile(name, root if local else path, local)]
        if fs.isdir(root):
            base, paths = root.rstrip("/"), [p for p in fs.find(root) if _is_data(p, root)]
            problem = f"no file in this folder ends in {', '.join(SUFFIXES)} (or .gz after it)"
        elif any(sign in root for sign in "*?["):
            found = fs.glob(root, detail=True)
            base, paths = _plain_part(root), [p for p in found if found[p]["type"] == "file"]
            problem = "no file matches"
        else:
            base, paths, problem = "", [], "no such file or folder"
    if not paths:
        place = f" (looked for {root})" if local and root != path else ""
        raise UserError(f"{setting}={path}: {problem}{place}")
    return [
        InputFile(p.removeprefix(f"{base}/"), p if local else fs.unstrip_protocol(p), local)
        for p in sorted(paths)
    ]


def digest_file(file: InputFile, setting: str) -> str:
    """What changes when the file's content does: SHA-256 of a local file, a remote one's
    ETag or checksum as its filesystem reports it.

    Raises:
        UserError: the file cannot be read.
    """
    with _explained(file.url, setting):
        if file.local:
            status = os.stat(file.url)
            return _sha256(file.url, status.st_size, status.st_mtime_ns)
        fs, path = fsspec.core.url_to_fs(file.url)
        info: dict[str, Any] = fs.info(path)
        known = [f"{key}:{info[key]}" for key in _IDENTITY if info.get(key)]
        return f"{info.get('size')}:{known[0]}" if known else str(fs.checksum(path))


@functools.lru_cache(maxsize=4096)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    """Size and time only say when to read again, as a sweep asks for the same file often."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_data(path: str, root: str) -> bool:
    parts = path.removeprefix(root).strip("/").split("/")
    name = parts[-1].lower().removesuffix(".gz")
    hidden = any(part.startswith((".", "_")) for part in parts)
    return name.endswith(SUFFIXES) and not hidden and name not in _METADATA


def _plain_part(pattern: str) -> str:
    """The folders of a glob before its first wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
    return "/".join(parts[:first])


@contextmanager
def _explained(path: str, setting: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # no driver, no access: every filesystem has errors of its own
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{setting}={path}: cannot be read ({reason})") from None
