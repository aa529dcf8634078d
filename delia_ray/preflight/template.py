"""The chat template of the base model: whether an answer can be told from its prompt."""

from collections.abc import Iterator
from typing import Any

from delia_ray.chats.encode import encode
from delia_ray.chats.format import ASK, REFUSALS, SAY, Look, adapt, closing, look
from delia_ray.chats.spans import end_texts, find
from delia_ray.chats.texts import DIFFERS, Refused
from delia_ray.mix.advice import advice_for
from delia_ray.models import published_tokenizer
from delia_ray.preflight.problem import Problem
from delia_ray.preflight.subject import Subject
from delia_ray.records import Message

_AGAIN = "zqxagain"
_COPY = "use a copy of the model's folder with a chat_template.jinja"


def chat_template(subject: Subject) -> Iterator[Problem]:
    """Render an exchange by the template, and make tokens and a mask of it."""
    setting = f"model={subject.config.model}"
    tokenizer = subject.tokenizer
    try:
        seen = look(tokenizer)
    except REFUSALS as error:
        yield Problem(
            f"its chat template refuses a question and its answer ({error})", setting,
            f"{_COPY} that takes the roles user and assistant",
        )  # fmt: skip
        return
    if ASK not in seen.head or ASK not in seen.whole or SAY not in seen.whole:
        lost = "the question" if ASK not in seen.head + seen.whole else "the answer"
        yield Problem(
            f"its chat template does not write {lost}: of a question and an answer it makes "
            f"{seen.whole!r}", setting, f"{_COPY} that writes message.content",
        )  # fmt: skip
        return
    problem = _prefix(seen, setting) if subject.trains else None
    if problem is None and subject.trains:
        problem = _mask(subject, setting)
    if problem is not None:
        yield problem
        return
    yield from _notes(subject, tokenizer, seen, setting)


def _prefix(seen: Look, setting: str) -> Problem | None:
    if seen.whole.startswith(seen.head):
        return None
    extra = seen.head[len(seen.shared) :]
    if ASK not in seen.shared:
        return Problem(
            f"its chat template {DIFFERS.removeprefix('the chat template ')}: {seen.head!r} and "
            f"{seen.whole!r}", setting, f"{_COPY} whose generation prompt begins the answered chat",
        )  # fmt: skip
    return Problem(
        f"its generation prompt ends in {extra!r}, which an answered chat does not hold, so "
        "nobody can say what the model has to produce", setting,
        f"{_COPY} whose generation prompt leaves {extra!r} out",
    )  # fmt: skip


def _mask(subject: Subject, setting: str) -> Problem | None:
    one: list[Message] = [{"role": "user", "content": ASK}]
    more: list[Message] = [
        *one, {"role": "assistant", "content": SAY}, {"role": "user", "content": _AGAIN},
    ]  # fmt: skip
    found = [
        encode(subject.tokenizer, [(chat, SAY)], subject.ends, turns)[0]
        for chat, turns in ((one, "last"), (more, subject.config.mix.turns))
    ]
    single, several = found
    if isinstance(single, Refused):
        return Problem(single.reason, setting, "; or ".join(advice_for({single.reason: 1})))
    if isinstance(several, Refused) and several.reason == DIFFERS:
        return Problem(
            "the chat template writes an earlier answer otherwise than the prompt for it",
            f"mix.turns={subject.config.mix.turns}", "set mix.turns=last",
        )  # fmt: skip
    text = subject.tokenizer.decode(
        [i for i, counts in zip(single.ids, single.supervised, strict=True) if counts],
        skip_special_tokens=False, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    if not text.strip().startswith(SAY):
        return Problem(
            f"what would be trained of the answer {SAY!r} is {text!r}", setting,
            "use another model; its tokenizer does not give a text back",
        )  # fmt: skip
    return None


def _notes(subject: Subject, tokenizer: Any, seen: Look, setting: str) -> Iterator[Problem]:
    for change in adapt(published_tokenizer(subject.path)):
        yield Problem(change, setting, fatal=False)
    before = seen.head[: seen.head.index(ASK)]
    try:
        given = tokenizer.apply_chat_template(
            [{"role": "system", "content": _AGAIN}, {"role": "user", "content": ASK}],
            tokenize=False,
        )
    except REFUSALS:
        given = ""
    own = given[: given.find(_AGAIN)] if _AGAIN in given else ""
    if own and len(before) > len(own) and before.startswith(own):
        yield Problem(
            f"its chat template begins rows without a system turn with one of its own: {before!r}",
            setting, fatal=False,
        )  # fmt: skip
    bos = tokenizer.bos_token
    if bos and seen.head.startswith(bos + bos):
        yield Problem(f"its chat template begins with {bos!r} twice", setting, fatal=False)
    if subject.trains and closing(tokenizer, subject.ends):
        yield Problem(
            "its chat template writes no end token after an answer; the marker of the next turn, "
            f"{closing(tokenizer, subject.ends)!r}, ends it", setting, fatal=False,
        )  # fmt: skip
        return
    ends = end_texts(tokenizer, subject.ends)
    span = find(seen.whole, seen.whole.index(SAY), SAY, ends)
    if subject.trains and span is not None and not span.token:
        rest = seen.whole[span.answer :].strip()
        yield Problem(
            f"after an answer its chat template writes {rest!r}, and only {' or '.join(ends)} end "
            "a generation, so outputs hold what comes before that", setting,
            "where it begins with an end of turn, add that token to eos_token_id in "
            "generation_config.json of a copy of the model", fatal=False,
        )  # fmt: skip
