"""Ollama's ``Modelfile`` for an export: where weights are, how a chat is written, where it ends.

Ollama renders chats with Go templates, and a model brings a Jinja one. The texts that the model's
own template puts around the turns are found by rendering chats with marks for contents; the Go
template is made of them, and is given only where the pieces, put together as Go would, give the
same text as the model's template on other chats.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from delia_ray.generation_settings import read
from delia_ray.models import end_ids
from delia_ray.records import Message

MODELFILE = "Modelfile"
_PARAMETERS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}  # fmt: skip
"""Of ``generation_config.json`` -> of Ollama."""
_MARKS = {"system": "\x01S\x01", "user": "\x01U\x01", "assistant": "\x01A\x01"}


@dataclass(frozen=True)
class Pieces:
    """What a template writes around the turns, the beginning-of-text token left out."""

    system: tuple[str, str]
    """Before and behind a system message; it stands at the start. Where ``inside``, behind the
    first user turn's opening."""
    user: tuple[str, str]
    assistant: tuple[str, str]
    opening: str
    """Of the answer that is to come."""
    default: str | None
    """The system message of chats that have none."""
    takes_system: bool
    inside: bool
    start: str = ""
    """Before all else, where Ollama does not add it by itself."""

    def render(self, chat: Sequence[Message]) -> str:
        """``chat`` with the opening of an answer, as ``template`` has Go write it."""
        turns = list(chat)
        if self.default is not None and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": self.default})
        out, opened = "", False
        for turn in turns:
            before, behind = getattr(self, turn["role"])
            out += ("" if opened else before) + turn["content"] + behind
            opened = turn["role"] == "system" and self.inside
        return out + self.opening

    def template(self) -> str:
        """For Ollama's TEMPLATE."""
        (s, s_end), (u, u_end), (a, a_end) = self.system, self.user, self.assistant
        if self.inside:
            u = f"{{{{ if not $opened }}}}{u}{{{{ end }}}}{{{{ $opened = false }}}}"
            s_end += "{{ $opened = true }}"
        system = f'{{{{ if eq .Role "system" }}}}{s}{{{{ .Content }}}}{s_end}{{{{ else '
        return (
            self.start
            + ("{{ $opened := false }}" if self.inside else "")
            + "{{ range .Messages }}"
            + (system if self.takes_system else "{{ ")
            + f'if eq .Role "user" }}}}{u}{{{{ .Content }}}}{u_end}'
            + f'{{{{ else if eq .Role "assistant" }}}}{a}{{{{ .Content }}}}{a_end}{{{{ end }}}}'
            + f"{{{{ end }}}}{self.opening}"
        )


def pieces(tokenizer: Any) -> Pieces | str:
    """Of the tokenizer's chat template; why not, where it does more than put texts around turns."""
    first, start = _beginning(tokenizer)
    try:
        found = replace(_pieces(tokenizer, first), start=start)
    except _NotSimple as problem:
        return str(problem)
    texts = [t for p in (found.system, found.user, found.assistant) for t in p]
    if any("{{" in t or '"""' in t for t in [*texts, found.opening, found.default or ""]):
        return 'its texts hold "{{" or three quotes'
    for chat in _chats(found.takes_system):
        if found.render(chat) != _rendered(tokenizer, chat, first):
            return f"its text around a turn depends on the chat ({len(chat)} turns were tried)"
    return found


class _NotSimple(Exception):
    """Why the template has no pieces."""


def _pieces(tokenizer: Any, start: str) -> Pieces:
    s, u, a = (_MARKS[role] for role in ("system", "user", "assistant"))
    user: Message = {"role": "user", "content": u}
    answered: list[Message] = [user, {"role": "assistant", "content": a}, user]
    plain = _rendered(tokenizer, [user], start)
    whole = _rendered(tokenizer, answered, start)
    asked = _rendered(tokenizer, [user], start, opened=False)
    ended = _rendered(tokenizer, answered[:2], start, opened=False)
    if plain is None or whole is None or asked is None or ended is None:
        raise _NotSimple("it does not render an ordinary chat")
    first, tail = _split(plain, [u])
    begin, between, behind_answer, _ = _split(whole, [u, a, u])
    u_end, a_end = _split(asked, [u])[1], _split(ended, [u, a])[2]
    if not (tail.startswith(u_end) and between.startswith(u_end)):
        raise _NotSimple("what ends a user's turn depends on what follows")
    if not behind_answer.startswith(a_end):
        raise _NotSimple("what ends an answer depends on what follows")
    opening_of_user = _common_tail(begin, behind_answer[len(a_end) :])
    # Such as a beginning-of-text token before each turn but the first.
    a_end = behind_answer[: len(behind_answer) - len(opening_of_user)]
    default_text = first[: len(first) - len(opening_of_user)]
    common = {
        "user": (opening_of_user, u_end), "assistant": (between[len(u_end) :], a_end),
        "opening": tail[len(u_end) :],
    }  # fmt: skip
    with_system = _rendered(tokenizer, [{"role": "system", "content": s}, user], start)
    if with_system is None or s not in with_system:
        if default_text:
            raise _NotSimple("it begins with a text and takes no system message")
        return Pieces(("", ""), default=None, takes_system=False, inside=False, **common)  # type: ignore[arg-type]
    before, middle, _ = _split(with_system, [s, u])
    if middle.endswith(opening_of_user):
        system, inside = (before, middle[: len(middle) - len(opening_of_user)]), False
    elif before.startswith(opening_of_user):
        system, inside = (before, middle), True
    else:
        raise _NotSimple("a system message changes what stands around the user's turn")
    default = None
    if default_text:
        if not (default_text.startswith(system[0]) and default_text.endswith(system[1])) or inside:
            raise _NotSimple("chats without a system message begin with a text that is none")
        default = default_text[len(system[0]) : len(default_text) - len(system[1])]
    return Pieces(system, default=default, takes_system=True, inside=inside, **common)  # type: ignore[arg-type]


def _split(text: str, marks: Sequence[str]) -> list[str]:
    """Texts before each of ``marks``, in order, and what is left."""
    out, rest = [], text
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found:
            raise _NotSimple("it changes or leaves out what is said")
        out.append(before)
    return [*out, rest]


def _common_tail(one: str, other: str) -> str:
    """The longest text that both end in."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    size = sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], pairs))
    return one[len(one) - size :]


def _beginning(tokenizer: Any) -> tuple[str, str]:
    """(the token that begins every text and nothing else in the template; that token where
    Ollama has to be told of it). A tokenizer that adds it by itself does so in Ollama too."""
    token = tokenizer.bos_token or ""
    chat: list[Message] = [{"role": r, "content": "x"} for r in ("user", "assistant", "user")]
    text = _rendered(tokenizer, chat, "") or ""
    added = token and tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    if added:
        return token, ""
    once = token and text.startswith(token) and text.count(token) == 1
    return (token, token) if once else ("", "")


def _rendered(
    tokenizer: Any, chat: Sequence[Message], start: str, opened: bool = True
) -> str | None:
    """Without ``start``, and with the opening of an answer where ``opened``; None where the
    template refuses the chat."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            [dict(turn) for turn in chat], tokenize=False, add_generation_prompt=opened
        )
    except (TemplateError, TypeError, ValueError):
        return None
    return str(text).removeprefix(start)


def _chats(takes_system: bool) -> list[list[Message]]:
    """Others than those that the pieces were found with."""
    said = ["Which is it?", "Two words:\n\n- {a}", "<b>no</b>", "Ünïcode 你好", "then?", "5 % \\n"]
    chats: list[list[Message]] = [
        [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said[:n])]
        for n in (1, 3, 5)
    ]
    system: Message = {"role": "system", "content": "Be brief,\nand kind."}
    return [*chats, *([system, *chat] for chat in chats if takes_system)]


def modelfile(
    tokenizer: Any, folder: str, merged: bool, base: str, tokens: Mapping[str, str]
) -> str:
    """The text of a ``Modelfile``.

    Args:
        tokenizer: of the trained model.
        folder: the merged model, for its ends and generation settings.
        merged: whether the export holds it, as ``merged``.
        base: what the adapter stands on, as the recipe names it.
        tokens: the special tokens that were added, with what they stand for.
    """
    lines = ["# ollama create NAME -f Modelfile   in this folder"]
    if merged:
        lines.append("FROM ./merged")
    else:
        lines += [f"# a folder with the base model {base!r} in safetensors:", "FROM ./base"]
        lines.append("ADAPTER ./adapter")
        if tokens:
            lines.append("# Ollama knows no adapters with rows for new tokens: use `delia export "
                         "--merge` for this model")  # fmt: skip
    for token, meaning in tokens.items():
        lines.append(f"# new token {json.dumps(token)}: {json.dumps(meaning)}")
    found = pieces(tokenizer)
    if isinstance(found, str):
        lines.append(f"# no TEMPLATE, because the model's cannot be said in Go: {found}")
    else:
        lines.append(f'TEMPLATE """{found.template()}"""')
        if found.default:
            lines.append(f'SYSTEM """{found.default}"""')
    for end in sorted(end_ids(folder)):
        lines.append(f"PARAMETER stop {json.dumps(tokenizer.convert_ids_to_tokens(end))}")
    settings = read(folder)
    if settings.get("do_sample") is False:
        settings = {"temperature": 0}
    for name, theirs in _PARAMETERS.items():
        value = settings.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            lines.append(f"PARAMETER {theirs} {value}")
    return "\n".join(lines) + "\n"
