"""How diverse texts are, by measures that need no download; numpy alone.

All of them grow or fall with the number of texts, so compare sets of equal size only.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"\w+")
_POLITE = {
    "please", "kindly", "can", "could", "would", "will", "you", "i", "we", "need", "want", "to",
    "the", "a", "an", "let", "us",
}  # fmt: skip
_NO_NOUN = {
    "the", "a", "an", "this", "that", "these", "those", "my", "your", "his", "her", "its", "our",
    "their", "some", "any", "all", "each", "every", "of", "to", "in", "on", "at", "for", "from",
    "with", "by", "about", "into", "and", "or", "me", "us", "it", "them", "following", "given",
    "how", "what", "which", "is", "are", "one", "two", "three", "new", "good", "short",
}  # fmt: skip


def words(text: str) -> list[str]:
    """Words without case; each sign of scripts that write without spaces is one."""
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        found += word if ord(max(word)) >= 0x2E80 else [word]
    return found


def distinct(texts: Iterable[Sequence[str]], n: int) -> float:
    """Distinct-n (Li et al. 2016, arXiv 1510.03055): different n-grams of words over all."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        seen.update(grams)
        total += len(grams)
    return len(seen) / total if total else 0.0


def mtld(text: Sequence[str], threshold: float = 0.72) -> float:
    """Measure of textual lexical diversity (McCarthy and Jarvis 2010): how many words in a row
    keep a type-token ratio above ``threshold``, the mean of both directions. Infinite where no
    word comes twice; 0 without words."""
    if not text:
        return 0.0
    return (_one_way(text, threshold) + _one_way(text[::-1], threshold)) / 2


def _one_way(text: Sequence[str], threshold: float) -> float:
    factors, start, seen = 0.0, 0, set[str]()
    for at, word in enumerate(text, 1):
        seen.add(word)
        if len(seen) / (at - start) <= threshold:
            factors, start, seen = factors + 1, at, set()
    if start < len(text):
        factors += (1 - len(seen) / (len(text) - start)) / (1 - threshold)
    return len(text) / factors if factors else math.inf


def opening(text: Sequence[str]) -> tuple[str, str]:
    """What an instruction asks for, after the verb-noun pairs of Self-Instruct (arXiv 2212.10560)
    but without a parser: its first word that is not politeness, and the next that may be a noun.
    """
    rest = [word for word in text[:20] if word not in _POLITE]
    if not rest:
        return "", ""
    noun = next((w for w in rest[1:9] if w not in _NO_NOUN and not w.isdigit()), "")
    return rest[0], noun


def effective(counts: Iterable[int]) -> float:
    """How many equally frequent kinds have the entropy of ``counts`` (Hill number of order 1)."""
    sizes = np.array([count for count in counts if count > 0], float)
    if not len(sizes):
        return 0.0
    shares = sizes / sizes.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def vendi(embeddings: npt.NDArray[np.float32]) -> float:
    """Vendi score (Friedman and Dieng 2023, arXiv 2210.02410) with the cosine kernel: the number
    of texts, none like another, that would be as diverse.

    Args:
        embeddings: (texts, width). From the eigenvalues of the width x width matrix, which are
            those of the kernel's that are not zero.
    """
    if not len(embeddings):
        return 0.0
    rows = embeddings.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    small = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(small / len(rows))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def measures(
    texts: Sequence[str], embeddings: npt.NDArray[np.float32] | None = None
) -> dict[str, float]:
    """Every measure of ``texts``, instructions; the Vendi score where there are ``embeddings`` of
    the first of them."""
    split = [words(text) for text in texts]
    openings = Counter(opening(text) for text in split)
    verbs = Counter(verb for verb, _ in openings.elements())
    found = {
        "texts": float(len(texts)),
        **{f"distinct_{n}": distinct(split, n) for n in (1, 2, 3)},
        "mtld": mtld([word for text in split for word in text]),
        "openings": float(len(openings)),
        "effective_openings": effective(openings.values()),
        "effective_first_words": effective(verbs.values()),
    }
    if embeddings is not None and len(embeddings):
        found |= {"embedded": float(len(embeddings)), "vendi_score": vendi(embeddings)}
    return found
