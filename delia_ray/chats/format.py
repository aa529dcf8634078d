"""A chat template made to fit: what generation starts from is how the whole chat begins.

Three things that published templates do are mended in the template itself, so that training,
generation and whoever loads the trained model use the same prompt:

- content is taken in parts only (vision models): plain texts are given as one part;
- a switch for thinking (``enable_thinking``) is off unless it is given;
- an empty thought, or anything else, that the whole chat has before an answer and the generation
  prompt has not, closes the generation prompt.

What cannot be mended stays as it is, and ``preflight`` says so.
"""

import json
import re
import threading
from typing import Any, NamedTuple

from jinja2 import TemplateError

from delia_ray.chats.spans import end_texts, find

ASK, SAY = "zqxask", "zqxsay"
"""What a user asks and an assistant says while a template is looked at."""
_SWITCH = "{% if enable_thinking is not defined %}{% set enable_thinking = false %}{% endif %}"
_PARTS = (
    "{% set parts = namespace(all=[]) %}{% for m in messages %}"
    "{% set parts.all = parts.all + [dict(m, content=[{'type': 'text', 'text': m['content']}]) "
    "if m['content'] is string else m] %}{% endfor %}{% set messages = parts.all %}"
)
SECONDS, CHARACTERS = 20.0, 1_000_000
"""A template may take so long for one exchange, and write so much."""
_endless: set[str] = set()
"""Templates that took longer; what renders them cannot be stopped and goes on aside."""
REFUSALS = (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError)
"""What a template may raise for a chat that it does not take."""


class Look(NamedTuple):
    """One exchange as a template writes it."""

    head: str
    """The question with the generation prompt."""
    whole: str
    """The question and its answer."""

    @property
    def lead(self) -> str | None:
        """What the whole chat has between the generation prompt and the answer; None where it
        does not begin with the prompt, or lacks the answer."""
        if not self.whole.startswith(self.head) or SAY not in self.whole[len(self.head) :]:
            return None
        return self.whole[len(self.head) : self.whole.index(SAY, len(self.head))]

    @property
    def is_consistent(self) -> bool:
        """Whether a model that is given the prompt has to produce the answer and no more."""
        return self.lead is not None and not self.lead.strip()

    @property
    def shared(self) -> str:
        """What both begin with."""
        pairs = enumerate(zip(self.head, self.whole, strict=False))
        return self.head[: next((i for i, (a, b) in pairs if a != b), len(self.head))]


def source(tokenizer: Any) -> str:
    """The text of a tokenizer's chat template; the default of several."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default") or next(iter(template.values()), "")
    return str(template or "")


def look(tokenizer: Any, template: str | None = None) -> Look:
    """One exchange by ``template``, or by the tokenizer's own.

    Raises:
        REFUSALS: the template refuses it.
    """
    template = source(tokenizer) if template is None else template
    if template in _endless:
        raise ValueError(f"it is not done with one exchange within {SECONDS:g} s")
    found: list[Look | Exception] = []

    def work() -> None:
        try:
            found.append(_look(tokenizer, template))
        except Exception as error:
            found.append(error)

    aside = threading.Thread(target=work, daemon=True)
    aside.start()
    aside.join(SECONDS)
    if not found:
        _endless.add(template)
        raise ValueError(f"it is not done with one exchange within {SECONDS:g} s")
    if isinstance(found[0], Exception):
        raise found[0]
    if len(found[0].whole) > CHARACTERS:
        raise ValueError(f"it writes {len(found[0].whole):,} characters for one exchange")
    return found[0]


def _look(tokenizer: Any, template: str) -> Look:
    asked = [{"role": "user", "content": ASK}]
    chats = [(asked, True), ([*asked, {"role": "assistant", "content": SAY}], False)]
    return Look(
        *(
            tokenizer.apply_chat_template(
                chat, chat_template=template, tokenize=False, add_generation_prompt=prompt
            )
            for chat, prompt in chats
        )
    )


def adapt(tokenizer: Any) -> list[str]:
    """Mend the tokenizer's template, see above; says what was changed."""
    template, changes = source(tokenizer), []
    for step in (_give_parts, _switch_off, _close_prompt):
        try:
            changed = step(tokenizer, template)
        except REFUSALS:
            continue
        if changed is not None:
            template, said = changed
            changes.append(said)
    if changes:
        tokenizer.chat_template = template
    return changes


def closing(tokenizer: Any, ends: frozenset[int]) -> str:
    """What ends an answer where the template itself writes no end token after it: the
    beginning of the next user's turn (as with GLM-4); else empty."""
    texts = end_texts(tokenizer, ends)
    chat = [{"role": "user", "content": ASK}, {"role": "assistant", "content": SAY}]
    try:
        whole, longer = (
            tokenizer.apply_chat_template(c, tokenize=False)
            for c in (chat, [*chat, {"role": "user", "content": ASK}])
        )
    except REFUSALS:
        return ""
    if SAY not in whole or any(t in whole[whole.index(SAY) :] for t in texts):
        return ""
    said = longer.index(SAY) if SAY in longer else len(longer)
    span = find(longer, said, SAY, texts)
    if span is None or not span.token or not longer.startswith(whole):
        return ""
    return str(longer[len(whole) : span.stop])


def _give_parts(tokenizer: Any, template: str) -> tuple[str, str] | None:
    try:
        if ASK in look(tokenizer, template).whole:
            return None
    except REFUSALS:
        pass  # it may be the plain text that it cannot take
    seen = look(tokenizer, _PARTS + template)
    if ASK not in seen.whole or SAY not in seen.whole:
        return None
    return _PARTS + template, "its chat template takes texts in parts only, and gets them so"


def _switch_off(tokenizer: Any, template: str) -> tuple[str, str] | None:
    if not re.search(r"\benable_thinking\b", template):
        return None
    before, after = look(tokenizer, template), look(tokenizer, _SWITCH + template)
    if before == after or not after.is_consistent:
        return None
    return _SWITCH + template, (
        "its chat template can switch thinking on and off (enable_thinking); it is off in training "
        "and generation, and by default in the template that is saved with the trained model"
    )


def _close_prompt(tokenizer: Any, template: str) -> tuple[str, str] | None:
    lead = look(tokenizer, template).lead
    if lead is None or not lead.strip():
        return None
    written = json.dumps(lead, ensure_ascii=False)
    longer = (
        f"{template.removesuffix(chr(10))}{{% if add_generation_prompt %}}{{{{ {written} }}}}"
        "{% endif %}"
    )
    if not look(tokenizer, longer).is_consistent:
        return None
    return longer, (
        f"its chat template writes {lead!r} before an answer and not into the generation prompt; "
        "it is made a part of the prompt, in training and generation, and in the template that is "
        "saved with the trained model"
    )
