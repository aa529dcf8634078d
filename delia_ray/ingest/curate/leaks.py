"""Rows that hold a protected text, or are held by one: n-grams of characters, no Ray."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delia_ray.config import Leaks
from delia_ray.ingest.curate.text import Hashes, bare, windows

_COMMON = 4
"""An n-gram of more protected texts than this is their instruction rather than their content."""
_FEWEST = 6
"""N-grams of its own that a text needs to be found in part; others must be equal."""
_BLOOM = 24


@dataclass(frozen=True)
class Leak:
    """A row of the corpus and the protected text it was found in or that was found in it."""

    row: int
    text: int
    held: float
    """Share of the text's own n-grams that the row holds."""
    holds: float
    """Share of the n-grams of the row's query that protected texts hold."""


@dataclass(frozen=True)
class Index:
    """The n-grams of all protected texts."""

    hashes: Hashes
    """Sorted; those that several texts have come once for each."""
    owner: npt.NDArray[np.int64]
    """The text of each hash."""
    own: npt.NDArray[np.int64]
    """(texts,): distinct n-grams that count, of each text."""
    whole: Hashes
    """Sorted hashes of whole texts."""
    whole_owner: npt.NDArray[np.int64]
    likely: npt.NDArray[np.bool_]
    """By the lowest bits of a hash, whether any has them; spares most of the searching."""
    settings: Leaks


def index_of(texts: Sequence[str], settings: Leaks) -> Index:
    """The index of protected ``texts``."""
    stripped = [bare(text) for text in texts]
    hashes, offsets = windows(stripped, settings.ngram)
    owner = np.repeat(np.arange(len(texts)), np.diff(offsets))
    pairs = np.unique(np.stack([hashes, owner.astype(np.uint64)]), axis=1)
    hashes, owner = pairs[0], pairs[1].astype(np.int64)
    _, inverse, times = np.unique(hashes, return_inverse=True, return_counts=True)
    telling = times[inverse] <= _COMMON
    hashes, owner = hashes[telling], owner[telling]
    own = np.bincount(owner, minlength=len(texts))
    partly = own[owner] >= _FEWEST
    hashes, owner = hashes[partly], owner[partly]
    wholes, owners = _whole(stripped)
    order = np.argsort(wholes, kind="stable")
    likely = np.zeros(1 << _BLOOM, bool)
    likely[hashes & np.uint64((1 << _BLOOM) - 1)] = True
    return Index(hashes, owner, own, wholes[order], owners[order], likely, settings)


def _whole(stripped: Sequence[str]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Hashes of whole texts, and which; not of those of a word or two, which prove nothing."""
    long = [i for i, text in enumerate(stripped) if len(text) >= 12]
    hashes = [hash_of(stripped[i]) for i in long]
    return np.array(hashes, np.uint64), np.array(long, np.int64)


def hash_of(text: str) -> int:
    """64 bits of a whole text, the same in every process."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())


def find_leaks(rows: Sequence[Sequence[str]], index: Index) -> list[Leak]:
    """The leaks among ``rows``, each given as its texts: the prompt's last turn and the answer.

    A row has at most one: the text of which it holds most.
    """
    stripped = [[bare(text) for text in row] for row in rows]
    flat = [text for row in stripped for text in row]
    row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    found: dict[int, Leak] = {}
    for at, text in zip(row_of, flat, strict=True):
        if len(text) >= 12 and int(at) not in found and len(index.whole):
            value = np.uint64(hash_of(text))
            place = int(np.searchsorted(index.whole, value))
            if place < len(index.whole) and index.whole[place] == value:
                found[int(at)] = Leak(int(at), int(index.whole_owner[place]), 1.0, 1.0)
    for leak in _partly(flat, row_of, index):
        found.setdefault(leak.row, leak)
    return [found[at] for at in sorted(found)]


def _partly(flat: Sequence[str], row_of: npt.NDArray[np.int64], index: Index) -> list[Leak]:
    settings = index.settings
    hashes, offsets = windows(flat, settings.ngram)
    text_of = np.repeat(np.arange(len(flat)), np.diff(offsets))
    row = row_of[text_of]
    # Of a row its query alone: many an answer, a joke say, is held by texts it has not come from.
    is_query = np.append(True, np.diff(row_of) > 0)[text_of] if len(flat) else text_of > 0
    rows = int(row_of.max(initial=-1)) + 1
    total = np.bincount(row[is_query], minlength=rows)
    maybe = np.flatnonzero(index.likely[hashes & np.uint64((1 << _BLOOM) - 1)])
    hashes, row, is_query = hashes[maybe], row[maybe], is_query[maybe]
    left = np.searchsorted(index.hashes, hashes, "left")
    right = np.searchsorted(index.hashes, hashes, "right")
    matched = right > left
    holds = np.bincount(row[matched & is_query], minlength=rows) / np.maximum(total, 1)
    if not matched.any():
        return []
    leaks: dict[int, Leak] = {}
    at, left, right, key = row[matched], left[matched], right[matched], hashes[matched]
    ones, starts = np.unique(at, return_index=True)  # ascending, as the texts are
    for one, start, end in zip(ones, starts, [*starts[1:], len(at)], strict=True):
        mine = slice(start, end)
        _, distinct = np.unique(key[mine], return_index=True)
        spans = zip(left[mine][distinct], right[mine][distinct], strict=True)
        texts = np.concatenate([index.owner[a:b] for a, b in spans])
        owners, times = np.unique(texts, return_counts=True)
        shares = times / index.own[owners]
        best = int(np.argmax(shares))
        held = float(shares[best])
        if held >= settings.share or (holds[one] >= settings.query_share and total[one] >= _FEWEST):
            leaks[int(one)] = Leak(int(one), int(owners[best]), held, float(holds[one]))
    return list(leaks.values())
