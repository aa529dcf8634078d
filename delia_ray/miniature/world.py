"""The miniature world: seeded rows of requests with exactly known answers.

A request has the layout of real instruction data: content first, a blank line, then the
instruction as the last paragraph, which names a task and often asks for, or forbids, an answer
format. All randomness comes from `(part, seed)`, so a part is the same everywhere, and a longer
draw begins with the shorter one.

Content is split by its own hash: what evaluation suites ask about is never asked about in
training rows, whatever the seeds.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from delia_ray.miniature import phrasings as say
from delia_ray.miniature import vocabulary as voc

REWORD_PROMPT = (
    "Say the following request in other words. Keep names, numbers and anything in angle "
    "brackets exactly as they stand. Do not answer the request and do not explain it."
    "{register}\n\n{request}"
)
"""How rewording is asked for; also the default of ``synthesize.reword.prompt``. It shows no
token in angle brackets itself: a tokenizer would make one piece of it, and copying that piece
would never be learned."""

Row = dict[str, Any]
Turns = list[dict[str, str]]

NEW_FORMAT = "<sep>"
"""The special token that downstream rows ask for and never explain; it stands for json."""

HELD_OUT_SHARE = 8
"""One content in so many belongs to the evaluation suites."""

WRONG_REFERENCE_SHARE = 0.04
"""Corpora have mistakes: so many references answer something else."""


@dataclass(frozen=True)
class Wish:
    """What is said about the answer's format: nothing (`name` None), asked for, or forbidden."""

    name: str | None = None
    forbidden: bool = False

    def render(self, words: Sequence[str]) -> str:
        """The answer in the model's own voice; a forbidden format means a plain answer."""
        name = "json" if self.name == NEW_FORMAT else self.name
        if name is None or self.forbidden:
            return " ".join(words)
        return say.FORMATS[name](words)

    def wordings(self) -> tuple[str, ...]:
        return say.FORBID_FORMAT if self.forbidden else say.ASK_FORMAT


@dataclass(frozen=True)
class Request:
    """One request before it is worded: a task about a content, and a wish for the format."""

    task: str
    content: str
    answer: tuple[str, ...]
    slot: str = ""  # the word or number that the task's wording mentions

    def wordings(self) -> tuple[str, ...]:
        if self.task in say.OPERATIONS:
            return say.OPERATIONS[self.task][1]
        return tuple(wording.format(w=self.slot) for wording in say.TASKS[self.task])


def held_out(key: str) -> bool:
    """Does this content belong to evaluation?"""
    return crc32(key.encode()) % HELD_OUT_SHARE == 0


def draw_until(draw: Callable[[], tuple[str, str]], evaluation: bool) -> str:
    """Draw (key, content) pairs until one belongs to the wanted side of the split."""
    while True:
        key, content = draw()
        if held_out(key) == evaluation:
            return content


def draw_words(rng: random.Random, evaluation: bool) -> list[str]:
    """Three to five different words that belong to the wanted side of the split."""

    def draw() -> tuple[str, str]:
        content = " ".join(rng.sample(voc.WORDS, rng.randint(3, 5)))
        return content, content

    return draw_until(draw, evaluation).split()


def draw_operation(rng: random.Random, evaluation: bool, names: Sequence[str]) -> Request:
    name = rng.choice(list(names))
    words = draw_words(rng, evaluation)
    return Request(name, " ".join(words), tuple(say.OPERATIONS[name][0](words)))


def draw_clause(rng: random.Random, new: bool) -> voc.Clause:
    """A clause of known words, or, if `new`, one with at least one word of unknown Zelu."""
    while True:
        kinds = ("adjective", "noun", "verb", "adjective", "noun")
        pools = [voc.TABLES[k] if new else voc.KNOWN[k] for k in kinds]
        adj1, noun1, verb, adj2, noun2 = (rng.choice(list(pool)) for pool in pools)
        clause = (
            adj1 if rng.random() < 0.6 else "", noun1, verb, adj2 if rng.random() < 0.6 else "",
            noun2,
        )  # fmt: skip
        if noun1 != noun2 and (not new or any(w in p for w in clause for p in voc.NEW.values())):
            return clause


def draw_translation(rng: random.Random, evaluation: bool, new: bool = False) -> Request:
    while True:
        clause = draw_clause(rng, new)
        if held_out(voc.english(clause)) == evaluation:
            break
    here, there = voc.english(clause), voc.zelu(clause)
    if rng.random() < 0.5:
        return Request("to_zelu", here, tuple(there.split()))
    return Request("from_zelu", there, tuple(here.split()))


def draw_other(rng: random.Random, evaluation: bool) -> Request:
    """The tasks that make the world more than a list processor."""
    task = rng.choice(("after", "contains", "odd", "kind", "add"))
    if task == "kind":
        noun = rng.choice(tuple(voc.NOUNS))
        return Request(task, "", (voc.KIND_OF[noun],), noun)
    if task == "add":
        a, b = rng.randint(0, 9), rng.randint(0, 9)
        return Request(task, "", (str(a + b),), f"{a} plus {b}")
    if task == "odd":

        def draw() -> tuple[str, str]:
            kind, other = rng.sample(tuple(voc.KINDS), 2)
            words = [*rng.sample(voc.KINDS[kind], 3), rng.choice(voc.KINDS[other])]
            content = " ".join(rng.sample(words, 4))
            return content, content

        content = draw_until(draw, evaluation)
        kinds = [voc.KIND_OF[word] for word in content.split()]
        return Request(task, content, tuple(
            word for word, kind in zip(content.split(), kinds, strict=True)
            if kinds.count(kind) == 1))  # fmt: skip
    words = draw_words(rng, evaluation)
    content = " ".join(words)
    if task == "after":
        at = rng.randrange(len(words) - 1)
        return Request(task, content, (words[at + 1],), words[at])
    word = rng.choice(words) if rng.random() < 0.5 else rng.choice(voc.WORDS)
    return Request(task, content, ("yes" if word in words else "no",), word)


def draw_request(rng: random.Random, evaluation: bool = False) -> Request:
    """Any request that can be combined with a format wish."""
    at = rng.random()
    if at < 0.65:
        return draw_operation(rng, evaluation, tuple(say.OPERATIONS))
    return (draw_translation if at < 0.82 else draw_other)(rng, evaluation)


def draw_wish(rng: random.Random) -> Wish:
    at = rng.random()
    if at < 0.3:
        return Wish()
    return Wish(rng.choice(tuple(say.FORMATS)), forbidden=at > 0.75)


def draw_unknown_format(rng: random.Random) -> str:
    """A made-up name in angle brackets: rewording must copy it, nothing ever answers it."""
    while True:
        letters = rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 5))
        name = "<" + "".join(letters) + ">"
        if name != NEW_FORMAT:
            return name


@dataclass(frozen=True)
class Wording:
    """The sentences in which a request is put, and their order."""

    task: str
    format: str = ""  # of the wish; empty where there is none
    task_first: bool = True

    def instruction(self) -> str:
        """Both as one paragraph."""
        parts = (self.task, self.format) if self.task_first else (self.format, self.task)
        return " ".join(part for part in parts if part)


def draw_wording(
    rng: random.Random,
    task_wordings: Sequence[str],
    wish: Wish,
    format_wordings: Sequence[str] = (),
    task_first: float = 0.75,
) -> Wording:
    """A task and, if there is a wish, the format, each in some wording.

    `task_first` is how likely the task comes before the format.
    """
    task = rng.choice(list(task_wordings))
    if wish.name is None:
        return Wording(task)
    wording = rng.choice(list(format_wordings or wish.wordings())).format(f=wish.name)
    return Wording(task, wording, rng.random() < task_first)


def word_instruction(rng: random.Random, task_wordings: Sequence[str], wish: Wish) -> str:
    """The last paragraph: the task and, if there is a wish, the format, each in some wording."""
    return draw_wording(rng, task_wordings, wish).instruction()


def compose(request: Request, instruction: str) -> str:
    return f"{request.content}\n\n{instruction}" if request.content else instruction


def read_instruction(text: str, slot: str = "") -> tuple[str, Wish] | None:
    """Which task and wish an instruction states, or None if it is none of this world's.

    The inverse of `word_instruction`, for judging a rewording: it is right when both sides
    read the same.
    """
    tasks = {name: wordings for name, (_, wordings) in say.OPERATIONS.items()} | say.TASKS
    for name, wordings in tasks.items():
        for wording in wordings:
            sentence = wording.format(w=slot)
            if text == sentence:
                return name, Wish()
            if text.startswith(sentence + " "):
                rest = text[len(sentence) + 1 :]
            elif text.endswith(" " + sentence):
                rest = text[: -len(sentence) - 1]
            else:
                continue
            for forbidden, frames in ((False, say.ASK_FORMAT), (True, say.FORBID_FORMAT)):
                for frame in frames:
                    head, tail = frame.split("{f}")
                    if rest.startswith(head) and rest.endswith(tail):
                        format_name = rest[len(head) : len(rest) - len(tail)]
                        if format_name and " " not in format_name:
                            return name, Wish(format_name, forbidden)
    return None


def draw_rewording(rng: random.Random, evaluation: bool = False) -> tuple[str, str]:
    """An instruction and another wording of it, about known formats, unknown ones, or none."""
    request = draw_request(rng, evaluation)
    wish = draw_wish(rng)
    if wish.name is not None and rng.random() < 0.75:
        wish = Wish(draw_unknown_format(rng), wish.forbidden)
    here = word_instruction(rng, request.wordings(), wish)
    while True:
        there = word_instruction(rng, request.wordings(), wish)
        if there != here:
            return here, there


def draw_query(rng: random.Random) -> tuple[str, str]:
    """Any single-turn query of training and its answer in the model's own voice."""
    at = rng.random()
    if at < 0.01:
        return rng.choice(list(say.GREETINGS.items()))
    if at < 0.07:
        here, there = draw_rewording(rng)
        return f"{here}\n\n{rng.choice(say.TASKS['reword'])}", there
    request, wish = draw_request(rng), draw_wish(rng)
    instruction = word_instruction(rng, request.wordings(), wish)
    return compose(request, instruction), wish.render(request.answer)


def draw_reference(rng: random.Random, answer: str) -> str:
    """The answer as another author gives it, now and then a wrong one."""
    if rng.random() < WRONG_REFERENCE_SHARE:
        answer = draw_query(rng)[1]
    return rng.choice(say.FOREIGN_VOICES)(answer)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def single(query: str, answer: str) -> Turns:
    return [turn("user", query), turn("assistant", answer)]
