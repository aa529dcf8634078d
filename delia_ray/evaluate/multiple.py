"""Several comparisons at once, so that together they err no more often than one would."""

from collections.abc import Sequence


def bonferroni(confidence: float, comparisons: int) -> float:
    """Confidence of each interval such that all ``comparisons`` hold together with ``confidence``.

    Holds whatever the comparisons share (Dunn 1961, JASA 56).

    Raises:
        ValueError: fewer than one comparison, or a confidence outside (0, 1).
    """
    if comparisons < 1 or not 0 < confidence < 1:
        raise ValueError(
            "a correction needs one comparison at least and 0 < confidence < 1, got "
            f"comparisons={comparisons}, confidence={confidence}"
        )
    return 1 - (1 - confidence) / comparisons


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given (Holm 1979, Scandinavian Journal of Statistics 6).

    Those at most alpha are rejected; the chance of any false rejection is at most alpha.

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    if wrong := [x for x in p if not 0 <= x <= 1]:
        raise ValueError(f"p-values lie between 0 and 1, got {wrong}")
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[at]))
        adjusted[at] = highest
    return adjusted


def step_down(p: Sequence[float], confidence: float) -> list[float]:
    """Confidence of each interval such that it leaves out 0 exactly where Holm rejects.

    The j-th smallest of m p-values is held against alpha / (m - j + 1), and so is its
    interval, up to the first that is not rejected, whose level all others share (Serlin 1993,
    "A case for Holm on the range", Journal of Experimental Education 61). Where none is
    rejected these are Bonferroni's intervals, which hold all together. Where some are, their
    signs do: the chance of any false rejection is at most alpha.

    Raises:
        ValueError: as ``bonferroni`` and ``holm``.
    """
    rejected = sum(x <= 1 - confidence for x in holm(p))
    order = sorted(range(len(p)), key=p.__getitem__)
    levels = [0.0] * len(p)
    for rank, at in enumerate(order):
        levels[at] = bonferroni(confidence, len(p) - min(rank, rejected))
    return levels
