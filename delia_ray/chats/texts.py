"""Chats as the template writes them, and where in their tokens a prompt ends."""

import itertools
import re
from concurrent.futures import Executor
from typing import Any, NamedTuple

from delia_ray.chats.format import REFUSALS
from delia_ray.records import Message

CHECKED = 16
"""Chats of a batch on which shortcuts and generation markers are checked."""


class Refused(NamedTuple):
    """A chat of which nobody can say what a model should learn."""

    reason: str


REFUSES = "the chat template refuses it"
DIFFERS = "the chat template renders the prompt differently once an answer follows"
NO_END = "the chat template writes no end token after the answer"
REWRITES = "the chat template does not write the answer as it is"
OWN_THOUGHT = "the chat template does not write the thought that the answer begins with"
JOINED = "prompt and answer are joined in one token"
MARKERS = "the generation markers of the chat template say that its answer is elsewhere"


def render(tokenizer: Any, chats: list[list[Message]], prompt: bool) -> list[str | Refused]:
    """Chats as text; one that the template refuses (a role it does not know, say) alone."""
    if not chats:
        return []
    try:
        return list(
            tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=prompt)
        )
    except REFUSALS as problem:
        if len(chats) == 1:
            return [Refused(f"{REFUSES}: {problem}")]
    half = len(chats) // 2
    return render(tokenizer, chats[:half], prompt) + render(tokenizer, chats[half:], prompt)


class Texts:
    """Rendered chats as ids, and how many of them a prefix of the text makes.

    ``aside`` begins the tokenising, which leaves the interpreter free; the first question
    waits for it.

    A prompt is not tokenised again whole to find where the answer begins: special tokens are
    borders that no other token crosses, so only what follows the last of them in the prompt
    (often the same few characters in every row) needs tokenising. The first texts are checked
    against the plain way.
    """

    def __init__(self, tokenizer: Any, texts: list[str], aside: Executor) -> None:
        self.tokenizer, self.texts = tokenizer, texts
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._begun = aside.submit(self._tokenise)
        specials = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, specials)) or r"(?!)")
        self._id_of = dict(zip(specials, tokenizer.convert_tokens_to_ids(specials), strict=True))
        self._tails: dict[str, list[int]] = {}

    def ids(self, number: int) -> list[int]:
        if encodings := self._begun.result():
            found: list[int] = encodings[number].ids
            return found
        return self._plain(self.texts[number])

    def length_of_prefix(self, number: int, prefix: str, ids: list[int]) -> int | None:
        """How many of a text's ``ids`` the ``prefix``, with which it begins, makes; None where
        the ids of the text do not begin with those of the prefix."""
        found = self._from_last_special(prefix, ids)
        if found is None or number < CHECKED:
            plain = self._plain(prefix)
            if ids[: len(plain)] != plain or found not in (None, len(plain)):
                return None
            found = len(plain)
        return found

    def length_until(self, number: int, place: int) -> int | None:
        """How many ids a text makes up to ``place``; None where a token reaches over it."""
        if self._backend is None:
            return None
        encoding = self._backend.encode(self.texts[number], add_special_tokens=False)
        stops = [stop for _, stop in encoding.offsets]
        return len(stops) - stops[::-1].index(place) if place in stops else None

    def in_pieces(self, number: int, places: list[int]) -> list[list[int]] | None:
        """Ids of a text cut at ``places``, each piece tokenised by itself; None where that is
        another text (tokenizers that put a space before each)."""
        text = self.texts[number]
        cuts = [0, *places, len(text)]
        pieces = [self._plain(text[a:b]) for a, b in itertools.pairwise(cuts)]
        whole = [i for piece in pieces for i in piece]
        return pieces if self._decoded(whole) == self._decoded(self.ids(number)) else None

    def _tokenise(self) -> list[Any]:
        if self._backend is None:
            return []
        return list(self._backend.encode_batch_fast(self.texts, add_special_tokens=False))

    def _from_last_special(self, prefix: str, ids: list[int]) -> int | None:
        at, begin = -1, 0
        try:
            for special in self._special.finditer(prefix):
                at, begin = ids.index(self._id_of[special[0]], at + 1), special.start()
        except ValueError:  # not a token of its own here
            return None
        if at < 0:
            return None
        tail = prefix[begin:]
        if tail not in self._tails:
            if len(self._tails) > CHECKED:
                self._tails.clear()  # prompts that end differently each time
            self._tails[tail] = self._plain(tail)
        tail_ids = self._tails[tail]
        return at + len(tail_ids) if ids[at : at + len(tail_ids)] == tail_ids else None

    def _plain(self, text: str) -> list[int]:
        if self._backend is not None:
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _decoded(self, ids: list[int]) -> str:
        return str(
            self.tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )
