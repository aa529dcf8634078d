"""How diverse the pool is, and each prefix of it that an arm trains on."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from delia_ray.config import RunConfig
from delia_ray.diversity import measures
from delia_ray.report.counts import CountTable


def prefixes(config: RunConfig, downstream: int, pool: int) -> dict[str, int]:
    """Queries of each arm's prefix, as far as the pool has them, and of the pool; each size once,
    the smallest first."""
    sizes: dict[int, str] = {}
    for arm in config.arms:
        size = min(pool, config.arm_rows(arm, downstream))
        if size:
            sizes.setdefault(size, f"first {size:,} (ratio {config.arm_ratio(arm):g})")
    sizes[pool] = f"pool, {pool:,}"
    return {sizes[size]: size for size in sorted(sizes)}


def diversity_table(
    texts: Sequence[str], embeddings: npt.NDArray[np.float32] | None, sizes: dict[str, int]
) -> CountTable:
    """One row for each of ``sizes``; ``texts`` and ``embeddings`` are of the pool's beginning, and
    the columns say of how many they are."""
    columns = {
        "texts": "queries", "distinct_1": "distinct-1", "distinct_2": "distinct-2",
        "distinct_3": "distinct-3", "mtld": "MTLD", "openings": "kinds of request",
        "effective_openings": "effective", "effective_first_words": "effective first words",
        "embedded": "embedded", "vendi_score": "Vendi score",
    }  # fmt: skip
    rows = []
    for name, size in sizes.items():
        own = None if embeddings is None else embeddings[:size]
        found = measures(texts[:size], own)
        rows.append([name, *(_figure(found[key]) if key in found else "" for key in columns)])
    return CountTable("diversity of the queries", ["", *columns.values()], rows)


def _figure(value: float) -> str:
    if not np.isfinite(value):
        return "no word twice"
    return f"{value:,.0f}" if value == int(value) and value > 1 else f"{value:.3g}"
