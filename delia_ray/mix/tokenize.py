"""Chats to token ids, with the mask of the tokens that count in the loss.

What is supervised is taken from the model's own chat template, by prefix difference: the
template renders the chat up to a turn of the assistant, with the generation prompt, and the
whole chat; what the whole has beyond that prefix, up to the end-of-turn token, is what the
model has to produce itself. Templates with generation markers (``{% generation %}``) say it
a second time, and both must agree.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from delia_ray.errors import UserError
from delia_ray.records import Message

Chat = tuple[Sequence[Message], str]
"""A prompt and the answer to it."""
_COMPARED = 16
"""Chats of a batch on which shortcuts and generation markers are checked."""


class Encoded(NamedTuple):
    """One chat as tokens."""

    ids: list[int]
    supervised: list[bool]
    """Same length: whether the token counts in the loss."""


class Refused(NamedTuple):
    """A chat that the template does not take."""

    reason: str


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
    whole = [[*prompt, Message(role="assistant", content=answer)] for prompt, answer in chats]
    rendered = _render(tokenizer, whole, False)
    wanted: list[tuple[int, list[Message]]] = []  # (chat, messages before a supervised turn)
    for number, messages in enumerate(whole):
        if isinstance(rendered[number], str):
            ats = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
            chosen = ats if turns == "all" else ats[-1:]
            wanted += [(number, messages[:i]) for i in chosen]
    heads = _render(tokenizer, [messages for _, messages in wanted], True)
    texts = Texts(tokenizer, [t for t in rendered if isinstance(t, str)])
    place = iter(range(len(rendered)))
    places = [-1 if isinstance(text, Refused) else next(place) for text in rendered]
    found: list[Encoded | Refused] = []
    for text, at in zip(rendered, places, strict=True):
        ids = texts.ids(at) if at >= 0 else []
        found.append(text if isinstance(text, Refused) else Encoded(ids, [False] * len(ids)))
    for (number, _), head in zip(wanted, heads, strict=True):
        chat = found[number]
        if isinstance(chat, Refused):
            continue
        if isinstance(head, Refused):
            found[number] = head
            continue
        start = texts.length_of_prefix(places[number], head, chat.ids)
        end = _end(tokenizer, chat.ids, start, ends)
        chat.supervised[start : end + 1] = [True] * (end + 1 - start)
    found = [c if isinstance(c, Refused) else _cut(c) for c in found]
    _compare(tokenizer, whole, found, ends, turns)
    return found


def split(encoded: Encoded, limit: int) -> list[Encoded]:
    """Pieces of at most ``limit`` tokens that hold supervised tokens; the others would teach
    nothing. The first token of a later piece has nothing before it, so it is not supervised."""
    pieces = [
        Encoded(encoded.ids[i : i + limit], encoded.supervised[i : i + limit])
        for i in range(0, len(encoded.ids), limit)
    ]
    for piece in pieces:
        piece.supervised[0] = False
    return [p for p in pieces if any(p.supervised)]


class Texts:
    """Rendered chats as ids, and how many of them a prefix of the text makes.

    A prompt is not tokenised again whole to find where the answer begins: special tokens are
    borders that no other token crosses, so only what follows the last of them in the prompt
    (often the same few characters in every row) needs tokenising. The first texts are checked
    against the plain way.
    """

    def __init__(self, tokenizer: Any, texts: list[str]) -> None:
        self.tokenizer, self.texts = tokenizer, texts
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._encodings: list[Any] = []
        if backend is not None:
            backend.no_truncation()
            backend.no_padding()
            self._encodings = backend.encode_batch(texts, add_special_tokens=False)
        specials = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, specials)) or r"(?!)")
        self._tails: dict[str, list[int]] = {}

    def ids(self, number: int) -> list[int]:
        if self._encodings:
            return list(self._encodings[number].ids)
        return self._plain(self.texts[number])

    def length_of_prefix(self, number: int, prefix: str, ids: list[int]) -> int:
        """How many of a text's ``ids`` the ``prefix`` makes at its beginning.

        Raises:
            UserError: the text does not begin with it, or the ids of the text do not begin
                with those of the prefix.
        """
        if not self.texts[number].startswith(prefix):
            raise self._differs()
        found = None
        if self._encodings:
            found = self._from_last_special(number, prefix, ids)
        if found is None or number < _COMPARED:
            plain = self._plain(prefix)
            if ids[: len(plain)] != plain or found not in (None, len(plain)):
                raise self._differs()
            found = len(plain)
        return found

    def _from_last_special(self, number: int, prefix: str, ids: list[int]) -> int | None:
        specials = list(self._special.finditer(prefix))
        at = self._encodings[number].char_to_token(specials[-1].start()) if specials else None
        if at is None:
            return None
        tail = prefix[specials[-1].start() :]
        if tail not in self._tails:
            if len(self._tails) > _COMPARED:
                self._tails.clear()  # prompts that end differently each time
            self._tails[tail] = self._plain(tail)
        tail_ids = self._tails[tail]
        if ids[at : at + len(tail_ids)] != tail_ids:
            raise self._differs()
        return int(at) + len(tail_ids)

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _differs(self) -> UserError:
        return UserError(
            f"the chat template of {self.tokenizer.name_or_path} renders a prompt differently "
            "once an answer follows it, so the answer cannot be told apart; use a template whose "
            "generation prompt is a prefix of the whole chat"
        )


def _end(tokenizer: Any, whole: list[int], start: int, ends: Collection[int]) -> int:
    """Where the end token of the turn that begins at ``start`` stands."""
    end = next((i for i in range(start, len(whole)) if whole[i] in ends), None)
    if end is None:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} writes none of the end tokens "
            f"{sorted(ends)} after an answer, so the model could not learn to stop; add the "
            "template's end-of-turn token to eos_token_id in generation_config.json"
        )
    return end


def _cut(chat: Encoded) -> Encoded:
    last = len(chat.supervised) - chat.supervised[::-1].index(True)
    return Encoded(chat.ids[:last], chat.supervised[:last])


def _render(tokenizer: Any, chats: list[list[Message]], prompt: bool) -> list[str | Refused]:
    """Chats as text; one that the template refuses (a role it does not know, say) alone."""
    if not chats:
        return []
    try:
        return list(
            tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=prompt)
        )
    except (TemplateError, TypeError, ValueError) as problem:
        if len(chats) == 1:
            return [Refused(f"the chat template refuses it: {problem}")]
    half = len(chats) // 2
    return _render(tokenizer, chats[:half], prompt) + _render(tokenizer, chats[half:], prompt)


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
    for chat, own in list(zip(chats, found, strict=True))[:_COMPARED]:
        if isinstance(own, Refused):
            continue
        marked = tokenizer.apply_chat_template(
            chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )["assistant_masks"]
        theirs = np.array(marked[: len(own.ids)], bool)
        ours = np.array(own.supervised)
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
