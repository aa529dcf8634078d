"""The order of the diverse pool: a seeded weighted shuffle of which every ratio is a prefix."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from delia_ray.records import uniform


def pool_key(seed: int, id: str, weight: float = 1.0) -> float:
    """Place of query ``id`` in the pool: smaller comes earlier.

    An exponential variate of rate ``weight``: sorting by it samples without replacement
    with chances in proportion to the weights (Efraimidis and Spirakis). The key depends on
    nothing but its arguments, so adding a source leaves the others' order as it was, and
    what a smaller ratio takes a larger one takes too.
    """
    return -math.log(uniform(seed, id)) / weight


def first_of_each(tables: Sequence[pa.Table]) -> list[pa.Array]:
    """One mask per table that is true where an ``id`` occurs for the first time, counting
    through all ``tables`` in order."""
    columns = [table.column("id").to_numpy().astype("S16") for table in tables]
    ids = np.concatenate(columns) if columns else np.empty(0, "S16")
    mask = np.zeros(len(ids), bool)
    mask[np.unique(ids, return_index=True)[1]] = True  # return_index gives the first
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return [pa.array(part) for part in np.split(mask, ends)] if columns else []


def merge_by_key(tables: Sequence[pa.Table], bytes_at_once: int = 2**26) -> pa.Table:
    """All rows of ``tables`` (at least one) in ascending order of (``key``, ``id``).

    Works through ranges of the key, because sorting the whole would need it in one piece,
    and a string column of Arrow holds at most 2 GiB in one.
    """
    whole = pa.concat_tables(tables)
    if not len(whole):
        return whole
    keys = np.sort(whole.column("key").to_numpy())
    pieces = 1 + whole.nbytes // bytes_at_once
    bounds = [*keys[:: max(1, -(-len(keys) // pieces))], math.inf]
    sorted_pieces = []
    for low, high in itertools.pairwise(bounds):
        key = whole.column("key")
        mask = pc.and_(pc.greater_equal(key, low), pc.less(key, high))
        piece = whole.filter(mask).combine_chunks()
        sorted_pieces.append(piece.sort_by([("key", "ascending"), ("id", "ascending")]))
    return pa.concat_tables(sorted_pieces)
