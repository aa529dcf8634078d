"""Answers as data: JSON, or a Python literal as in ``{'thought': "...", 'label': 'yes'}``."""

import ast
import json
import warnings
from typing import Any


class Plain:
    """What text is that is neither JSON nor a Python literal."""


def parse(text: str) -> Any:
    """The value that ``text`` writes down, or ``Plain``.

    JSON is tried first, so ``true`` and ``null`` are values. Nothing is executed.
    """
    text = text.strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is not our concern
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return Plain


def form(text: str) -> tuple[str, frozenset[Any]]:
    """The type that ``text`` parses as ("plain" where it does not), and a dict's keys."""
    value = parse(text)
    if value is Plain:
        return "plain", frozenset()
    if isinstance(value, dict):
        return "dict", frozenset(value)
    if isinstance(value, int | float | complex) and not isinstance(value, bool):
        return "number", frozenset()
    return type(value).__name__, frozenset()


def same(left: Any, right: Any) -> bool:
    """Equal values; ``True`` is not 1, and outer whitespace of a string does not count."""
    if isinstance(left, str) and isinstance(right, str):
        return left.strip() == right.strip()
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)
