"""Regular expressions of a recipe, met by texts that nobody has seen: answers and corpora.

A pattern such as ``(\\w+\\s?)+:`` takes time that doubles with every word of a text that it does
not match. The ``regex`` package has Python's syntax and a time limit, which ``re`` lacks.
"""

import itertools
from collections.abc import Callable
from typing import Any

from delia_ray.config import Metric
from delia_ray.errors import DeliaError, UserError

_PROBE = 2000
"""Characters of the texts on which a pattern is tried before anything else is done."""


class Pattern:
    """The ``pattern`` of a metric, with its limit ``pattern_seconds``.

    Raises:
        UserError: it is no pattern, or on texts made of its own letters it takes too long.
    """

    def __init__(self, settings: Metric, flags: str = "") -> None:
        import regex

        self.settings = settings
        text = settings.pattern or ""
        try:
            self._compiled: Any = regex.compile(f"(?{flags}:{text})" if flags else text)
        except regex.error as error:
            raise UserError(
                f"{settings.name}: pattern={text!r} is no regular expression: {error}"
            ) from None
        self._try(text)

    def search(self, text: str) -> Any:
        """The first match, or None.

        Raises:
            DeliaError: it takes longer than ``pattern_seconds``.
        """
        return self._within(self._compiled.search, text)

    def fullmatch(self, text: str) -> Any:
        """The match of the whole ``text``, or None.

        Raises:
            DeliaError: as ``search``.
        """
        return self._within(self._compiled.fullmatch, text)

    def _within(self, find: Callable[..., Any], text: str) -> Any:
        try:
            return find(text, timeout=self.settings.pattern_seconds)
        except TimeoutError:
            raise DeliaError(
                f"{self.settings.name}: pattern={self.settings.pattern!r} takes longer than "
                f"pattern_seconds={self.settings.pattern_seconds:g} on a text of {len(text)} "
                f"characters, {text[:60]!r}; make its repeats exclude each other or possessive "
                "(`a++`, `(?>...)`), or raise pattern_seconds"
            ) from None

    def _try(self, pattern: str) -> None:
        """Repeats of the pattern's own signs and of neighbours among them, behind its first word;
        at the end one sign that ends no match and all of its signs, since a text that lacks one
        of them is not searched at all."""
        signs = [sign for sign in pattern if sign not in r"\()[]?|*+^$"]
        units = dict.fromkeys(
            [*signs, *map("".join, itertools.pairwise(signs)), "a", "a ", "0", "\n"]
        )
        first = "".join(itertools.takewhile(lambda sign: sign not in r"\()[]{}?|*+^$.", pattern))
        try:
            for unit in list(units)[:64]:
                text = (unit * _PROBE)[:_PROBE] + "\0" + "".join(signs)
                self.search(first + text)
                self.fullmatch(first + text)
        except DeliaError as error:
            raise UserError(str(error)) from None
