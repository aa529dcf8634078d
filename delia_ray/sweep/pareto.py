"""Which trials no other one beats in everything."""

from collections.abc import Sequence

Row = Sequence[float]


def front(rows: Sequence[Row], maximise: Sequence[bool]) -> list[int]:
    """Indices of the rows that are not dominated, in their order.

    A row is dominated where another one is at least as good in every column and better in one;
    of equal rows all are kept.

    Args:
        rows: (n, objectives).
        maximise: of each column, whether more is better.

    Raises:
        ValueError: a row has another number of columns.
    """
    if any(len(r) != len(maximise) for r in rows):
        raise ValueError(f"rows must have {len(maximise)} columns, got {[len(r) for r in rows]}")
    signed = [tuple(v if up else -v for v, up in zip(row, maximise, strict=True)) for row in rows]
    return [i for i, one in enumerate(signed) if not any(dominates(o, one) for o in signed)]


def dominates(one: Row, other: Row) -> bool:
    """Whether ``one`` is nowhere worse and somewhere better; more is better everywhere."""
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
