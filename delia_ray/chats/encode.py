"""Chats to token ids, with the mask of the tokens that count in the loss.

What is supervised is taken from the model's own chat template, by prefix difference: the
template renders the chat up to a turn of the assistant, with the generation prompt, and the
whole chat. The whole has to go on with the answer and its end token, which is what the model
has to produce itself. Templates with generation markers (``{% generation %}``) say it a second
time, and both must agree. A chat of which this cannot be said is set aside with its reason.
"""

import itertools
from collections.abc import Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from delia_ray.chats.format import REFUSALS, closing, source
from delia_ray.chats.spans import Span, end_texts, find, reach
from delia_ray.chats.texts import (
    CHECKED,
    DIFFERS,
    JOINED,
    MARKERS,
    NO_END,
    OWN_THOUGHT,
    REWRITES,
    Refused,
    Texts,
    render,
)
from delia_ray.chats.thoughts import marks_in, separate
from delia_ray.records import Message

Chat = tuple[Sequence[Message], str]
"""A prompt and the answer to it."""
Places = Collection[int]
"""Of messages in a prompt."""


_BATCH = 2048
"""Chats that are tokenised at a time, while those before are masked and those after rendered."""


class Encoded(NamedTuple):
    """One chat as tokens."""

    ids: list[int]
    supervised: npt.NDArray[np.bool_]
    """Same length: whether the token counts in the loss."""


def encode(
    tokenizer: Any,
    chats: Sequence[Chat],
    ends: Collection[int],
    turns: str = "last",
    unsupervised: Sequence[Places] | None = None,
) -> list[Encoded | Refused]:
    """Ids of each whole chat, and which of them are supervised.

    Supervised are the tokens of an assistant's turn and the end-of-turn token after it. What
    the template writes after the last of those (a line break, say) is cut off, since it would
    never be generated. Where the template ends only the last answer of a chat, the earlier ones
    have no end token.

    Args:
        tokenizer: with a chat template.
        ends: ids that end an answer (``models.end_ids``).
        turns: ``last`` supervises the answer, ``all`` the assistant's turns in the prompt too.
        unsupervised: for each chat the assistant's turns in its prompt that are never supervised.

    Returns:
        For each chat its tokens, or why nobody can say which of them the model must learn.
    """
    found: list[Encoded | Refused] = []
    how = _How(tokenizer, frozenset(ends), turns)
    skipped: Sequence[Places] = unsupervised or [()] * len(chats)
    with ThreadPoolExecutor(1) as aside:
        batches = (
            _Batch(how, chats[at : at + _BATCH], skipped[at : at + _BATCH], aside)
            for at in range(0, len(chats), _BATCH)
        )
        # In pairs, so that the next batch is under way when one is masked.
        for batch, _ in itertools.pairwise(itertools.chain(batches, [None])):
            if batch is not None:
                found += batch.encoded()
    return found


class _How:
    """What all chats of a tokenizer have in common."""

    def __init__(self, tokenizer: Any, ends: frozenset[int], turns: str) -> None:
        self.tokenizer, self.turns, self.ends = tokenizer, turns, ends
        self.end_texts = end_texts(tokenizer, ends)
        self.id_of = {tokenizer.convert_ids_to_tokens(i): i for i in ends}
        self.closing = closing(tokenizer, ends)
        template = source(tokenizer)
        self.thoughts = marks_in(template)
        self.has_markers = "{% generation" in template or "{%- generation" in template


class _Turn(NamedTuple):
    """A turn of the assistant that is supervised."""

    chat: int
    before: list[Message]
    said: str
    is_last: bool


class _Stretch(NamedTuple):
    """Supervised text of a chat: the prompt's end, and the answer with its end token."""

    head: str
    span: Span


class _Batch:
    """Some chats, rendered; their tokenising is under way."""

    def __init__(
        self, how: _How, chats: Sequence[Chat], skipped: Sequence[Places], aside: Executor
    ) -> None:
        self.how = how
        self.chats = [
            [*prompt, Message(role="assistant", content=answer)] for prompt, answer in chats
        ]
        self.rendered = [
            t if isinstance(t, Refused) else t + how.closing
            for t in render(how.tokenizer, self.chats, False)
        ]
        self.texts = Texts(how.tokenizer, [t for t in self.rendered if isinstance(t, str)], aside)
        self.wanted = [
            turn
            for number, messages in enumerate(self.chats)
            if isinstance(self.rendered[number], str)
            for turn in _turns(number, messages, how.turns, skipped[number])
        ]
        self.heads = render(how.tokenizer, [turn.before for turn in self.wanted], True)

    def encoded(self) -> list[Encoded | Refused]:
        heads: dict[int, list[tuple[_Turn, str | Refused]]] = {}
        for turn, head in zip(self.wanted, self.heads, strict=True):
            heads.setdefault(turn.chat, []).append((turn, head))
        found: list[Encoded | Refused] = []
        place = 0  # of the chat among the texts
        for number, text in enumerate(self.rendered):
            if isinstance(text, Refused):
                found.append(text)
                continue
            stretches = self._stretches(text, heads[number])
            found.append(
                stretches if isinstance(stretches, Refused) else self._masked(place, stretches)
            )
            place += 1
        return _compared(self.how, self.chats, found)

    def _stretches(
        self, text: str, turns: list[tuple[_Turn, str | Refused]]
    ) -> list[_Stretch] | Refused:
        """What of ``text`` is supervised; the last turn says how an answer is closed."""
        how = self.how
        found: list[_Stretch] = []
        closer = ""
        for turn, head in reversed(turns):
            if isinstance(head, Refused):
                return head
            if how.thoughts is not None and separate(turn.said, how.thoughts)[0]:
                head, span = _thinking(text, head, turn.said, how)
                if span is None:
                    return Refused(OWN_THOUGHT)
            elif not text.startswith(head):
                return Refused(DIFFERS)
            else:
                span = find(text, len(head), turn.said, how.end_texts)
            if span is None:
                return Refused(REWRITES)
            if turn.is_last:
                span = reach(text, span, how.end_texts) if not span.token else span
                closer = span.closer(text)
                if not span.token:
                    return Refused(NO_END)
            elif not span.token and text.startswith(closer, span.answer):
                span = reach(text, span, how.end_texts)
            found.append(_Stretch(head, span))
        return found[::-1]

    def _masked(self, place: int, stretches: list[_Stretch]) -> Encoded | Refused:
        ids = self.texts.ids(place)
        supervised = np.zeros(len(ids), np.bool_)
        for stretch in stretches:
            start = self.texts.length_of_prefix(place, stretch.head, ids)
            stop = None if start is None else self._stop(place, ids, start, stretch)
            if start is None or stop is None:
                return self._joined(place, stretches)
            supervised[start:stop] = True
        return _cut(Encoded(ids, supervised))

    def _stop(self, place: int, ids: list[int], start: int, stretch: _Stretch) -> int | None:
        """The number of ids up to the end of a stretch whose answer begins at ``start``."""
        text, span = self.texts.texts[place], stretch.span
        if not span.token:
            return self.texts.length_until(place, span.stop)
        at, token = start - 1, self.how.id_of[span.token]
        try:
            for _ in range(text.count(span.token, len(stretch.head), span.stop)):
                at = ids.index(token, at + 1)
        except ValueError:  # not a token of its own here
            return self.texts.length_until(place, span.stop)
        return at + 1

    def _joined(self, place: int, stretches: list[_Stretch]) -> Encoded | Refused:
        """A chat in which a token reaches over the border of an answer, as when a prompt ends
        and its answer begins with a line break: it is tokenised in pieces, the prompt as it is
        when the model has to answer it."""
        borders = [at for s in stretches for at in (len(s.head), s.span.stop)]
        pieces = self.texts.in_pieces(place, borders)
        if pieces is None:
            return Refused(JOINED)
        counts = [number % 2 == 1 for number in range(len(pieces))]
        ids = [i for piece in pieces for i in piece]
        lengths = [len(piece) for piece in pieces]
        return _cut(Encoded(ids, np.repeat(np.array(counts, np.bool_), lengths)))


def _thinking(text: str, head: str, said: str, how: _How) -> tuple[str, Span | None]:
    """Where the prompt ends and the span of an answer that begins with a thought; no span where
    the template does not write the thought before it.

    Such a prompt does not close an empty thought, as that of the other rows does: the model has
    to produce the thought.
    """
    assert how.thoughts is not None
    thought, answer = separate(said, how.thoughts)
    at = head.rfind(how.thoughts.begin)
    if at >= 0 and not "".join(separate(head[at:], how.thoughts)).strip():
        head = head[:at]
    behind = text.find(how.thoughts.end, len(head)) + len(how.thoughts.end)
    if not text.startswith(head) or thought not in text[len(head) : behind]:
        return head, None
    return head, find(text, behind, answer, how.end_texts)


def _turns(number: int, messages: list[Message], turns: str, skipped: Places) -> list[_Turn]:
    ats = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    last = ats[-1]
    return [
        _Turn(number, messages[:i], messages[i]["content"], i == last)
        for i in (ats if turns == "all" else [last])
        if i not in skipped
    ]


def _cut(chat: Encoded) -> Encoded:
    last = len(chat.supervised) - int(chat.supervised[::-1].argmax())
    return Encoded(chat.ids[:last], chat.supervised[:last])


def _compared(
    how: _How, chats: Sequence[list[Message]], found: list[Encoded | Refused]
) -> list[Encoded | Refused]:
    """Hold the masks against the template's generation markers, where it has them: the first
    of a batch, and all where one of those is wrong."""
    if not how.has_markers:
        return found
    for limit in (CHECKED, len(found)):
        wrong = [
            number
            for number, (chat, own) in enumerate(zip(chats[:limit], found[:limit], strict=True))
            if isinstance(own, Encoded) and not _is_marked(how, chat, own)
        ]
        if not wrong:
            break
    return [Refused(MARKERS) if n in wrong else own for n, own in enumerate(found)]


def _is_marked(how: _How, chat: list[Message], own: Encoded) -> bool:
    """Whether the template's markers enclose what is supervised. The end token belongs to the
    turn whether they do or not, and some enclose the turn's beginning too."""
    try:
        marked = how.tokenizer.apply_chat_template(
            chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )["assistant_masks"]
    except REFUSALS:
        return False
    theirs = np.array(marked[: len(own.ids)], bool)
    ours = own.supervised[: len(theirs)] & ~np.isin(own.ids[: len(theirs)], list(how.ends))
    return not (ours & ~theirs).any()
