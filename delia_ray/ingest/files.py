"""Which files a source means, and what identifies their content."""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from delia_ray.errors import UserError
from delia_ray.ingest import hub
from delia_ray.ingest.names import ARCHIVES, PACKED, SUFFIXES, is_aside, is_data

_ABOUT = re.compile(r"(?:readme|licen[cs]e|notice|changelog|citation)\b[^/]*$", re.IGNORECASE)
"""Files that are about the others."""
_README = 2**20
"""Bytes of a README that are looked at."""
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


@dataclass(frozen=True)
class Found:
    """What a path means."""

    files: list[InputFile]
    """Sorted by name."""
    not_read: dict[str, str]
    """Other files of the folder -> why they are not read."""


def find(path: str, setting: str, split: str = "train", subset: str | None = None) -> Found:
    """The files of a file, glob or folder; of a folder those in it and in its subfolders that
    `names.is_data` knows, which are neither hidden nor metadata. Of a data set on the hub, of
    several splits that ``datasets`` saved, or of a folder whose files are of several splits, those
    of ``split``.

    Raises:
        UserError: nothing is there, or it cannot be reached; names ``setting``.
    """
    if hub.names_dataset(path):
        return Found(_from_hub(path, setting, split, subset), {})
    with _explained(path, setting):
        fs, root = fsspec.core.url_to_fs(path)
        local = isinstance(fs, LocalFileSystem)
        if fs.isfile(root):
            name = root.rstrip("/").rsplit("/", 1)[-1]
            return Found([InputFile(name, root if local else path, local)], {})
        not_read: dict[str, str] = {}
        if fs.isdir(root):
            root = _saved_split(fs, root, path, setting, split)
            base, inside = root.rstrip("/"), fs.find(root)
            names, not_read = _of_folder(fs, base, inside, setting, path, split, subset)
            paths = [f"{base}/{name}" for name in names]
            problem = "no file in this folder can be read by its name"
            if not_read:
                held = ", ".join(list(not_read)[:5]) + (" ..." if len(not_read) > 5 else "")
                problem += f"; it holds {held} (a glob reads files of any name)"
            else:
                ends = ", ".join((*SUFFIXES, *ARCHIVES))
                problem = f"no file in this folder ends in {ends} (or {', '.join(PACKED)} after it)"
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
    files = [
        InputFile(p.removeprefix(f"{base}/"), p if local else fs.unstrip_protocol(p), local)
        for p in sorted(paths)
    ]
    return Found(files, not_read)


def _of_folder(
    fs: Any, base: str, paths: list[str], setting: str, path: str, split: str, subset: str | None
) -> tuple[list[str], dict[str, str]]:
    """Names below ``base`` of the files to read, and of the others with the reason."""
    names = [p.removeprefix(f"{base}/") for p in paths]
    data = [name for name in names if is_data(name)]
    not_read = {
        name: "its name is none of data"
        for name in names
        if name not in data and not is_aside(name) and not _ABOUT.match(name)
    }
    url = base if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(base)
    readme = ""
    if "README.md" in names:
        readme = fs.cat_file(f"{base}/README.md", end=_README).decode("utf-8", "replace")
    where = setting.removesuffix(".path")
    try:
        splits = hub.splits_of(url, names, readme, subset)
    except ValueError as error:
        said = str(error).replace("set subset", f"set {where}.subset")
        raise UserError(f"{where}.path={path}: {said}") from None
    splits = {name: own for name, own in splits.items() if any(map(is_data, own)) or readme}
    if not splits:
        return data, not_read
    if split not in splits:
        raise UserError(
            f"{where}.path={path} has the splits {sorted(splits)} by its files' names or README, "
            f"and not {split!r}; set {where}.split, or name files by a glob"
        )
    for other, own in splits.items():
        not_read.update(dict.fromkeys(own, f"split {other}"))
    for name in data:
        not_read.setdefault(name, "of no split")
    chosen = [name for name in splits[split] if is_data(name) or not is_aside(name)]
    chosen = [name for name in chosen if not _ABOUT.match(name)]
    return chosen, {name: why for name, why in not_read.items() if name not in chosen}


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


def _from_hub(path: str, setting: str, split: str, subset: str | None) -> list[InputFile]:
    with _explained(path, setting):
        urls = hub.files_of(path, split, subset)
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
