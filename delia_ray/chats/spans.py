"""Where in a rendered chat an answer ends, and with which token."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

_SPACE = re.compile(r"\s*")


class Span(NamedTuple):
    """Places in a rendered chat."""

    answer: int
    """Behind the answer."""
    stop: int
    """Behind its end token; the same as ``answer`` where none follows it."""
    token: str
    """The end token; empty where none follows."""

    def closer(self, text: str) -> str:
        """What stands between the answer and what follows its end token."""
        return text[self.answer : self.stop]


def end_texts(tokenizer: Any, ends: Iterable[int]) -> tuple[str, ...]:
    """The end tokens as a template writes them, the longest first."""
    found = [tokenizer.convert_ids_to_tokens(i) for i in sorted(ends)]
    return tuple(sorted((t for t in found if t), key=len, reverse=True))


def find(text: str, start: int, answer: str, ends: Iterable[str]) -> Span | None:
    """The span of ``answer``, which begins at ``start`` of ``text``, or behind space there;
    None where the template wrote something else.

    Templates may write the answer as it is or without space around it, and space before the
    end token. Where an end token does not follow at once, ``token`` is empty.
    """
    ends = tuple(ends)
    found: Span | None = None
    gap = _at(text, start)
    for said in dict.fromkeys((answer, answer.rstrip(), answer.lstrip(), answer.strip())):
        for at in range(start, gap + 1):
            if not text.startswith(said, at):
                continue
            behind = at + len(said)
            place = _at(text, behind)
            for token in ends:
                if text.startswith(token, place):
                    return Span(behind, place + len(token), token)
            found = found or Span(behind, behind, "")
    return found


def reach(text: str, span: Span, ends: Iterable[str]) -> Span:
    """``span`` up to the first end token behind it, whatever the template writes in between:
    until then a model that generates would go on."""
    places = [(at, t) for t in ends if (at := text.find(t, span.answer)) >= 0]
    if not places:
        return span
    at, token = min(places, key=lambda p: (p[0], -len(p[1])))
    return Span(span.answer, at + len(token), token)


def _at(text: str, start: int) -> int:
    """Behind the space at ``start``."""
    found = _SPACE.match(text, start)
    assert found is not None  # it matches nothing too
    return found.end()
