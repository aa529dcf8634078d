"""What a job needs from this machine: the recipe, and the files it names by relative paths."""

import glob
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.recipe_files import named_paths, with_paths

RECIPE = "recipe.yaml"
LARGEST = 400 * 2**20
"""Bytes; Ray's head keeps packages in memory and takes none above 500 MiB."""


@dataclass(frozen=True)
class Package:
    """A folder to upload."""

    folder: Path
    files: tuple[str, ...]
    """Everything in it, relative to it."""
    bytes: int


def pack(config: RunConfig, folder: Path) -> Package:
    """Fill ``folder`` with the recipe and what it names here.

    Relative paths are files of this machine and travel; absolute ones and URLs are taken for
    the cluster's own.

    Raises:
        UserError: a file is missing, there is too much of them, or runs would be kept where
            only the job's node sees them.
    """
    _check_storage(config)
    sources = [(key, path) for key, path in named_paths(config) if _travels(key, path)]
    found = {file: key for key, path in sources for file in _files(key, path)}
    total = sum(file.stat().st_size for file in found)
    if total > LARGEST:
        largest = max(found, key=lambda file: file.stat().st_size)
        raise UserError(
            f"the recipe names {total / 2**20:,.0f} MiB of files of this machine, and "
            f"{LARGEST / 2**20:,.0f} MiB can be sent with a job; put {found[largest]} (its "
            f"{largest} is the largest) where the cluster reaches it, and give its URL"
        )
    for file in found:
        target = folder / _place(os.path.relpath(file))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    moved = with_paths(config, lambda key, path: _place(path) if _travels(key, path) else path)
    cluster = moved.cluster.model_copy(update={"address": None, "num_cpus": None})
    tree = moved.model_copy(update={"cluster": cluster}).model_dump(mode="json", exclude_unset=True)
    (folder / RECIPE).write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
    files = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
    return Package(folder, tuple(files), total)


def _check_storage(config: RunConfig) -> None:
    storage = config.storage
    if "://" not in storage and not storage.startswith("/"):
        raise UserError(
            f"storage={storage} would lie in the job's own temporary folder; give a URL such as "
            "s3://bucket/runs, or the absolute path of a folder that all nodes share"
        )


def _travels(key: str, path: str) -> bool:
    if path.startswith("~"):
        raise UserError(f"{key}={path}: your home folder is not the cluster's; give another path")
    return "://" not in path and not path.startswith("/")


def _place(path: str) -> str:
    """Where a relative path lies in the package; those outside the working folder get a place
    below ``files``."""
    parts = Path(os.path.normpath(path)).parts
    ups = sum(part == ".." for part in parts)
    inside = Path(*parts[ups:]) if parts[ups:] else Path()
    return str(Path("files", f"up{ups}", inside) if ups else inside)


def _files(key: str, path: str) -> Iterator[Path]:
    """All files of a file, folder or glob."""
    one = Path(path)
    matches = [one] if one.exists() else [Path(p) for p in sorted(glob.glob(path, recursive=True))]
    files = [f for m in matches for f in (sorted(m.rglob("*")) if m.is_dir() else [m])]
    files = [f for f in files if f.is_file()]
    if not files:
        raise UserError(
            f"{key}={path}: no such file here; relative paths travel with the job, and absolute "
            "ones and URLs are taken for the cluster's own"
        )
    yield from files
