"""Data sets of the hub, as `datasets` finds their files."""

import os
import re

_DATASET = re.compile(r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?/?")
_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def names_dataset(path: str) -> bool:
    """Whether ``path`` is a whole data set of the hub and not a file or folder within it."""
    return _DATASET.fullmatch(path) is not None


def looks_like_name(path: str) -> bool:
    """Whether somebody may have meant a data set of the hub."""
    return _NAME.fullmatch(path) is not None


def files_of(path: str, split: str) -> list[str]:
    """URLs of the files of one split, as the data set's card or file names lay them out.

    Raises:
        ValueError: there is no such split.
        Exception: whatever `datasets` raises where it cannot reach or read the data set.
    """
    found = _DATASET.fullmatch(path)
    if found is None:
        raise AssertionError(path)
    return resolve(found["name"], found["revision"], split)


def resolve(name: str, revision: str | None, split: str) -> list[str]:
    """Files of ``split`` of a data set by its name, or of a local folder laid out like one."""
    from datasets import load_dataset_builder

    builder = load_dataset_builder(name, revision=revision)
    files = builder.config.data_files
    if not files or split not in files:
        raise ValueError(f"it has the splits {sorted(map(str, files or ()))}, not {split!r}")
    return [str(file) for file in files[split]]


def relative(urls: list[str]) -> list[str]:
    """The URLs without the folders that they share."""
    base = os.path.commonpath([url.rpartition("/")[0] for url in urls]) if urls else ""
    return [url[len(base) :].lstrip("/") for url in urls]
