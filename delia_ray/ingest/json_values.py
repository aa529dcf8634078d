"""Rows of JSON text that is not in lines: arrays, objects one after another, and one object
around the rows. Every character is a value's, stands between two, or is in a fault."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import IO, Any

from delia_ray.ingest.json_rows import DECODER, at_end, json_lines, shallow
from delia_ray.ingest.json_shapes import CHATS, unwrapped
from delia_ray.ingest.rows import EXCERPT, Bad, Damage, Facts, LimitError, Reading, excerpt

_CHUNK = 2**20
"""Characters read at a time."""
_WHOLE = 8 * 2**20
"""Characters of an only object that is read whole; the rows within a longer one are read one
after another."""
_SPACE = re.compile(r"[ \t\r\n\ufeff]*")
_FIRST_KEY = re.compile(r'\{\s*("(?:[^"\\]|\\.)*")\s*:')
_LIST = re.compile(r"\[\s*\{")
_MOST_KEYS = 200


class _Buffer:
    """Text of which only the part that is being decoded is held."""

    def __init__(self, text: IO[str], held: str, facts: Facts, longest: int) -> None:
        self._text, self.held, self.at, self.ended = text, held, 0, False
        self._facts, self._longest = facts, longest
        facts.characters += len(held)
        self._gone = 0

    @property
    def place(self) -> int:
        """Characters of the file before this one."""
        return self._gone + self.at

    def more(self) -> bool:
        """Read on, at least as much as waits; False at the end of the file.

        Raises:
            LimitError: too much waits already.
        """
        waiting = len(self.held) - self.at
        if waiting >= self._longest:
            mib = round(self._longest / 2**20, 3)
            raise LimitError("a value without an end", "value_mib", mib)
        new = self._text.read(max(_CHUNK, waiting))
        self._facts.characters += len(new)
        self._gone += self.at
        self.held, self.at, self.ended = self.held[self.at :] + new, 0, not new
        return bool(new)

    def skip_space(self) -> None:
        start = self.at
        while True:
            self.at = _SPACE.match(self.held, self.at).end()  # type: ignore[union-attr]
            self._facts.between += self.at - start
            if self.at < len(self.held) or not self.more():
                return
            start = self.at

    def sign(self) -> str:
        """The character that comes next, after space; "" at the end."""
        self.skip_space()
        return self.held[self.at : self.at + 1]

    def lists_objects(self) -> bool:
        """Whether a list of objects comes next."""
        self.skip_space()
        while len(self.held) - self.at < 64 and self.more():
            pass
        return _LIST.match(self.held, self.at) is not None

    def take(self) -> None:
        """Go over one character that belongs to no value."""
        self.at += 1
        self._facts.between += 1

    def value(self, most: int | None = None) -> Any:
        """The next value; its characters are the caller's to count.

        Raises:
            ValueError, RecursionError: it is none, or the file ends within it.
            LimitError: it is longer than ``most``, or than any value may be.
        """
        while True:
            try:
                value, end = DECODER.raw_decode(self.held, self.at)
            except json.JSONDecodeError as error:
                waiting = len(self.held) - self.at
                if not self.ended and at_end(error, self.held):
                    if most is not None and waiting > most:
                        raise LimitError("a long value", "value_mib", most) from None
                    if self.more() or not self.ended:
                        continue
                raise
            if end == len(self.held) and not self.ended and not isinstance(value, (dict, list)):
                self.more()  # a number may go on
                continue
            self.at = end
            return value

    def jump(self, pattern: re.Pattern[str]) -> bool:
        """Go to the next match behind this place that is no value of a key; False where there
        is none, and then to the end of the file."""
        self.at += 1
        while True:
            for found in pattern.finditer(self.held, self.at):
                before = self.held[max(0, found.start() - 64) : found.start()].rstrip()
                if not before.removesuffix("[").rstrip().endswith(":"):
                    self.at = found.start()
                    return True
            self.at = max(self.at, len(self.held) - 4096)
            if not self.more():
                self.at = len(self.held)
                return False


class _Values:
    """Reads one file."""

    def __init__(self, buffer: _Buffer, reading: Reading, facts: Facts) -> None:
        self.buffer, self.reading, self.facts = buffer, reading, facts
        self.keys: dict[str, None] = {}
        """Keys of the rows so far, by which rows are found behind a fault."""
        self.arrays = 0
        """1 within a list of rows, else 0."""
        self.wrapped = False
        """Whether these stand within one long object."""
        self.listed = ""
        """The key of their list there."""
        self.beside: dict[str, Any] = {}
        """What else that object holds."""

    def rows(self) -> Iterator[Any]:
        buffer = self.buffer
        if buffer.sign() == "{":
            yield from self._first_object()
        while sign := buffer.sign():
            if sign == "[" and not self.arrays:
                self.arrays = 1
                buffer.take()
            elif sign == "]" and self.arrays:
                self.arrays = 0
                buffer.take()
                if self.wrapped:
                    yield from self._pairs()
            elif sign == ",":
                buffer.take()
            else:
                yield from self._row()
        if self.arrays or self.wrapped:
            yield Damage("the file ends within a list of rows", f"{buffer.place:,} characters", "")

    def _row(self) -> Iterator[Any]:
        buffer, start = self.buffer, self.buffer.place
        excerpt_ = buffer.held[buffer.at : buffer.at + EXCERPT]
        try:
            value = buffer.value()
        except (json.JSONDecodeError, RecursionError) as error:
            yield self._fault(start, excerpt_, error)
            return
        self.facts.inside += buffer.place - start
        new = isinstance(value, dict) and not value.keys() <= self.keys.keys()
        if new and len(self.keys) < _MOST_KEYS:
            self.keys.update(dict.fromkeys(value))
        yield shallow(value, self.reading.limits.depth)

    def _fault(self, start: int, text: str, error: Exception) -> Any:
        buffer = self.buffer
        said = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        first = _FIRST_KEY.match(buffer.held, buffer.at)
        keys = [re.escape(json.dumps(key)[1:-1]) for key in self.keys]
        keys += [re.escape(key) for key in self.keys]
        if first:
            keys.append(re.escape(first.group(1)[1:-1]))
        ended = True
        if keys:
            pattern = re.compile(r"\{\s*\"(?:" + "|".join(dict.fromkeys(keys)) + r")\"\s*:")
            ended = not buffer.jump(pattern)
        else:
            buffer.at += 1
            while buffer.more():
                buffer.at = len(buffer.held)
            buffer.at = len(buffer.held)
        self.facts.broken += buffer.place - start
        span = f"{said}; characters {start + 1:,} to {buffer.place:,}"
        if not ended:
            return Bad("not valid JSON", span, excerpt(text))
        last = "]" if self.arrays and not self.wrapped else "}"
        closes = buffer.held.rstrip()[-1:] == last or not (self.arrays or text[:1] in "{[")
        self.arrays, self.wrapped = 0, False
        if closes:
            return Bad("not valid JSON", f"{span}, the end of the file", excerpt(text))
        return Damage("the file ends within a value", span, excerpt(text))

    # --- one object around the rows ---------------------------------------------------

    def _first_object(self) -> Iterator[Any]:
        """The first of several objects as a row, or the rows within the only one."""
        buffer, start = self.buffer, self.buffer.place
        try:
            value = buffer.value(_WHOLE)
        except (json.JSONDecodeError, RecursionError):
            return  # a fault like any other, met again by the caller
        except LimitError:
            buffer.take()
            self.wrapped = True
            yield from self._pairs()
            return
        self.facts.inside += buffer.place - start
        if buffer.sign():
            self.keys.update(dict.fromkeys(list(value)[:_MOST_KEYS]))
            yield shallow(value, self.reading.limits.depth)
            return
        for row in unwrapped(value, self.reading, self.facts):
            yield row if isinstance(row, Bad) else shallow(row, self.reading.limits.depth)

    def _pairs(self) -> Iterator[Any]:
        """Keys and values of a long object, to the start of a list of rows or to its end; an
        object without one is a row."""
        buffer, seen = self.buffer, self.listed
        while (sign := buffer.sign()) and sign != "}":
            if sign in ",:":
                buffer.take()
                continue
            start, text = buffer.place, buffer.held[buffer.at : buffer.at + EXCERPT]
            try:
                key = str(buffer.value())
                self.facts.inside += buffer.place - start
                start = buffer.place
                if buffer.sign() == ":":
                    buffer.take()
                if not seen and key not in CHATS and buffer.lists_objects():
                    self.listed, self.arrays = key, 1
                    self.facts.note(f"the list {key!r} of one object")
                    buffer.take()
                    return
                buffer.skip_space()
                start = buffer.place
                value = buffer.value()
            except (json.JSONDecodeError, RecursionError) as error:
                yield self._fault(start, text, error)
                return
            self.facts.inside += buffer.place - start
            if seen and isinstance(value, list) and value and isinstance(value[0], dict):
                self.facts.unread[f"list {excerpt(key)}"] = f"{seen!r} is read"
            self.beside[key] = value
        if sign:
            buffer.take()
            self.wrapped = False
            if not seen:
                yield shallow(self.beside, self.reading.limits.depth)
            self.listed, self.beside = "", {}


def json_values(
    text: IO[str], reading: Reading, facts: Facts, held: str = ""
) -> Iterator[tuple[int, Any]]:
    """Rows of arrays, of objects one after another, or of the list in an only object (see
    `json_shapes`); ``held`` is text that was read already. Behind a fault reading goes on where
    an object begins with a key that rows of this file have.

    Raises:
        LimitError: a value without an end.
    """
    buffer = _Buffer(text, held, facts, reading.longest)
    yield from enumerate(_Values(buffer, reading, facts).rows(), 1)


def json_one_line(
    text: IO[str], reading: Reading, facts: Facts, begin: Callable[[], None]
) -> Iterator[tuple[int, Any]]:
    """A file whose first line is long or the only one: lines of JSON after all, or one object
    that may hold the rows. ``begin`` is called before lines are read."""
    held = [text.readline(min(_WHOLE, reading.longest))]
    size = len(held[0])
    while held[0].endswith("\n") and (more := text.read(_CHUNK)):
        held.append(more)
        size += len(more)
        if more.strip() or size > _WHOLE:
            begin()
            return json_lines(_lines("".join(held), text), reading, facts)
    facts.container = "objects"
    return json_values(text, reading, facts, "".join(held))


def _lines(held: str, text: IO[str]) -> Iterator[str]:
    *whole, last = held.split("\n")
    again = [f"{line}\n" for line in whole]
    if last:
        again.append(last + text.readline())
    return itertools.chain(again, text)
