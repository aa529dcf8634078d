"""One JSON object that holds all rows of a file, in the ways that programs write it."""

from collections.abc import Iterator, Mapping
from typing import Any

from delia_ray.ingest.rows import Bad, Facts, Reading, excerpt
from delia_ray.ingest.turns import is_turn

CHATS = frozenset(
    ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat",
     "history", "instances", "prompt")
)  # fmt: skip
"""Keys under which one row holds a list of objects."""


def unwrapped(value: Any, reading: Reading, facts: Facts) -> Iterator[Any]:
    """The rows of the only object of a file: of a list in it (``{"data": [...]}``), of columns
    (``{"prompt": {"0": ...}}``, pandas' default), of rows by name, or the object itself."""
    if not isinstance(value, dict) or not value:
        yield value
        return
    lists = {key: part for key, part in value.items() if _objects(part) and key not in CHATS}
    if _split(value):
        facts.note("columns, index and data of pandas")
        for cells in value["data"]:
            yield _from_cells(value["columns"], cells)
    elif lists and not _is_row(value, reading):
        yield from _listed(lists, reading, facts)
    elif columns := _columns(value, reading):
        facts.note(f"columns of pandas: {', '.join(map(str, columns))}"[:200])
        for index in next(iter(columns.values())):
            yield {name: cells.get(index) for name, cells in columns.items()}
    elif _by_name(value, reading):
        facts.note("an object of rows by name")
        yield from value.values()
    else:
        yield value


def _listed(lists: Mapping[str, Any], reading: Reading, facts: Facts) -> Iterator[Any]:
    key = next(iter(lists)) if len(lists) == 1 else reading.split
    if key not in lists:
        detail = f"{', '.join(lists)}; name one as split"
        yield Bad("several lists of objects in one", excerpt(detail), "")
        return
    facts.note(f"the list {key!r} of one object")
    for other in lists:
        if other != key:
            facts.unread[f"list {excerpt(other)}"] = f"split={reading.split}"
    yield from lists[key]


def _objects(value: Any) -> bool:
    """Whether ``value`` is a list of objects, but not of turns, which are one row's chat."""
    listed = isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)
    return listed and not all(map(is_turn, value))


def _is_row(value: Mapping[str, Any], reading: Reading) -> bool:
    """Whether the object has text under a name that a layout reads."""
    return any(
        isinstance(part, str) and key.lower() in reading.names - _WRAPPERS
        for key, part in value.items()
    )


_WRAPPERS = frozenset(("data", "id", "no", "la", "is", "so", "source"))
"""Names that layouts read and that say too little of an object around rows."""


def _split(value: Mapping[str, Any]) -> bool:
    """pandas' ``orient="split"``."""
    columns, data = value.get("columns"), value.get("data")
    return (
        set(value) <= {"columns", "index", "data"}
        and isinstance(columns, list)
        and isinstance(data, list)
        and all(isinstance(cells, list) for cells in data)
    )


def _from_cells(columns: list[Any], cells: list[Any]) -> Any:
    if len(columns) != len(cells):
        detail = f"{len(cells)} instead of {len(columns)}"
        return Bad("wrong number of columns", detail, excerpt(cells))
    return dict(zip(map(str, columns), cells, strict=True))


def _columns(value: Mapping[str, Any], reading: Reading) -> dict[str, Mapping[str, Any]]:
    """Columns, each an object with the same keys, or a list of the same length."""
    parts = list(value.values())
    if not any(key.lower() in reading.names for key in value):
        return {}
    if all(isinstance(part, list) for part in parts) and len(parts) > 1:
        lengths = {len(part) for part in parts}
        if len(lengths) == 1 and not any(key in CHATS for key in value):
            return {
                k: dict(zip(map(str, range(len(part))), part, strict=True))
                for k, part in value.items()
            }
    if not all(isinstance(part, dict) and part for part in parts):
        return {}
    if set(value) == {"translation"} and any(isinstance(v, str) for v in parts[0].values()):
        return {}  # one row
    index = set(parts[0])
    same = all(set(part) == index for part in parts)
    numbered = all(key.isdigit() for key in index)
    return dict(value) if same and (numbered or len(parts) > 1) else {}


def _by_name(value: Mapping[str, Any], reading: Reading) -> bool:
    """Whether every part is an object with a name that a layout reads."""
    parts = list(value.values())
    return len(parts) > 1 and all(
        isinstance(part, dict) and any(str(key).lower() in reading.names for key in part)
        for part in parts
    )
