"""What counts as a word, a sentence and a paragraph. The paper names no rule; these are ours.

IFEval's own programs use NLTK's tokenizers; on plain prose the counts agree, at an unusual
abbreviation they may differ by one.
"""

import re

_WORD = re.compile(r"\w+")
_CLOSING = r"[\"'”’»)\]*_」』]*+"
# A run of stops is read once, from its beginning.
_END = re.compile(rf"(?:(?<![.!?])[.!?]++|…){_CLOSING}(?=\s|$)|[。！？]++{_CLOSING}")
_SPACE = re.compile(r"\s*+")
_INITIALS = re.compile(r"(?:[A-Z]\.)*+[A-Z]")
_EMPTY_LINE = re.compile(r"\n[ \t]*+\n")
_NEVER_LAST = frozenset("mr mrs ms dr prof st sen gov capt lt sgt messrs vs cf e.g i.e viz".split())  # noqa: SIM905
"""Abbreviations that do not end a sentence."""
_BEFORE_NUMBERS = frozenset("no nos fig figs vol p pp eq ca approx".split())  # noqa: SIM905
"""Those that do not where a number follows."""
_BEFORE_SMALL = frozenset(
    "etc al inc ltd co corp jr sr a.m p.m u.s u.k u.n ph.d b.a m.a d.c".split()  # noqa: SIM905
)
"""Those that do only where no small letter or mark follows."""
_DIVIDER = re.compile(r"(?<!\S)(?:\*\*\*|\*[ \t]\*[ \t]\*)(?!\S)")


def words(text: str) -> list[str]:
    """Longest runs of letters, digits and underscores; "don't" is two, "well-known" too."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Pieces of ``text`` up to and with ``. ! ? …`` (and quotes or brackets that close there)
    before white space or the end, as long as they hold a letter or digit.

    No sentence ends after an abbreviation such as "Dr." or "e.g.", after initials ("J. S.
    Bach"; "I" is a word), after the number of a list item at the start of a line, or after
    three dots where a small letter follows. Line breaks end no sentence.
    """
    found, start, seen = [], 0, 0
    for match in _END.finditer(text):
        if _ends(text, start, seen, match):
            found.append(text[start : match.end()])
            start = match.end()
        seen = match.end()
    found.append(text[start:])
    return [piece.strip() for piece in found if _WORD.search(piece)]


def _ends(text: str, start: int, seen: int, match: re.Match[str]) -> bool:
    """Whether a sentence that begins at ``start`` ends at ``match``; ``seen`` is where the match
    before it ended. Only what stands between the two is looked at, so that a text without any
    end costs no more than another."""
    after = _SPACE.match(text, match.end()).end()  # type: ignore[union-attr]
    following = text[after : after + 1]
    stop = match.group().rstrip("\"'”’»)]*_」』")
    if stop in ("…", "...") and following.islower():
        return False
    if stop != "." or not following:
        return True
    piece = text[seen : match.start()]
    _, broken, line = piece.rpartition("\n")
    if (broken or seen == start) and line.lstrip(" \t").isdecimal():
        return False
    words_before = piece.split()
    last = words_before[-1].lstrip("\"'“‘«([*_") if words_before else ""
    if last.lower() in _NEVER_LAST or (last.lower() in _BEFORE_NUMBERS and following.isdigit()):
        return False
    if last.lower() in _BEFORE_SMALL:
        return following.isupper() or following.isdigit() or following in "\"“'‘"
    return last == "I" or not _INITIALS.fullmatch(last)


def divided(text: str) -> list[str]:
    """The parts between the markdown dividers ``***`` (or ``* * *``), stripped.

    A divider is set apart by white space, so ``***bold***`` is none. Nothing before the first
    or after the last divider is no part; nothing between two is an empty one.
    """
    parts = [part.strip() for part in _DIVIDER.split(text)]
    if not parts[0]:
        parts = parts[1:]
    if parts and not parts[-1]:
        parts = parts[:-1]
    return parts


def blocks(text: str) -> list[str]:
    """Paragraphs with at least one empty line between them, none of them empty."""
    return [part.strip() for part in _EMPTY_LINE.split(text) if part.strip()]
