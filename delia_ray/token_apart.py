"""The sentences of an instruction that only name a special token, apart from what is asked.

"List the towns. Answer in the <sep> format." asks for towns; its second sentence is the same for
every task. A small model that rewords both tends to lose the token, so it is shown the first
alone, and the second is put back.
"""

import itertools
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from delia_ray.request_rules import subject

_BETWEEN = re.compile(r"(?<=[.!?])[ \t]++")
_ANSWERING = subject("answer answers respond response reply write give output return")


@dataclass(frozen=True)
class Apart:
    """An instruction in two."""

    request: str
    """What is asked: the sentences without a token."""
    frame: str
    """Those with one."""
    first: bool
    """Whether the frame stands before the request."""

    def joined(self, request: str, frame: str = "") -> str:
        """``request``, and ``frame`` or its own, in the order of this one."""
        parts = [request.strip(), frame or self.frame]
        return " ".join(reversed(parts) if self.first else parts)


def apart(instruction: str, tokens: Collection[str]) -> Apart | None:
    """``instruction`` in two; None where no sentence is without a token or none has one, or where
    they alternate."""
    sentences = _BETWEEN.split(instruction.strip())
    named = [any(token in sentence for token in tokens) for sentence in sentences]
    changes = sum(one != other for one, other in itertools.pairwise(named))
    if changes != 1:
        return None
    texts = [
        " ".join(s for s, own in zip(sentences, named, strict=True) if own is kind)
        for kind in (False, True)
    ]
    return Apart(texts[0], texts[1], named[0])


def request_of(instruction: str, tokens: Collection[str]) -> str:
    """What is asked, without the frame where it has one."""
    found = apart(instruction, tokens)
    return found.request if found else instruction


def frames(instructions: Iterable[str], tokens: Collection[str]) -> list[str]:
    """Of instructions, those frames that say nothing of the task, so that each can stand in the
    others' place; in their order, each once."""
    found = (apart(instruction, tokens) for instruction in instructions)
    return list(dict.fromkeys(f.frame for f in found if f and is_general(f.frame)))


def is_general(frame: str) -> bool:
    """Whether a frame says no more than that the answer has the token's form."""
    return set(subject(frame)) <= set(_ANSWERING)
