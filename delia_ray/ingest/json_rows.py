"""Rows of JSON text in lines."""

import json
from collections.abc import Iterator
from typing import Any

from delia_ray.ingest.rows import Bad, Damage, Facts, Reading, excerpt
from delia_ray.ingest.turns import is_turn

MARK = "\ufeff"
"""A byte-order mark, which stands in the middle where files were put together."""


def _constant(name: str) -> float | None:
    # What pandas writes for a missing cell.
    return None if name == "NaN" else float(name.replace("Infinity", "inf"))


DECODER = json.JSONDecoder(parse_constant=_constant)


def is_json(text: str) -> bool:
    """Whether ``text`` is one whole JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_lines(lines: Iterator[str], reading: Reading, facts: Facts) -> Iterator[tuple[int, Any]]:
    """One value a line; blank lines are none."""
    decode, depth, number, blank = DECODER.decode, reading.limits.depth, 0, 0
    try:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text:
                blank += 1
                continue
            try:
                row = decode(text)
                if text.count("{") + text.count("[") > depth:
                    row = shallow(row, depth)
                elif row.__class__ is list:
                    row = chat_of(row)
            except (ValueError, RecursionError) as error:
                row = _unmarked(text, error, line)
                if row is None:
                    blank += 1
                    continue
            yield number, row
    finally:
        facts.lines += number
        facts.blank += blank


def _unmarked(text: str, error: Exception, line: str) -> Any:
    """What a line is that is no JSON as it stands; None for a mark alone."""
    if text.startswith(MARK):
        text = text.lstrip(MARK).strip()
        if not text:
            return None
        try:
            return chat_of(DECODER.decode(text))
        except (ValueError, RecursionError) as again:
            error = again
    if isinstance(error, RecursionError):
        return Bad("not valid JSON", "nested too deeply", excerpt(text))
    ended = not line.endswith("\n") and text.startswith(("{", "["))
    if ended and isinstance(error, json.JSONDecodeError) and at_end(error, text):
        return Damage("the file ends within a row", where(error), excerpt(text))
    return Bad("not valid JSON", where(error), excerpt(text))


def at_end(error: json.JSONDecodeError, text: str) -> bool:
    """Whether what was missed may stand behind the end of ``text``."""
    return error.msg.startswith("Unterminated") or error.pos >= len(text.rstrip()) - 8


def where(error: Exception) -> str:
    """Without the line that the decoder counts: it saw one line only."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)


def chat_of(value: Any) -> Any:
    """A bare list of turns as the row that holds them; anything else as it is."""
    if isinstance(value, list) and value and all(map(is_turn, value)):
        return {"messages": value}
    return value


def shallow(row: Any, depth: int) -> Any:
    """``row``, or what is wrong with it where lists and objects stand in each other more than
    ``depth`` times."""
    if not isinstance(row, (dict, list)):
        return row
    if depth > 1 and not any(part.__class__ in (dict, list) for part in _parts(row)):
        return row
    level: list[Any] = [row]
    for _ in range(depth):
        level = [part for one in level for part in _parts(one) if isinstance(part, (dict, list))]
        if not level:
            return chat_of(row)
    return Bad("nested too deeply", f"limits.depth={depth}", excerpt(repr(type(row))))


def _parts(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value
