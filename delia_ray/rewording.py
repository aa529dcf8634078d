"""An instruction in other words: how it is asked for, and which wordings can be trusted.

Fine-tuning rows are reworded before training (stage 2) and suites before they are asked
(stage 5); both ask in the same way and set aside by the same rules. Pure functions; each rule
returns the reason, or None for a good text.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from delia_ray.chats.thoughts import separate
from delia_ray.config import Reword, Rules
from delia_ray.records import Message
from delia_ray.request_rules import (
    added_subject,
    form_problem,
    kept_subject,
    language_problem,
    names_problem,
    scope_problem,
)
from delia_ray.text import repetition
from delia_ray.token_apart import apart, request_of

_NEW_PARAGRAPH = re.compile(r"\n[ \t]*+\n\s*+")
_MUST_SURVIVE = re.compile(r"\d++(?:[.,]\d++)*+|\"[^\"]++\"|`[^`]++`|\{[^{}]*+\}|<[^<>\s]++>")
"""Numbers, quoted text, code, slots and tags: what a rewording may not change."""
_MARKED_WORD = re.compile(r"([\"'`<]?)(\w++)([\"'`>]?)")
_NEGATION = re.compile(r"\b(?:not|never|without|avoid|no|nor|neither|cannot)\b|n't\b", re.I)
_SHORT = 3
"""An answer of up to this many characters occurs in other words by chance."""
_EVERYDAY = set(
    "about answer each every follow form format from have into must only response should".split()  # noqa: SIM905
    + "that them then there these they this type what when where which will with word words".split()  # noqa: SIM905
)
"""Words of a description that do not give it away."""


def split_instruction(text: str, part: str) -> tuple[str, str]:
    """(content, instruction) of a user turn; their concatenation is ``text``.

    ``part`` is ``all`` (everything is instruction) or ``last_paragraph`` (what follows the
    last blank line; everything where there is none).
    """
    if part != "last_paragraph":
        return "", text
    # Whatever ends the text is no paragraph of its own, so none begins at its end.
    begins = [found.end() for found in _NEW_PARAGRAPH.finditer(text.rstrip())]
    return (text[: begins[-1]], text[begins[-1] :]) if begins else ("", text)


def reword(
    settings: Reword, instruction: str, register: str = "", tokens: Collection[str] = ()
) -> list[Message]:
    """The chat that asks for ``instruction`` in other words, spoken in ``register``.

    Args:
        settings: made definite by ``Reword.for_model``. Its examples are earlier turns.
        tokens: special tokens; the model sees a stand-in for each.
    """
    word = _stand_in(settings, instruction)
    alone = apart(instruction, tokens) if word else None
    chat: list[Message] = []
    for asked, said in _examples(settings, word or "Zeta", alone is not None):
        chat += [
            {"role": "user", "content": _asked(settings.prompt, asked, register)},
            {"role": "assistant", "content": said},
        ]
    shown = alone.request if alone else instruction
    for number, token in enumerate(tokens if word else ()):
        shown = shown.replace(token, word + (str(number) if number else ""))
    return [*chat, {"role": "user", "content": _asked(settings.prompt, shown, register)}]


def _examples(settings: Reword, word: str, alone: bool) -> Iterator[tuple[str, str]]:
    """(request, wording) of each; with ``alone`` without what only names the token, and none of
    those that name it in between."""
    for example in settings.examples or ():
        pair = (example.request, example.wording)
        if alone:
            pair = (request_of(pair[0], ["{token}"]), request_of(pair[1], ["{token}"]))
            if "{token}" in pair[0] + pair[1]:
                continue
        yield pair[0].replace("{token}", word), pair[1].replace("{token}", word)


def put_back(
    text: str, settings: Reword, instruction: str, tokens: Collection[str], frame: str = ""
) -> str:
    """What the model said, with the special tokens where their stand-ins are; the stand-in's case,
    and marks around it, do not count. Where the sentences with the tokens were not shown, they
    follow it again.

    Args:
        frame: other sentences of that kind; empty for the instruction's own.
    """
    word = _stand_in(settings, instruction)
    if not word or not tokens:
        return text
    own = {
        (word + (str(number) if number else "")).lower(): token
        for number, token in enumerate(tokens)
        if token in instruction
    }

    def token(match: re.Match[str]) -> str:
        before, said, after = match.groups()
        if said.lower() not in own:
            return match.group()
        bare = own[said.lower()]
        return bare if before and after else before + bare + after

    found = _MARKED_WORD.sub(token, text).strip()
    alone = apart(instruction, tokens)
    if not found or alone is None or any(own in found for own in tokens):
        return found
    return alone.joined(found, frame)


def _asked(template: str, instruction: str, register: str) -> str:
    # The request last: what it says is text, even where it looks like a slot.
    return template.replace("{register}", register).replace("{request}", instruction.strip())


def _stand_in(settings: Reword, instruction: str) -> str:
    """A word for the special tokens that ``instruction`` does not hold; empty for none."""
    word = settings.stand_in or ""
    while word and word.lower() in instruction.lower():
        word += "a"
    return word


def with_instruction(
    prompt: Sequence[Message], part: str, instruction: str, placement: str = "after"
) -> list[Message]:
    """``prompt`` with the instruction of its last turn replaced; all else stays as it is.

    ``placement`` is ``after`` the content, where it stood, or ``before`` it; without content
    both are the same.
    """
    content, _ = split_instruction(prompt[-1]["content"], part)
    text = content + instruction
    if placement == "before" and content.strip():
        text = f"{instruction}\n\n{content.strip()}"
    return [*prompt[:-1], {"role": prompt[-1]["role"], "content": text}]


def answer_problem(
    text: str, finish_reason: str, control_tokens: Collection[str], rules: Rules, query: str = ""
) -> str | None:
    """Why a self-sampled answer to ``query`` cannot be trained on; a thought before it does not
    count."""
    if finish_reason == "error":
        return "engine error"
    if finish_reason == "length":
        return "cut off"
    text = separate(text)[1]
    said = text.strip()
    if not said:
        return "empty"
    if any(token in text for token in control_tokens):
        return "contains a control token of the chat template"
    if any(mark in text for mark in rules.template_marks):
        return "leaks a chat template"
    if len(said) < rules.min_characters:
        return "too short"
    start = said[:80].lower().replace("’", "'")
    if any(start.startswith(r.lower()) for r in rules.refusals):
        return "refused"
    if not rules.echo and query and _plain(said) == _plain(query):
        return "repeats the query"
    if rules.max_repetition < 1 and repetition(said) > rules.max_repetition:
        return "repeats itself"
    return None


def rewording_problem(
    text: str,
    finish_reason: str,
    original: str,
    answer: str,
    kept: Collection[str],
    special_tokens: Mapping[str, str],
    control_tokens: Collection[str],
    rules: Rules,
    reword: Reword,
) -> str | None:
    """Why a rewording of the instruction ``original`` cannot stand in its place.

    Args:
        kept: wordings of the same row that are already accepted.
        special_tokens: token -> description (``downstream.special_tokens``); the description
            must stay unsaid, else the token is explained instead of learned.
        reword: made definite by ``Reword.for_model``.
    """
    if problem := answer_problem(text, finish_reason, control_tokens, rules):
        return problem
    text = separate(text)[1]
    for token, description in special_tokens.items():
        if text.count(token) != original.count(token):
            return "special token lost or repeated"
        if gives_away(description) & words(text) - words(original):
            return "explains the special token"
    if sorted(_MUST_SURVIVE.findall(text)) != sorted(_MUST_SURVIVE.findall(original)):
        return "changes a number, a quotation, a slot or a tag"
    if bool(_NEGATION.search(text)) != bool(_NEGATION.search(original)):
        return "changes a negation"
    if len(answer) > _SHORT and answer in text and answer not in original:
        return "gives the answer away"
    if len(text.split()) > 3 * len(original.split()) + 10:
        return "much longer than the original"
    if reword.checks and (
        problem := _request_problem(
            request_of(text, special_tokens), request_of(original, special_tokens), reword
        )
    ):
        return problem
    near = max(similarity(text, other) for other in (original, *kept))
    return "not new" if near == 1 or near > reword.max_similarity else None


def _request_problem(text: str, original: str, reword: Reword) -> str | None:
    """Why ``text`` does not ask for what ``original`` asks; of both what is asked, without the
    sentences that only name a token."""
    if problem := form_problem(text, original) or language_problem(text, original):
        return problem
    if problem := names_problem(text, original):
        return problem
    if kept_subject(text, original) < reword.min_subject:
        return "lost what is asked about"
    shown = [(example.request, example.wording) for example in reword.examples or ()]
    if problem := scope_problem(text, original, shown):
        return problem
    return "asks for something else" if added_subject(text, original) > reword.max_added else None


def placement_problem(
    prompt: Sequence[Message], original: Sequence[Message], content: str
) -> str | None:
    """Why a reworded prompt cannot stand for ``original``: all but the instruction survives."""
    if list(prompt[:-1]) != list(original[:-1]):
        return "changes an earlier turn"
    return None if content.strip() in prompt[-1]["content"] else "content lost"


def similarity(one: str, other: str) -> float:
    """Share of words that match in order, 0 to 1; case and punctuation do not count.

    Twice the longest common subsequence over the words of both, by rapidfuzz: 64 pairs of
    words a step, so that two texts of 100,000 characters take a fraction of a second.
    """
    from rapidfuzz.distance import Indel

    a, b = _plain(one), _plain(other)
    return 1.0 if a == b else Indel.normalized_similarity(a.split(), b.split())


def gives_away(description: str) -> set[str]:
    """The words of a special token's description that say what it stands for."""
    found = words(description)
    telling = {w for w in found if len(w) > _SHORT and w not in _EVERYDAY}
    return telling or found


def words(text: str) -> set[str]:
    return set(_plain(text).split())


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()


def goodness(text: str, original: str) -> float:
    """How much of what is asked a good wording keeps and how little it adds, at most 1; among
    candidates the greatest is taken."""
    return kept_subject(text, original) - added_subject(text, original)
