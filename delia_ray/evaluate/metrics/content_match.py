"""The right values, whatever the format: beside ``format_validity`` and ``exact_match`` it
tells whether a wrong answer has the wrong content or only the wrong form.

The normalisation follows SQuAD's (Rajpurkar et al. 2016, arXiv 1606.05250: case and
punctuation do not count), without its removal of articles, and reads formats first.
"""

import re
from collections.abc import Iterator
from typing import Any

from delia_ray.evaluate.metrics.contract import RowMetric
from delia_ray.evaluate.metrics.structure import Plain, parse

# Possessive, and the last with a look behind, so that a run of signs is read once.
_FENCE = re.compile(r"```[\w-]*+\n?+(.*?)\n?```", re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][^<>\n]*+>")
_KEY = re.compile(r"([\"'])[^\"'\n]*+\1\s*+:")
_ITEM = re.compile(r"^[ \t]*+(?:[-*+•–]|\d++[.)])[ \t]++", re.MULTILINE)
_EDGE = re.compile(r"^(?:(?![-+]?\d)[\W_])++|(?<![\W_])[\W_]++$")


class ContentMatch(RowMetric):
    """1 where ``content`` of output and reference is the same sequence of words.

    Two dicts with the same keys are compared key by key, in whatever order those stand.
    Where the reference has no word at all (``:-)``), the stripped strings must be equal.
    """

    def score(self, output: str, reference: str) -> float:
        wanted = content(reference)
        if not wanted:
            return float(output.strip() == reference.strip())
        left, right = parse(output), parse(reference)
        if isinstance(left, dict) and isinstance(right, dict) and set(left) == set(right):
            return float(all(list(_words(left[k])) == list(_words(right[k])) for k in right))
        return float(content(output) == wanted)


def content(text: str) -> list[str]:
    """The words that ``text`` says, without its format, in small letters.

    Of JSON and Python literals: the values in the order in which they stand, without keys. Of
    other text: code fences, tags, numbers and marks of list items, quoted keys (as left in
    JSON that was cut off), and whatever stands at the edge of a word and is no letter or
    digit (quotes, brackets, commas, emphasis) are not content; the sign of a number is.
    """
    text = _FENCE.sub(r"\1", text.strip())
    value = Plain if _ITEM.match(text) else parse(text)  # "- 5" is an item, no negative number
    return list(_words(text if value is Plain else value))


def _words(value: Any) -> Iterator[str]:
    waiting = [value]  # not by recursion: models nest brackets as deep as they like
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list | tuple):
            waiting += reversed(value)
        elif isinstance(value, set | frozenset):  # as written, their order means nothing
            waiting += sorted(value, key=repr, reverse=True)
        elif isinstance(value, str):
            plain = _ITEM.sub("", _KEY.sub(" ", _TAG.sub(" ", value)))
            yield from filter(None, (_EDGE.sub("", word).casefold() for word in plain.split()))
        elif isinstance(value, float) and value.is_integer():
            yield str(int(value))
        else:
            yield str(value).casefold()
