"""Data sets of the hub, and folders that are laid out like one, as `datasets` finds their
files."""

import os
import re
from collections.abc import Sequence
from typing import Any

_DATASET = re.compile(r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?/?")
_NAME = re.compile(r"\A[\w-][\w.-]*+/[\w.-]++")


def names_dataset(path: str) -> bool:
    """Whether ``path`` is a whole data set of the hub and not a file or folder within it."""
    return _DATASET.fullmatch(path) is not None


def looks_like_name(path: str) -> bool:
    """Whether somebody may have meant a data set of the hub."""
    return _NAME.fullmatch(path) is not None


def files_of(path: str, split: str, subset: str | None = None) -> list[str]:
    """URLs of the files of one split, as the data set's card or file names lay them out.

    Raises:
        ValueError: there is no such split.
        Exception: whatever `datasets` raises where it cannot reach or read the data set.
    """
    found = _DATASET.fullmatch(path)
    if found is None:
        raise AssertionError(path)
    return resolve(found["name"], found["revision"], split, subset)


def resolve(name: str, revision: str | None, split: str, subset: str | None = None) -> list[str]:
    """Files of ``split`` of a data set by its name, or of a local folder laid out like one."""
    from datasets import load_dataset_builder

    builder = load_dataset_builder(name, subset, revision=revision)
    files = builder.config.data_files
    if not files or split not in files:
        raise ValueError(f"it has the splits {sorted(map(str, files or ()))}, not {split!r}")
    return [str(file) for file in files[split]]


_SPLIT = re.compile(
    r"(?:^|[-._ 0-9/])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)"
    r"(?:[-._ 0-9/]|$)"
)


def splits_of(
    root: str, names: Sequence[str], readme: str, subset: str | None
) -> dict[str, list[str]]:
    """The files of each split of the folder ``root`` (a path or URL), by its README's
    ``configs`` or by the words that `datasets` knows in ``names``, which are relative to it. {}
    where nothing tells splits apart.

    Raises:
        ValueError: there is no such ``subset``, or one must be named.
    """
    config = _config(readme, subset)
    if config is None and not any(map(_SPLIT.search, names)):
        return {}
    from datasets.data_files import get_data_patterns, resolve_pattern, sanitize_patterns

    base = root.rstrip("/")
    if config is None:
        patterns = get_data_patterns(base)
    else:
        base = f"{base}/{config.get('data_dir') or ''}".rstrip("/")
        patterns = sanitize_patterns(config.get("data_files") or "**")
    found: dict[str, list[str]] = {}
    for split, own in patterns.items():
        urls = {url for pattern in own for url in _matching(resolve_pattern, str(pattern), base)}
        inside = [os.path.relpath(url, root) for url in sorted(urls)]
        # A downloaded README must not name what lies elsewhere.
        if outside := [name for name in inside if name not in names]:
            raise ValueError(f"its README names {outside[0]!r}, which is no file in it")
        found[str(split)] = inside
    return {} if config is None and set(found) == {"train"} and _all_of(names, found) else found


def _matching(resolve_pattern: Any, pattern: str, base: str) -> list[str]:
    try:
        return list(resolve_pattern(pattern, base))
    except FileNotFoundError:
        if any(sign in pattern for sign in "*?["):
            return []  # one of several words for the same split
        raise ValueError(f"its README names {pattern!r}, and there is no such file") from None


def _all_of(names: Sequence[str], found: dict[str, list[str]]) -> bool:
    return len(found["train"]) >= len(names)


def _config(readme: str, subset: str | None) -> dict[str, Any] | None:
    """The README's configuration ``subset``, or the default one; None where it lists none."""
    if not re.search(r"^configs:", readme, re.MULTILINE):
        if subset is not None:
            raise ValueError(f"it has no configuration {subset!r}: its README lists none")
        return None
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    configs = MetadataConfigs.from_dataset_card_data(DatasetCard(readme).data)
    name = subset or configs.get_default_config_name()
    if name not in configs:
        raise ValueError(f"it has the configurations {sorted(configs)}; set subset to one of them")
    return dict(configs[name])


def relative(urls: list[str]) -> list[str]:
    """The URLs without the folders that they share."""
    base = os.path.commonpath([url.rpartition("/")[0] for url in urls]) if urls else ""
    return [url[len(base) :].lstrip("/") for url in urls]
