"""Chats to token ids, with the mask of the tokens that count in the loss.

What is supervised is taken from the model's own chat template, by prefix difference: the
template renders the chat up to a turn of the assistant, with the generation prompt, and the
whole chat; what the whole has beyond that prefix, up to the end-of-turn token, is what the
model has to produce itself. Templates with generation markers (``{% generation %}``) say it
a second time, and both must agree.
"""

import contextlib
import itertools
from collections.abc import Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from delia_ray.errors import UserError
from delia_ray.mix.texts import CHECKED, Refused, Texts, render
from delia_ray.records import Message

Chat = tuple[Sequence[Message], str]
"""A prompt and the answer to it."""


_BATCH = 2048
"""Chats that are tokenised at a time, while those before are masked and those after rendered."""


class Encoded(NamedTuple):
    """One chat as tokens."""

    ids: list[int]
    supervised: npt.NDArray[np.bool_]
    """Same length: whether the token counts in the loss."""


def encode(
    tokenizer: Any, chats: Sequence[Chat], ends: Collection[int], turns: str = "last"
) -> list[Encoded | Refused]:
    """Ids of each whole chat, and which of them are supervised.

    Supervised are the tokens of an assistant's turn and the end-of-turn token after it. What
    the template writes after the last of those (a line break, say) is cut off, since it would
    never be generated.

    Args:
        tokenizer: with a chat template.
        ends: ids that end an answer (``models.end_ids``).
        turns: ``last`` supervises the answer, ``all`` the assistant's turns in the prompt too.

    Raises:
        UserError: the template renders a prompt otherwise once an answer follows, writes no
            end token after it, or its generation markers say something else; then nobody can
            say which tokens the model must learn.
    """
    found: list[Encoded | Refused] = []
    with ThreadPoolExecutor(1) as aside:
        batches = (
            _Batch(tokenizer, chats[at : at + _BATCH], turns, aside)
            for at in range(0, len(chats), _BATCH)
        )
        # In pairs, so that the next batch is under way when one is masked.
        for batch, _ in itertools.pairwise(itertools.chain(batches, [None])):
            if batch is not None:
                found += batch.encoded(ends)
    return found


class _Batch:
    """Some chats, rendered; their tokenising is under way."""

    def __init__(self, tokenizer: Any, chats: Sequence[Chat], turns: str, aside: Executor) -> None:
        self.tokenizer, self.turns = tokenizer, turns
        self.chats = [
            [*prompt, Message(role="assistant", content=answer)] for prompt, answer in chats
        ]
        self.rendered = render(tokenizer, self.chats, False)
        self.texts = Texts(tokenizer, [t for t in self.rendered if isinstance(t, str)], aside)
        wanted: list[tuple[int, list[Message]]] = []  # (chat, messages before its turn)
        for number, messages in enumerate(self.chats):
            if isinstance(self.rendered[number], str):
                ats = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
                chosen = ats if turns == "all" else ats[-1:]
                wanted += [(number, messages[:i]) for i in chosen]
        self.turns_of = [number for number, _ in wanted]
        """The chat of each supervised turn."""
        self.heads = render(tokenizer, [messages for _, messages in wanted], True)

    def encoded(self, ends: Collection[int]) -> list[Encoded | Refused]:
        places: dict[int, int] = {}  # of chats among the texts
        found: list[Encoded | Refused] = []
        for number, text in enumerate(self.rendered):
            if isinstance(text, Refused):
                found.append(text)
                continue
            places[number] = len(places)
            ids = self.texts.ids(places[number])
            found.append(Encoded(ids, np.zeros(len(ids), np.bool_)))
        for number, head in zip(self.turns_of, self.heads, strict=True):
            chat = found[number]
            if isinstance(chat, Refused):
                continue
            if isinstance(head, Refused):
                found[number] = head
                continue
            start = self.texts.length_of_prefix(places[number], head, chat.ids)
            end = _end(self.tokenizer, chat.ids, start, ends)
            chat.supervised[start : end + 1] = True
        found = [c if isinstance(c, Refused) else _cut(c) for c in found]
        _compare(self.tokenizer, self.chats, found, ends, self.turns)
        return found


def split(encoded: Encoded, limit: int) -> list[Encoded]:
    """Pieces of at most ``limit`` tokens that hold supervised tokens; the others would teach
    nothing. The first token of a later piece has nothing before it, so it is not supervised."""
    pieces = [
        Encoded(encoded.ids[i : i + limit], encoded.supervised[i : i + limit].copy())
        for i in range(0, len(encoded.ids), limit)
    ]
    for piece in pieces:
        piece.supervised[0] = False
    return [p for p in pieces if p.supervised.any()]


def _end(tokenizer: Any, whole: list[int], start: int, ends: Collection[int]) -> int:
    """Where the end token of the turn that begins at ``start`` stands."""
    found = []
    for token in ends:
        with contextlib.suppress(ValueError):
            found.append(whole.index(token, start))
    if not found:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} writes none of the end tokens "
            f"{sorted(ends)} after an answer, so the model could not learn to stop; add the "
            "template's end-of-turn token to eos_token_id in generation_config.json"
        )
    return min(found)


def _cut(chat: Encoded) -> Encoded:
    last = len(chat.supervised) - int(chat.supervised[::-1].argmax())
    return Encoded(chat.ids[:last], chat.supervised[:last])


def _compare(
    tokenizer: Any,
    chats: Sequence[list[Message]],
    found: Sequence[Encoded | Refused],
    ends: Collection[int],
    turns: str,
) -> None:
    """Hold the mask against the template's generation markers, where it has them."""
    if "{% generation" not in (template := str(tokenizer.chat_template)) and (
        "{%- generation" not in template
    ):
        return
    for chat, own in list(zip(chats, found, strict=True))[:CHECKED]:
        if isinstance(own, Refused):
            continue
        marked = tokenizer.apply_chat_template(
            chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )["assistant_masks"]
        theirs = np.array(marked[: len(own.ids)], bool)
        ours = own.supervised
        # The end token belongs to the turn whether or not the markers enclose it, and what
        # follows it (a line break) does not.
        counts = ~(np.isin(own.ids, list(ends)) | _after_end(own.ids, ours, ends))
        if turns == "last":
            counts[: _start(ours)] = False
        if (theirs[counts] != ours[counts]).any():
            at = int(np.flatnonzero((theirs != ours) & counts)[0])
            raise UserError(
                f"the generation markers in the chat template of {tokenizer.name_or_path} and its "
                f"generation prompt disagree about which tokens the model has to produce, first at "
                f"token {at} ({tokenizer.decode([own.ids[at]])!r}); correct the template"
            )


def _start(supervised: npt.NDArray[np.bool_]) -> int:
    """Where the last supervised stretch begins."""
    gaps = np.flatnonzero(~supervised)
    return int(gaps[-1]) + 1 if len(gaps) else 0


def _after_end(
    ids: list[int], supervised: npt.NDArray[np.bool_], ends: Collection[int]
) -> npt.NDArray[np.bool_]:
    """The token directly behind a supervised end token: the line break that closes a turn."""
    found = np.zeros(len(ids), bool)
    for at in np.flatnonzero(supervised & np.isin(ids, list(ends))):
        found[at + 1 : at + 2] = True
    return found
