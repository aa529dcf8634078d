"""Chats as the template writes them, and where in their tokens a prompt ends."""

import re
from concurrent.futures import Executor
from typing import Any, NamedTuple

from jinja2 import TemplateError

from delia_ray.errors import UserError
from delia_ray.records import Message

CHECKED = 16
"""Chats of a batch on which shortcuts and generation markers are checked."""


class Refused(NamedTuple):
    """A chat that the template does not take."""

    reason: str


def render(tokenizer: Any, chats: list[list[Message]], prompt: bool) -> list[str | Refused]:
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

    def length_of_prefix(self, number: int, prefix: str, ids: list[int]) -> int:
        """How many of a text's ``ids`` the ``prefix`` makes at its beginning.

        Raises:
            UserError: the text does not begin with it, or the ids of the text do not begin
                with those of the prefix.
        """
        if not self.texts[number].startswith(prefix):
            raise self._differs()
        found = self._from_last_special(prefix, ids)
        if found is None or number < CHECKED:
            plain = self._plain(prefix)
            if ids[: len(plain)] != plain or found not in (None, len(plain)):
                raise self._differs()
            found = len(plain)
        return found

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

    def _differs(self) -> UserError:
        return UserError(
            f"the chat template of {self.tokenizer.name_or_path} renders a prompt differently "
            "once an answer follows it, so the answer cannot be told apart; use a template whose "
            "generation prompt is a prefix of the whole chat"
        )
