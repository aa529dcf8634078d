"""Which files a source means, and what identifies their content."""

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from delia_ray.errors import UserError
from delia_ray.ingest import hub

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".arrow", ".feather")
"""What is read from a folder, each also with .gz or .zst; a file or glob may have any name."""
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
    aligned: "InputFile | None" = None
    """The file whose lines translate this one's."""


def find(path: str, setting: str, split: str = "train") -> list[InputFile]:
    """The files of a file, glob or folder, sorted by name; of a folder those in it and in
    its subfolders that `SUFFIXES` names and that are neither hidden nor metadata. Of a data set
    on the hub, or of several splits that ``datasets`` saved, those of ``split``.

    Raises:
        UserError: nothing is there, or it cannot be reached; names ``setting``.
    """
    if hub.names_dataset(path):
        return _from_hub(path, setting, split)
    with _explained(path, setting):
        fs, root = fsspec.core.url_to_fs(path)
        local = isinstance(fs, LocalFileSystem)
        if fs.isfile(root):
            name = root.rstrip("/").rsplit("/", 1)[-1]
            return [InputFile(name, root if local else path, local)]
        if fs.isdir(root):
            root = _saved_split(fs, root, path, setting, split)
            base, paths = root.rstrip("/"), [p for p in fs.find(root) if _is_data(p, root)]
            problem = (
                f"no file in this folder ends in {', '.join(SUFFIXES)} (or .gz, .zst after it)"
            )
        elif any(sign in root for sign in "*?["):
            found = fs.glob(root, detail=True)
            base, paths = _plain_part(root), [p for p in found if found[p]["type"] == "file"]
            problem = "no file matches"
        else:
            base, paths, problem = "", [], "no such file or folder"
            if hub.looks_like_name(path):
                problem += f"; for a data set of the hub write hf://datasets/{path}"
    if not paths:
        place = f" (looked for {root})" if local and root != path else ""
        raise UserError(f"{setting}={path}: {problem}{place}")
    return [
        InputFile(p.removeprefix(f"{base}/"), p if local else fs.unstrip_protocol(p), local)
        for p in sorted(paths)
    ]


def pair(first: list[InputFile], second: list[InputFile], setting: str) -> list[InputFile]:
    """``first`` with the file of ``second`` at the same place beside each.

    Raises:
        UserError: there are not as many.
    """
    if len(first) != len(second):
        raise UserError(
            f"{setting}.parallel.path names {len(second)} files and {setting}.path "
            f"{len(first)}; each needs the one that translates it"
        )
    return [replace(a, aligned=b) for a, b in zip(first, second, strict=True)]


def _from_hub(path: str, setting: str, split: str) -> list[InputFile]:
    with _explained(path, setting):
        urls = hub.files_of(path, split)
        names = hub.relative(urls)
        return [InputFile(n, u, "://" not in u) for n, u in zip(names, urls, strict=True)]


def _saved_split(fs: Any, root: str, path: str, setting: str, split: str) -> str:
    """The folder of ``split`` where ``datasets`` saved several; ``root`` itself elsewhere."""
    index = f"{root.rstrip('/')}/dataset_dict.json"
    if not fs.exists(index):
        return root
    splits = json.loads(fs.cat_file(index)).get("splits", [])
    if split not in splits:
        where = setting.removesuffix(".path")
        raise UserError(f"{where}.path={path} has the splits {splits}; set {where}.split")
    return f"{root.rstrip('/')}/{split}"


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
    name = parts[-1].lower().removesuffix(".gz").removesuffix(".zst")
    hidden = any(part.startswith((".", "_")) for part in parts)
    # `datasets` leaves what its functions gave beside what it saved.
    cached = name.startswith(("cache-", "tmp")) and name.endswith(".arrow")
    return name.endswith(SUFFIXES) and not hidden and not cached and name not in _METADATA


def _plain_part(pattern: str) -> str:
    """The folders of a glob before its first wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
    return "/".join(parts[:first])


@contextmanager
def _explained(path: str, setting: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # no driver, no access: every filesystem has errors of its own
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{setting}={path}: cannot be read ({reason})") from None
