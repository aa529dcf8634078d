"""Verifiable constraints on an answer, as in IFEval (Zhou et al. 2023, arXiv 2311.07911).

A row of IFEval asks for something and names what a program can check about the answer:
``instruction_id_list`` and, for each, its ``kwargs``. Here a suite's reference answer is the
JSON text of the two. ``checks`` has one pure function for each instruction of Table 1 of the
paper, ``counting`` what a word, a sentence and a paragraph are. Written from the paper and
the published prompts; where they are silent, a rule is written at the function.

``language:response_language`` needs a language detector, so such a row cannot be judged.
"""

import inspect
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray.ifeval.checks import CHECKS

UNSUPPORTED = {"language:response_language": "needs a language detector"}
"""Instructions of IFEval that are known and not checked -> why."""


class ConstraintError(ValueError):
    """Constraints that cannot be checked; ``reason`` is the same for all with this fault."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Constraint:
    """One instruction: its id in ``checks.CHECKS`` and the arguments of its check."""

    id: str
    kwargs: Mapping[str, Any]

    def holds(self, response: str) -> bool:
        """An empty response follows no instruction."""
        return bool(response.strip()) and CHECKS[self.id](response, **self.kwargs)


def constraints(ids: Any, kwargs: Any) -> list[Constraint]:
    """The constraints of a row; arguments that are null (as some copies fill in) do not count.

    Raises:
        ConstraintError: not two lists of one length, an unknown or unsupported instruction,
            or arguments that it does not take.
    """
    if not (isinstance(ids, list) and isinstance(kwargs, list) and len(ids) == len(kwargs) > 0):
        raise ConstraintError("instruction_id_list and kwargs are not lists of the same length")
    found = []
    for name, given in zip(ids, kwargs, strict=True):
        if isinstance(name, str) and name in UNSUPPORTED:
            raise ConstraintError(f"unsupported instruction {name}", UNSUPPORTED[name])
        if not isinstance(name, str) or name not in CHECKS:
            raise ConstraintError("unknown instruction", repr(name)[:80])
        if not isinstance(given, dict | None):
            raise ConstraintError("kwargs of an instruction are not an object", repr(given)[:80])
        used = {key: value for key, value in (given or {}).items() if value is not None}
        try:
            inspect.signature(CHECKS[name]).bind("", **used)
            CHECKS[name]("x", **used)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConstraintError(f"wrong arguments of {name}", str(error)) from None
        found.append(Constraint(name, used))
    return found


def encode(ids: Any, kwargs: Any) -> str:
    """The JSON text that stands as a row's reference answer.

    Raises:
        ConstraintError: as ``constraints``.
    """
    kept = [dict(c.kwargs) for c in constraints(ids, kwargs)]
    return json.dumps({"instruction_id_list": ids, "kwargs": kept}, ensure_ascii=False)


def decode(reference: str) -> list[Constraint]:
    """The constraints that ``encode`` wrote.

    Raises:
        ConstraintError: as ``constraints``, or it is not such a text.
    """
    try:
        value = json.loads(reference)
    except ValueError:
        raise ConstraintError("not the JSON of an IFEval row", reference[:80]) from None
    if not isinstance(value, dict):
        raise ConstraintError("not the JSON of an IFEval row", reference[:80])
    return constraints(value.get("instruction_id_list"), value.get("kwargs"))


def followed(response: str, wanted: Sequence[Constraint], loose: bool = False) -> list[bool]:
    """For each constraint, whether ``response`` follows it.

    Args:
        loose: it is enough that one of ``variants`` does (section 2.2 of the paper), so that
            "Sure, here it is:" or bold type does not count against an answer.
    """
    texts = variants(response) if loose else [response]
    return [any(constraint.holds(text) for text in texts) for constraint in wanted]


def variants(response: str) -> list[str]:
    """The eight texts of the loose criterion: with or without asterisks, first line, last line."""
    lines = response.split("\n")
    cut = (
        "\n".join(lines[first : len(lines) - last]).strip() if first or last else response
        for first, last in itertools.product((0, 1), (0, 1))
    )
    return [text for one in cut for text in (one, one.replace("*", ""))]


__all__ = [
    "CHECKS",
    "UNSUPPORTED",
    "Constraint",
    "ConstraintError",
    "constraints",
    "decode",
    "encode",
    "followed",
    "variants",
]
