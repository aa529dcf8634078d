"""Measures of plain text that several stages share; no dependencies."""

from collections.abc import Sequence

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
