"""Tables of sequences without text, for the arithmetic."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from delia_ray.config import Arm, Mix
from delia_ray.mix.index import Index
from delia_ray.mix.order import Order
from delia_ray.mix.plan import make_order
from delia_ray.records import SEQUENCE, conform


def make_index(
    rows: int, pool: Sequence[tuple[str, int]], wordings: int = 1, pieces: int = 1,
    tasks: Sequence[tuple[str, int]] = (), weights: dict[str, float] | None = None,
    tokens: dict[str, int] | None = None,
) -> Index:  # fmt: skip
    """``rows`` downstream rows (or those of ``tasks``), each in ``wordings`` wordings, and
    the diverse rows of ``pool``: (source, rows), interleaved by chance; each in ``pieces``."""
    found: list[dict[str, Any]] = []
    names = [t for t, count in tasks or [("task", rows)] for _ in range(count)]
    for row, name in enumerate(names):
        for variant in range(wordings):
            found.append(make_row("downstream", name, row, variant, 0, 10))
    queries = [s for s, count in pool for _ in range(count)]
    for row, at in enumerate(np.random.default_rng(0).permutation(len(queries))):
        source = queries[at]
        for piece in range(pieces):
            length = (tokens or {}).get(source, 5 + row % 7)
            found.append(make_row("diverse", source, row, 0, piece, length))
    return Index(conform(found, SEQUENCE), weights or {})


def make_row(
    kind: str, source: str, row: int, variant: int, piece: int, tokens: int
) -> dict[str, Any]:
    return {
        "id": f"{kind}{row}", "source": source, "kind": kind, "row": row, "variant": variant,
        "piece": piece, "tokens": tokens, "supervised_tokens": tokens - 2,
    }  # fmt: skip


def order_of(index: Index, seed: int = 0, batch: int = 8, **mix: Any) -> Order:
    return make_order(Mix(**mix), Arm(), index, seed, batch)
