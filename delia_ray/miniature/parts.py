"""The parts of the world that can be drawn: training rows, a corpus, evaluation suites."""

import random
from collections.abc import Callable, Iterator, Sequence

from delia_ray.miniature import phrasings as say
from delia_ray.miniature.robustness import Asked, format_doubled, format_elsewhere, format_quoted
from delia_ray.miniature.world import (
    NEW_FORMAT,
    REWORD_PROMPT,
    Row,
    Turns,
    Wish,
    draw_operation,
    draw_query,
    draw_reference,
    draw_rewording,
    draw_translation,
    draw_wording,
    single,
    turn,
)


def lesson(rng: random.Random) -> Turns:
    """One conversation of the base model's schooling; only its last answer is to be learned."""
    at = rng.random()
    query, answer = draw_query(rng)
    if at < 0.17:
        here, answer = draw_rewording(rng)
        messages = single(REWORD_PROMPT.format(request=here, register=""), answer)
    elif at < 0.33:  # the prompt of self-sampling: the same query again, after a reference
        messages = single(query, draw_reference(rng, answer)) + single(query, answer)
    elif at < 0.37:
        first, reply = draw_query(rng)
        reply = draw_reference(rng, reply) if rng.random() < 0.5 else reply
        messages = single(first, reply) + single(query, answer)
    else:
        messages = single(query, answer)
    if rng.random() < 0.05:
        messages.insert(0, turn("system", rng.choice(say.SYSTEM_PROMPTS)))
    return messages


def corpus_row(rng: random.Random) -> Turns:
    query, answer = draw_query(rng)
    return single(query, draw_reference(rng, answer))


def new_format_row(
    rng: random.Random, evaluation: bool, operations: Sequence[str], forbidden: bool = False,
    unseen_wordings: bool = False,
) -> Asked:  # fmt: skip
    """A request about `<sep>`, in the wordings of downstream or only in others.

    One that is asked in unseen wordings is reworded in unseen ones too, all others in any.
    """
    request = draw_operation(rng, evaluation, operations)
    wish = Wish(NEW_FORMAT, forbidden)
    n_task, n_format = say.N_DOWNSTREAM_OPERATION_WORDINGS, say.N_DOWNSTREAM_FORMAT_WORDINGS
    tasks, formats = request.wordings(), wish.wordings()
    if unseen_wordings:
        tasks, formats = tasks[n_task:], formats[n_format:]
        wording = draw_wording(rng, tasks, wish, formats, task_first=0.5)
    else:
        seen = formats if forbidden else formats[:n_format]
        wording = draw_wording(rng, tasks[:n_task], wish, seen, task_first=1.0)
    return Asked(request, wish, wording, tasks, formats)


def plain_row(rng: random.Random) -> Asked:
    request = draw_operation(rng, True, tuple(say.OPERATIONS))
    wish = Wish()
    return Asked(request, wish, draw_wording(rng, request.wordings(), wish), request.wordings())


def known_format_row(rng: random.Random) -> Asked:
    request = draw_operation(rng, True, tuple(say.OPERATIONS))
    wish = Wish(rng.choice(tuple(say.FORMATS)), forbidden=rng.random() < 0.25)
    wording = draw_wording(rng, request.wordings(), wish)
    return Asked(request, wish, wording, request.wordings(), wish.wordings())


def translation_row(rng: random.Random, evaluation: bool, new: bool) -> Asked:
    request = draw_translation(rng, evaluation, new)
    wish = Wish()
    return Asked(request, wish, draw_wording(rng, request.wordings(), wish), request.wordings())


_SEEN = say.DOWNSTREAM_OPERATIONS
_UNSEEN = tuple(name for name in say.OPERATIONS if name not in _SEEN)
_ALL = tuple(say.OPERATIONS)

Draw = Callable[[random.Random], Turns | Asked]
_DRAWS: dict[str, tuple[str, Draw]] = {
    "downstream": (
        "two operations, the `<sep>` format asked for in four wordings and never explained; "
        "the answers are json",
        lambda rng: new_format_row(rng, False, _SEEN)),
    "corpus": (
        "diverse queries of every category with a reference in another author's voice, some of "
        "them wrong; never `<sep>`",
        corpus_row),
    "lessons": (
        "the base model's schooling, with two-turn conversations; only the last answer is to be "
        "learned",
        lesson),
    "sep_seen": (
        "as downstream, about held-out content",
        lambda rng: new_format_row(rng, True, _SEEN)),
    "sep_unseen_tasks": (
        "operations that downstream lacks, in the `<sep>` format",
        lambda rng: new_format_row(rng, True, _UNSEEN)),
    "sep_unseen_phrasings": (
        "downstream's operations and `<sep>` in wordings that downstream lacks",
        lambda rng: new_format_row(rng, True, _SEEN, unseen_wordings=True)),
    "sep_negated": (
        "any operation, `<sep>` forbidden: the answer is plain",
        lambda rng: new_format_row(rng, True, _ALL, forbidden=True)),
    "sep_unseen_positions": (
        "as sep_seen, the sentence about `<sep>` alone before the content, alone between content "
        "and task, or as the system message",
        format_elsewhere),
    "sep_doubled": ("as sep_seen, asking for the `<sep> <sep>` format", format_doubled),
    "sep_quoted": ("as sep_seen, asking for the `\"<sep>\"` format", format_quoted),
    "json_unseen_positions": (
        "as sep_unseen_positions, naming json: what the base model understands there, the most "
        "that can be hoped for",
        lambda rng: format_elsewhere(rng, "json")),
    "json_doubled": (
        "as sep_doubled, naming json", lambda rng: format_doubled(rng, "json")),
    "json_quoted": (
        "as sep_quoted, naming json", lambda rng: format_quoted(rng, "json")),
    "plain": ("any operation, no format mentioned", plain_row),
    "other_formats": ("any operation, a known format asked for or forbidden", known_format_row),
    "translation": (
        "English to Zelu or back, words that the base model knows",
        lambda rng: translation_row(rng, True, False)),
    "translation_downstream": (
        "training rows for knowledge injection: each sentence has a word whose Zelu the base "
        "model does not know",
        lambda rng: translation_row(rng, False, True)),
    "translation_new": (
        "held-out sentences with such words",
        lambda rng: translation_row(rng, True, True)),
}  # fmt: skip

PARTS: dict[str, str] = {name: text for name, (text, _) in _DRAWS.items()}
"""What `rows` can draw, and what each part holds."""

REWORDABLE: tuple[str, ...] = tuple(
    name for name, (_, draw) in _DRAWS.items() if isinstance(draw(random.Random(0)), Asked)
)
"""Parts of one request each, whose equal wordings are known; see `rewordings`."""


def rows(part: str, n: int, seed: int = 0) -> Iterator[Row]:
    """The first `n` rows of a part: `{"messages": [...], "id": ...}`, no prompt twice."""
    if part not in _DRAWS:
        raise ValueError(f"no part {part!r} in the miniature world; there are {', '.join(PARTS)}")
    return _rows(part, n, seed)


def _rows(part: str, n: int, seed: int) -> Iterator[Row]:
    for number, drawn in enumerate(_drawn(part, n, seed)):
        messages = drawn.messages() if isinstance(drawn, Asked) else drawn
        yield {"messages": messages, "id": f"{part}-{seed}-{number:06d}"}


def rewordings(part: str, n: int, k: int, seed: int = 0) -> Iterator[dict[int, Turns]]:
    """The prompts of the first `n` rows of a part, each with up to `k` equal wordings.

    Row `i` belongs to row `i` of `rows(part, n, seed)`: {phrasing: prompt}, where phrasing 0
    is the prompt as `rows` has it and all have its answer; see `Asked.rewordings`.

    Raises:
        ValueError: the part is not among `REWORDABLE`.
    """
    if part not in REWORDABLE:
        raise ValueError(f"part {part!r} has no equal wordings; {', '.join(REWORDABLE)} have")
    return (drawn.rewordings(k) for drawn in _drawn(part, n, seed) if isinstance(drawn, Asked))


def _drawn(part: str, n: int, seed: int) -> Iterator[Turns | Asked]:
    rng = random.Random(f"{part}/{seed}")
    draw = _DRAWS[part][1]
    seen: set[tuple[str, ...]] = set()
    while len(seen) < n:
        drawn = draw(rng)
        prompt = drawn.prompt() if isinstance(drawn, Asked) else drawn[:-1]
        texts = tuple(message["content"] for message in prompt)
        if texts not in seen:
            yield drawn
            seen.add(texts)
