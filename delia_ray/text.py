"""Measures of plain text that several stages share."""

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_MARKS = 30
"""Combining marks in a row that are normal (UAX #15, stream-safe text)."""
_LOOP = 12
"""So many sequences must be there before repetition means anything."""


def repetition(text: str) -> float:
    """Share of the 4-word sequences of ``text`` that occurred in it before; of 8-character
    ones where its words are not set apart. 0 for short texts."""
    parts: Sequence[str] = text.split()
    size = 4
    if len(text) > 12 * max(1, len(parts)):
        parts, size = text, 8
    count = len(parts) - size + 1
    if count < _LOOP:
        return 0.0
    return 1 - len({tuple(parts[i : i + size]) for i in range(count)}) / count


def stream_safe(text: str) -> str:
    """``text`` with a combining grapheme joiner after every 30 combining marks in a row, as UAX #15
    describes: normal forms sort such marks in quadratic time, and no script needs so many."""
    if text.isascii():
        return text
    is_mark, long_run = _marks()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if np.count_nonzero(is_mark[codes]) <= _MARKS:
        return text
    return long_run.sub("\\g<0>\u034f", text)


@functools.cache
def _marks() -> tuple[npt.NDArray[np.bool_], re.Pattern[str]]:
    """By code point whether it is a combining mark, and a run of them that goes on."""
    last = 0x1F000  # none lies beyond
    letters = "".join(c for c in map(chr, range(0x300, last)) if unicodedata.combining(c))
    is_mark = np.zeros(sys.maxunicode + 1, bool)
    is_mark[[ord(c) for c in letters]] = True
    return is_mark, re.compile(f"[{letters}]{{{_MARKS}}}(?=[{letters}])")
