"""Rows of JSON text: lines, an array, or objects one after another."""

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from delia_ray.ingest.rows import EXCERPT, Bad, excerpt

_CHUNK = 2**20
"""Characters read at a time."""
_SPACE = re.compile(r"[ \t\r\n]*")
_FIRST_KEY = re.compile(r'\{\s*"(?:[^"\\]|\\.)*"\s*:')


def is_json(text: str) -> bool:
    """Whether ``text`` is one whole JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_lines(lines: Iterator[str]) -> Iterator[tuple[int, Any]]:
    """One value a line; blank lines are none."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            row = Bad("not valid JSON", _where(error), excerpt(text))
        yield number, row


def _where(error: Exception) -> str:
    """Without the line that the decoder counts: it saw one line only."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)


class _Buffer:
    """Text of which only the part that is being decoded is held."""

    def __init__(self, text: IO[str]) -> None:
        self._text, self.held, self.at, self.ended = text, "", 0, False

    def more(self) -> bool:
        """Read on, at least as much as waits; False at the end of the file."""
        waiting = len(self.held) - self.at
        new = self._text.read(max(_CHUNK, waiting))
        self.held, self.at, self.ended = self.held[self.at :] + new, 0, not new
        return bool(new)

    def skip_space(self) -> None:
        self.at = _SPACE.match(self.held, self.at).end()  # type: ignore[union-attr]
        while self.at == len(self.held) and self.more():
            self.at = _SPACE.match(self.held, self.at).end()  # type: ignore[union-attr]

    def starts_with(self, sign: str) -> bool:
        """Whether ``sign`` comes next, after space."""
        self.skip_space()
        return self.held.startswith(sign, self.at)

    def value(self) -> Any:
        """The next value.

        Raises:
            ValueError, RecursionError: it is none, or the file ends within it.
        """
        while True:
            try:
                value, end = _DECODE(self.held, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.held) - 8
                if cut and self.more():
                    continue
                raise
            if end == len(self.held) and not self.ended and not isinstance(value, (dict, list)):
                self.more()  # a number may go on
                continue
            self.at = end
            return value

    def jump(self, pattern: re.Pattern[str]) -> bool:
        """Go to the next match behind this place; False where there is none."""
        self.at += 1
        while not (found := pattern.search(self.held, self.at)):
            self.at = max(self.at, len(self.held) - 2 * len(pattern.pattern))
            if not self.more():
                return False
        self.at = found.start()
        return True


_DECODE = json.JSONDecoder().raw_decode


def json_array(text: IO[str]) -> Iterator[tuple[int, Any]]:
    """The elements of one array; behind a broken one reading goes on where the next object
    begins with the key that the array's objects begin with."""
    buffer, number, start = _Buffer(text), 0, None
    if not buffer.starts_with("["):
        cut = buffer.held[buffer.at : buffer.at + EXCERPT]
        yield 1, Bad("not valid JSON", "the file does not begin an array", excerpt(cut))
        return
    buffer.at += 1
    while not buffer.starts_with("]"):
        number += 1
        start = start or _first_key(buffer)
        fault = ""
        try:
            row = buffer.value()
        except (ValueError, RecursionError) as error:
            fault = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        if fault:
            cut = buffer.held[buffer.at : buffer.at + EXCERPT]
            yield number, Bad("not valid JSON", f"{fault} in record {number}", excerpt(cut))
            if start is None or not buffer.jump(start):
                return
            continue
        yield number, row
        if buffer.starts_with(","):
            buffer.at += 1
        elif not buffer.starts_with("]") and not (start and buffer.starts_with("{")):
            detail = f"expected ',' or ']' after record {number}"
            cut = buffer.held[buffer.at : buffer.at + EXCERPT]
            number += 1
            yield number, Bad("not valid JSON", detail, excerpt(cut))
            if start is None or not buffer.jump(start):
                return
    buffer.at += 1
    buffer.skip_space()
    if rest := buffer.held[buffer.at : buffer.at + EXCERPT]:
        yield number + 1, Bad("not valid JSON", "text after the array", excerpt(rest))


def _first_key(buffer: _Buffer) -> re.Pattern[str] | None:
    found = _FIRST_KEY.match(buffer.held, buffer.at)
    if not found:
        return None
    return re.compile(r"\{\s*" + re.escape(found.group()[1:].lstrip()))


def json_objects(text: IO[str]) -> Iterator[tuple[int, Any]]:
    """Objects one after another, over several lines each; where the only one holds nothing
    but one list of objects (``{"data": [...]}``), the rows of that list."""
    buffer, number = _Buffer(text), 0
    first: Any = None
    while True:
        buffer.skip_space()
        if buffer.at == len(buffer.held):
            break
        number += 1
        try:
            row = buffer.value()
        except (ValueError, RecursionError) as error:
            if number == 2:
                yield 1, first
            detail = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            cut = buffer.held[buffer.at : buffer.at + EXCERPT]
            yield number, Bad("not valid JSON", f"{detail} in record {number}", excerpt(cut))
            return
        if number == 1:
            first = row
            continue
        if number == 2:
            yield 1, first
        yield number, row
    if number == 1:
        yield from enumerate(_wrapped(first), 1)


def _wrapped(value: Any) -> list[Any]:
    # One chat is also an object with one list of objects.
    if isinstance(value, dict) and len(value) == 1 and not set(value) & _CHATS:
        [rows] = value.values()
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            return rows
    return [value]


_CHATS = {"messages", "conversations", "conversation"}
