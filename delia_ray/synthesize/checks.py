"""Rules that set a generated text aside; each returns the reason, or None for a good one."""

import re
from collections.abc import Collection, Mapping

_MUST_SURVIVE = re.compile(r"\d+(?:[.,]\d+)*|\"[^\"]+\"|`[^`]+`|\{[^{}]*\}|<[^<>\s]+>")
"""Numbers, quoted text, code, slots and tags: what a rewording may not change."""
_NEGATION = re.compile(r"\b(?:not|never|without|avoid|no|nor|neither|cannot)\b|n't\b", re.I)
_SHORT = 3
"""An answer of up to this many characters occurs in other words by chance."""


def answer_problem(text: str, finish_reason: str, control_tokens: Collection[str]) -> str | None:
    """Why a self-sampled answer cannot be trained on."""
    if finish_reason == "error":
        return "engine error"
    if finish_reason == "length":
        return "cut off"
    if not text.strip():
        return "empty"
    if any(token in text for token in control_tokens):
        return "contains a control token of the chat template"
    return None


def rewording_problem(
    text: str,
    finish_reason: str,
    original: str,
    answer: str,
    kept: Collection[str],
    special_tokens: Mapping[str, str],
    control_tokens: Collection[str],
) -> str | None:
    """Why a rewording of the instruction ``original`` cannot stand in its place.

    Args:
        kept: wordings of the same row that are already accepted.
        special_tokens: token -> description (``downstream.special_tokens``); the description
            must stay unsaid, else the token is explained instead of learned.
    """
    if problem := answer_problem(text, finish_reason, control_tokens):
        return problem
    for token, description in special_tokens.items():
        if text.count(token) != original.count(token):
            return "special token lost or repeated"
        if _says(text, description) and not _says(original, description):
            return "explains the special token"
    if sorted(_MUST_SURVIVE.findall(text)) != sorted(_MUST_SURVIVE.findall(original)):
        return "changes a number, a quotation, a slot or a tag"
    if bool(_NEGATION.search(text)) != bool(_NEGATION.search(original)):
        return "changes a negation"
    if len(answer) > _SHORT and answer in text and answer not in original:
        return "gives the answer away"
    if _plain(text) in {_plain(k) for k in (original, *kept)}:
        return "not new"
    if len(text.split()) > 3 * len(original.split()) + 10:
        return "much longer than the original"
    return None


def _says(text: str, phrase: str) -> bool:
    return bool(phrase) and re.search(rf"\b{re.escape(phrase)}\b", text, re.I) is not None


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()
