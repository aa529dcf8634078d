"""Counts of any shape as tables: stages report free JSON, people read rows and columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from delia_ray.report.words import label, number

Json = Mapping[str, Any]


@dataclass(frozen=True)
class CountTable:
    """A small table; the first column holds names, the others figures."""

    title: str
    header: list[str]
    rows: list[list[str]]


def count_tables(counts: Json, title: str = "") -> list[CountTable]:
    """Scalars become one two-column table; each dict below becomes one of its own.

    Where all values of a dict are flat dicts, their keys become columns.
    """
    scalars = {k: v for k, v in counts.items() if not isinstance(v, Mapping)}
    tables = [_two_columns(scalars, title)] if scalars else []
    for key, value in counts.items():
        if not isinstance(value, Mapping) or not value:
            continue
        if all(isinstance(v, Mapping) and _flat(v) for v in value.values()):
            tables.append(matrix(value, label(key)))
        else:
            tables.append(_two_columns(value, label(key)))
    return tables


def ingest_table(counts: Json) -> CountTable | None:
    """One row for each source: what was read, and where each row of it went; None where the
    counts are not of the shape ``{group: {source: {read, records, rejects, ...}}}``."""
    rows = []
    for group, sources in counts.items():
        if group == "curation":  # what the steps found, beside where the rows went
            continue
        for source, found in sources.items() if isinstance(sources, Mapping) else ():
            if not isinstance(found, Mapping) or "read" not in found:
                return None
            rejects = sum(found.get("rejects", {}).values())
            removed = sum(found.get("removed", {}).values())
            parts = [found["records"], rejects, found["duplicates"], found["beyond_limit"], removed]
            adds_up = "yes" if sum(parts) == found["read"] else "no"
            rows.append([_source(group, source), *map(number, [found["read"], *parts]), adds_up])
    header = [
        "",
        "read",
        "= records",
        "+ rejects",
        "+ duplicates",
        "+ beyond limit",
        "+ curated away",
    ]
    return CountTable("", [*header, "adds up"], rows) if rows else None


def matrix(value: Mapping[str, Json], title: str = "") -> CountTable:
    """One row for each outer key, one column for each inner key."""
    columns = list(dict.fromkeys(k for inner in value.values() for k in inner))
    rows = [
        [label(name), *(_short(inner[c]) if c in inner else "" for c in columns)]
        for name, inner in value.items()
    ]
    return CountTable(title, ["", *map(label, columns)], rows)


def by_arm(arms: Mapping[str, Json], title: str = "") -> CountTable:
    """One column for each arm, one row for each figure; parts of a whole with their share."""
    leaves = {arm: dict(_leaves(counts)) for arm, counts in arms.items()}
    keys = list(dict.fromkeys(k for found in leaves.values() for k in found))
    rows = [
        [", ".join(map(label, key)), *(_with_share(found, key) for found in leaves.values())]
        for key in keys
    ]
    return CountTable(title, ["", *arms], rows)


def without_times(value: Any) -> Any:
    """``value`` without anything that differs between two runs of the same seed."""
    if isinstance(value, Mapping):
        return {
            k: without_times(v)
            for k, v in value.items()
            if not any(word in k for word in ("seconds", "per_second", "created"))
        }
    return [without_times(v) for v in value] if isinstance(value, list) else value


def _two_columns(counts: Json, title: str) -> CountTable:
    rows = [[", ".join(map(label, key)), _short(value)] for key, value in _leaves(counts)]
    return CountTable(title, ["", ""], rows)


def _source(group: str, source: str) -> str:
    return source if group == source else f"{label(group)}: {source}"


def _leaves(counts: Json, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    out: list[tuple[tuple[str, ...], Any]] = []
    for key, value in counts.items():
        here = (*path, key)
        out += _leaves(value, here) if isinstance(value, Mapping) else [(here, value)]
    return out


def _with_share(found: Mapping[tuple[str, ...], Any], key: tuple[str, ...]) -> str:
    if key not in found:
        return ""
    value = found[key]
    if len(key) > 1 and key[-1] in ("downstream", "diverse"):
        parts = [found.get((*key[:-1], part)) for part in ("downstream", "diverse")]
        whole = sum(p for p in parts if isinstance(p, int))
        if None not in parts and whole:
            return f"{number(value)} ({value / whole:.1%})"
    return number(value)


def _flat(value: Json) -> bool:
    return not any(isinstance(v, Mapping) for v in value.values())


def _short(value: Any) -> str:
    text = number(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
