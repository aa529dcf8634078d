"""Whether a wording asks for the same, as the base model sees it.

Two questions that rules cannot answer. Does the row's own answer follow from the wording as it
follows from the original: is the model's mean loss of the answer not much larger, and smaller than
without any instruction? And is the state in which the wording leaves the model near the one in
which the original leaves it?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delia_ray.config import Reword
from delia_ray.models import load_tokenizer, locate, prompt_ids
from delia_ray.records import Message
from delia_ray.scoring import Floats, Scored, scorer

ROWS = 2
"""Rows of a task whose answers are asked for; more would cost a pass each, and tell little."""
ANSWER = 128
"""Tokens of an answer that are looked at."""
PROMPT = 2048
"""Tokens of a prompt up to which a row is looked at."""
_CHUNK = 64
"""Tasks for one call of the scorer: 10 wordings of each are 1,300 sequences."""


@dataclass(frozen=True)
class Task:
    """One instruction with the wordings that the rules let pass."""

    original: str
    wordings: tuple[str, ...]
    bare: tuple[list[Message], ...]
    """Up to ``ROWS`` chats without their instruction."""
    asked: tuple[tuple[list[Message], ...], ...]
    """The same with the original, then with each wording."""
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """What the model makes of one wording."""

    loss: float | None
    """Mean loss of the answers, in nats for each token, less that under the original; None where
    no row was short enough."""
    bare: float | None
    """The same less that under no instruction."""
    helped: bool
    """Whether the original itself is better than no instruction."""
    nearness: float | None
    """Cosine of the states of wording and original, both less the mean state of other queries."""

    def problem(self, reword: Reword) -> str | None:
        """Why the wording cannot stand for the original."""
        most, least = reword.max_loss_increase, reword.min_nearness
        if most is not None and self.loss is not None and self.bare is not None:
            if self.loss > most:
                return "its answer follows less from it"
            if self.helped and self.bare >= 0:
                return "no better than without an instruction"
        if least is not None and self.nearness is not None and self.nearness < least:
            return "far from the original"
        return None


def look_all(
    model: str, tasks: Sequence[Task], others: Sequence[str], gpu: bool, cpus: int
) -> list[list[Seen]]:
    """``look`` in Ray tasks, some instructions each.

    Args:
        gpu: give each a GPU.
        cpus: of each, where there is no GPU.
    """
    import ray

    chunks = [tasks[at : at + _CHUNK] for at in range(0, len(tasks), _CHUNK)]
    remote = ray.remote(look).options(
        num_gpus=1 if gpu else 0,
        num_cpus=0 if gpu else cpus,
        name="look at wordings",
        scheduling_strategy="DEFAULT",
    )
    made = ray.get([remote.remote(model, chunk, list(others)) for chunk in chunks])
    return [seen for chunk in made for seen in chunk]


def look(model: str, tasks: Sequence[Task], others: Sequence[str]) -> list[list[Seen]]:
    """Of each task, what the model makes of each wording.

    Args:
        others: other queries; their mean state is what all have in common.
    """
    tokenizer = load_tokenizer(locate(model))
    sequences = _Sequences(tokenizer)
    asked = [_ask(sequences, task) for task in tasks]
    texts = [[sequences.text(text) for text in (task.original, *task.wordings)] for task in tasks]
    common = [sequences.text(text) for text in others if text.strip()]
    scored = scorer(model).score(sequences.ids, sequences.supervised)
    mean = scored.state[common].mean(0) if common else None
    return [_seen(scored, *parts, mean) for parts in zip(asked, texts, strict=True)]


class _Sequences:
    """What the scorer is given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids: list[list[int]] = []
        self.supervised: list[list[bool]] = []

    def answer(self, chat: list[Message], answer: str) -> int | None:
        """Where the answer to a chat is; None where the chat is too long."""
        prompt = prompt_ids(self.tokenizer, chat)
        if len(prompt) > PROMPT:
            return None
        said = self._tokens(answer)[:ANSWER]
        return self._add(prompt + said, [False] * len(prompt) + [True] * len(said))

    def text(self, text: str) -> int:
        ids = self._tokens(text)[:PROMPT]
        return self._add(ids, [False] * len(ids))

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _add(self, ids: list[int], supervised: list[bool]) -> int:
        self.ids.append(ids)
        self.supervised.append(supervised)
        return len(self.ids) - 1


def _ask(sequences: _Sequences, task: Task) -> list[list[int]]:
    """(bare, original, each wording) -> the sequences of the rows that are short enough in all."""
    ways = (task.bare, *task.asked)
    found: list[list[int]] = [[] for _ in ways]
    for at, answer in enumerate(task.answers):
        places = [sequences.answer(way[at], answer) for way in ways]
        if answer and None not in places:
            for own, place in zip(found, places, strict=True):
                own.append(place or 0)
    return found


def _seen(
    scored: Scored, asked: list[list[int]], texts: list[int], mean: Floats | None
) -> list[Seen]:
    states = scored.state[texts]
    near = [None] * len(texts) if mean is None else _cosines(states - mean)
    if not asked[0]:
        return [Seen(None, None, False, nearness) for nearness in near[1:]]
    bare, original, *worded = (float(scored.loss[places].mean()) for places in asked)
    return [
        Seen(loss - original, loss - bare, original < bare, nearness)
        for loss, nearness in zip(worded, near[1:], strict=True)
    ]


def _cosines(states: npt.NDArray[Any]) -> list[float | None]:
    """Of each row with the first."""
    lengths = np.linalg.norm(states, axis=1)
    return [float(c) for c in states @ states[0] / np.maximum(lengths * lengths[0], 1e-12)]
