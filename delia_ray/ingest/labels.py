"""Class labels as text: tables of ``datasets`` hold numbers, and their names in the schema."""

import json
from collections.abc import Iterator
from typing import Any

_KEY = b"huggingface"
"""Under which ``datasets`` keeps a table's features in the schema's metadata."""


def class_names(schema: Any) -> dict[str, list[str]]:
    """Column -> names of its classes, of an Arrow schema; none where it says nothing of them."""
    text = (schema.metadata or {}).get(_KEY)
    try:
        features = json.loads(text)["info"]["features"] if text else {}
        found = {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        name: names
        for name, names in found.items()
        if isinstance(names, list) and all(isinstance(one, str) for one in names)
    }


def labelled(rows: Iterator[tuple[int, Any]], schema: Any) -> Iterator[tuple[int, Any]]:
    """``rows`` with names for the numbers of classes; a number without one (-1: no label) is a
    missing value."""
    known = class_names(schema)
    if not known:
        return rows
    return ((number, _named(row, known)) for number, row in rows)


def _named(row: Any, known: dict[str, list[str]]) -> Any:
    if not isinstance(row, dict):
        return row
    changed = dict(row)
    for name, names in known.items():
        value = changed.get(name)
        if isinstance(value, int):
            changed[name] = names[value] if 0 <= value < len(names) else None
    return changed
