"""A chat that is one text with marks where turns begin, as some data sets are published."""

import re
from dataclasses import dataclass

from delia_ray.ingest.turns import Turn


@dataclass(frozen=True)
class _Style:
    """One way of marking turns."""

    name: str
    mark: re.Pattern[str]
    """A mark; its group ``who`` is a key of ``roles``."""
    roles: dict[str, str]
    ends: tuple[str, ...] = ()
    """What may close a turn, at its end."""


_HASH = {
    "human": "user",
    "user": "user",
    "instruction": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "response": "assistant",
    "system": "system",
    "input": "input",
}
_PLAIN = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}
_TOKEN = {"user": "user", "assistant": "assistant", "system": "system", "model": "assistant"}

_STYLES = (
    _Style(
        "ChatML", re.compile(r"<\|im_start\|>[ \t]*(?P<who>\w{1,20})\n"), _TOKEN, ("<|im_end|>",)
    ),
    _Style(
        "Llama 3's headers",
        re.compile(r"<\|start_header_id\|>(?P<who>\w{1,20})<\|end_header_id\|>\n{0,2}"),
        _TOKEN,
        ("<|eot_id|>",),
    ),
    _Style(
        "Gemma's turns",
        re.compile(r"<start_of_turn>(?P<who>\w{1,20})\n"),
        _TOKEN,
        ("<end_of_turn>",),
    ),
    _Style(
        "role tokens",
        re.compile(r"<\|(?P<who>system|user|assistant)\|>\n?"),
        _TOKEN,
        ("</s>", "<|end|>", "<|endoftext|>"),
    ),
    _Style(
        "### marks",
        re.compile(r"###[ \t]?(?P<who>\w{4,12})[ \t]?:[ \t]?\n?"),
        _HASH,
    ),
    _Style(
        "names before a colon",
        re.compile(r"^(?P<who>Human|User|Assistant|System):[ \t]?", re.MULTILINE),
        _PLAIN,
    ),
)
_INST = re.compile(r"\[(?P<close>/?)INST\]")
_SYS = re.compile(r"\s*<<SYS>>(?P<system>[^<]*(?:<(?!</SYS>>)[^<]*)*)<</SYS>>\s*")
_EDGES = ("<s>", "</s>", "<bos>", "<eos>", "<|begin_of_text|>", "<|endoftext|>")
"""Tokens around a whole text."""
_PREAMBLE = "below is an instruction"
"""How the text begins that Alpaca's own frame puts before its marks."""


def marked(text: str) -> tuple[str, list[Turn]] | None:
    """The style of the marks and the turns of ``text``; None where it does not begin with a mark,
    or marks do not alternate as turns do."""
    text = text.strip()
    for edge in _EDGES:
        text = text.removeprefix(edge).removesuffix(edge).strip()
    if text.startswith("[INST]"):
        turns = _instructions(text)
        return ("[INST]", turns) if turns and _alternate(turns) else None
    for style in _STYLES:
        turns = _turns(style, text)
        if turns and _alternate(turns):
            return style.name, turns
    return None


def _turns(style: _Style, text: str) -> list[Turn]:
    found = [m for m in style.mark.finditer(text) if m["who"].lower() in style.roles]
    if not found:
        return []
    before = text[: found[0].start()].strip()
    if before and not before.lower().startswith(_PREAMBLE):
        return []
    turns: list[Turn] = []
    ends = [*(mark.start() for mark in found[1:]), len(text)]
    for mark, end in zip(found, ends, strict=True):
        role = style.roles[mark["who"].lower()]
        said = text[mark.end() : end].strip()
        for close in style.ends:
            said = said.removesuffix(close).rstrip()
        if role == "input":  # of Alpaca's frame: a part of the instruction before it
            if not turns or turns[-1].role != "user":
                return []
            turns[-1] = Turn("user", f"{turns[-1].content}\n\n{said}".strip())
        else:
            turns.append(Turn(role, said))
    return turns


def _instructions(text: str) -> list[Turn]:
    turns: list[Turn] = []
    at, inside = 0, False
    for mark in _INST.finditer(text):
        closes = bool(mark["close"])
        if closes != inside:
            return []
        said = text[at : mark.start()].strip()
        if closes:
            if not turns and (system := _SYS.match(said)):
                turns.append(Turn("system", system["system"].strip()))
                said = said[system.end() :]
            turns.append(Turn("user", said))
        elif at:
            turns.append(
                Turn("assistant", said.removesuffix("<s>").rstrip().removesuffix("</s>").rstrip())
            )
        at, inside = mark.end(), not inside
    if inside:
        return []
    if rest := text[at:].strip():
        turns.append(Turn("assistant", rest))
    return turns


def _alternate(turns: list[Turn]) -> bool:
    """At least a question, and an answer behind each but the last; no turn says nothing."""
    roles = [turn.role for turn in turns]
    spoken = roles[1:] if roles[0] == "system" else roles
    regular = all(role == ("user", "assistant")[i % 2] for i, role in enumerate(spoken))
    # One mark is no pattern: prose may begin with a word and a colon.
    return regular and len(spoken) > 1 and all(turn.content for turn in turns[:-1])
