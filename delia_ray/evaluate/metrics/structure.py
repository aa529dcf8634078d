"""Answers as data: JSON, or a Python literal as in ``{'thought': "...", 'label': 'yes'}``."""

import ast
import json
import re
import warnings
from typing import Any

from delia_ray.text import stream_safe


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
    return python_literal(text)


def python_literal(text: str) -> Any:
    """The value of a Python literal, or ``Plain``."""
    if stream_safe(text) != text:  # Python would normalise it as a name, in quadratic time
        return Plain
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


# Answers are as long as a model likes: what could be split in two ways is possessive (`*+`), so
# that a text that does not match costs no more than one that does.
_MARKS = (
    ("tag", re.compile(r"\A<([A-Za-z][^<>\s]*+)>.*</\1>", re.DOTALL)),
    ("list items", re.compile(r"\A(?:[ \t]*+(?:[-*•]|\d++[.)])[ \t]++.*+(?:\n|\Z))++")),
    ("brackets", re.compile(r"\A\[.*\]", re.DOTALL)),
    ("quotes", re.compile(r"\A([\"'“]).*[\"'”]", re.DOTALL)),
)


def form_name(text: str) -> str:
    """A word for the form of an answer, to group rows by: ``json``, ``python`` (a literal),
    ``tag``, ``list items``, ``brackets``, ``quotes``, ``number`` or ``plain``."""
    text = text.strip()
    for name, mark in _MARKS:
        if name in ("tag", "list items") and mark.fullmatch(text):
            return name
    value = parse(text)
    if isinstance(value, dict | list | tuple | set):
        return "json" if _is_json(text) else "python"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return next((name for name, mark in _MARKS if mark.fullmatch(text)), "plain")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
