"""Text in the forms that curation compares: normalised, and as hashes of character windows."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from delia_ray.text import stream_safe

Hashes = npt.NDArray[np.uint64]
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad]")
_LINE_ENDS = re.compile("\r\n?|[\u0085\u2028\u2029]")
# Looks behind, so that a long run of blanks within a line is read once and not from each of them.
_TRAILING = re.compile(r"(?<![ \t\u00a0])[ \t\u00a0]++$", re.MULTILINE)
_NOT_WORDS = re.compile(r"[\W_]+")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def normalized(text: str, form: Literal["nfc", "nfkc"]) -> str:
    """``text`` in a Unicode normal form, without invisible characters, odd line ends and spaces
    at the ends of lines; zero-width joiners stay, since scripts and emoji need them."""
    text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
    text = unicodedata.normalize("NFC" if form == "nfc" else "NFKC", stream_safe(text))
    return _TRAILING.sub("", text).strip()


def bare(text: str) -> str:
    """Letters and digits alone, without case: what stays the same under another case,
    punctuation or spacing."""
    return _NOT_WORDS.sub("", unicodedata.normalize("NFKC", stream_safe(text)).casefold())


def windows(texts: Sequence[str], size: int) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """A hash of every ``size`` characters in a row of each text; of a shorter one a single hash
    of all of it, of an empty one none.

    Returns:
        The hashes of all texts one after another, and the offsets at which each begins, one more
        than there are texts.
    """
    joined = "".join(texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    counts = np.where(lengths >= size, lengths - size + 1, np.minimum(lengths, 1))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    if not len(codes):
        return np.empty(0, np.uint64), offsets
    # A polynomial over the window by Horner's rule: one pass over all texts for each character.
    rolled = np.zeros(max(0, len(codes) - size + 1), np.uint64)
    for at in range(size if len(rolled) else 0):
        rolled = rolled * _BASE + codes[at : at + len(rolled)]
    owner = np.repeat(np.arange(len(texts)), counts)
    place = starts[owner] + np.arange(len(owner)) - offsets[owner]
    long = lengths[owner] >= size
    hashes = np.empty(len(owner), np.uint64)
    hashes[long] = rolled[place[long]]
    for index in np.flatnonzero(~long):
        whole = np.uint64(0)
        with np.errstate(over="ignore"):
            for code in codes[starts[owner[index]] : starts[owner[index] + 1]]:
                whole = whole * _BASE + code
        hashes[index] = whole
    return mixed(hashes), offsets


def mixed(hashes: Hashes) -> Hashes:
    """The bits of each hash spread over all of it (the finalizer of SplitMix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX
    return (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
