"""The files that a recipe names, setting by setting; which are files their types say
(``config.paths``)."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic.fields import FieldInfo

from delia_ray.config import RunConfig, Settings, Source
from delia_ray.config.paths import FileSetting

Change = Callable[[str, str], str]
"""(setting, its path) -> another path, or the same."""
Wanted = Callable[[FileSetting, str], bool]
"""(mark of a setting, its value) -> whether it is one of the paths that are meant."""


def named_paths(config: RunConfig) -> Iterator[tuple[str, str]]:
    """(setting, path) of everything that is read as a file; parts of the miniature and models
    by hub id are none."""
    found: list[tuple[str, str]] = []

    def record(key: str, path: str) -> str:
        found.append((key, path))
        return path

    with_paths(config, record)
    yield from found


def with_paths(
    config: RunConfig, change: Change, wanted: Wanted = FileSetting.is_file
) -> RunConfig:
    """``config`` with each path as ``change`` gives it back; the rest untouched."""
    changed = _settings(config, "", change, wanted)
    assert isinstance(changed, RunConfig)
    return changed


def resolved(config: RunConfig) -> RunConfig:
    """``config`` with absolute paths where workers open folders of this machine; Ray Train's
    workers do not run in the folder that the command was given in."""
    return with_paths(config, lambda _, path: os.path.abspath(os.path.expanduser(path)), _is_here)


def _is_here(mark: FileSetting, value: str) -> bool:
    local = mark.workers and "://" not in value and value != "miniature"
    return local and os.path.exists(os.path.expanduser(value))


def file_setting(field: FieldInfo) -> FileSetting | None:
    """The mark of a field, also within ``| None``, lists and mappings."""
    waiting: list[Any] = [*field.metadata, field.annotation]
    while waiting:
        one = waiting.pop()
        if isinstance(one, FileSetting):
            return one
        waiting += [*get_args(one), *getattr(one, "__metadata__", ())]
    return None


def _settings(one: Settings, key: str, change: Change, wanted: Wanted) -> Settings:
    """A copy with what is different only, so that what was not set stays so."""
    different = {}
    for name, field in type(one).model_fields.items():
        value = getattr(one, name)
        # A source is called after its file.
        own = key if isinstance(one, Source) and name == "path" else f"{key}.{name}".lstrip(".")
        if isinstance(one, Source) and name == "path" and one.format == "miniature":
            continue
        new = _value(value, own, file_setting(field), change, wanted)
        if new is not value:
            different[name] = new
    return one.model_copy(update=different) if different else one


def _value(value: Any, key: str, mark: FileSetting | None, change: Change, wanted: Wanted) -> Any:
    """The same object where nothing in it changes."""
    if isinstance(value, Settings):
        return _settings(value, key, change, wanted)
    if isinstance(value, str):
        if mark is None or not wanted(mark, value):
            return value
        new = change(key, value)
        return value if new == value else new
    if isinstance(value, Mapping):
        pairs = {k: _value(v, f"{key}.{k}", mark, change, wanted) for k, v in value.items()}
        return pairs if any(pairs[k] is not v for k, v in value.items()) else value
    if isinstance(value, Sequence):
        items = [_value(v, _item(key, i, v), mark, change, wanted) for i, v in enumerate(value)]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def _item(key: str, place: int, value: Any) -> str:
    """Suites are called by name, as tables and files call them."""
    name = getattr(value, "name", None) if isinstance(value, Source) else None
    return f"{key}.{name}" if name else f"{key}[{place}]"
