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

    Those at most alpha are rejected; the chance of any false rejection is at most alpha. A
    value whose ``bonferroni`` interval leaves out 0 is always among them; the reverse need
    not be so, since Holm's steps have no two-sided intervals of their own.

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
