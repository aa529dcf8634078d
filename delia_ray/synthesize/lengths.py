"""How long the answers are, and whether cutting long ones off changed what is trained on."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CUT = 0.05
"""Share of all that ended or were cut off, above which the cut counts as changing the lengths. It
is also the largest distance (Kolmogorov-Smirnov) that a cut of this share puts between the
lengths of what ended and of all."""
REFERENCES = 2000
"""References that are counted, the first of the corpus."""
QUANTILES = (0, 5, 25, 50, 75, 95, 100)
"""Per cent."""


def lengths(answers: pa.Table, references: Iterable[int]) -> dict[str, Any]:
    """Quantiles of lengths in tokens: of answers that were kept, of those cut off, and of the
    corpus's references; kinds without any are left out.

    Args:
        answers: with ``completion_tokens`` and ``reason`` (null where kept).
        references: tokens of each.
    """
    tokens = answers["completion_tokens"]
    kept = tokens.filter(pc.is_null(answers["reason"])).to_numpy()
    cut = tokens.filter(pc.fill_null(pc.equal(answers["reason"], "cut off"), False)).to_numpy()
    kinds = {"kept": kept, "cut off": cut, "references": np.array(list(references), np.int64)}
    return {name: quantiles(values) for name, values in kinds.items() if len(values)}


def share_cut_off(found: dict[str, Any]) -> float:
    """Of what ended or was cut off."""
    kept, cut = (found.get(kind, {}).get("rows", 0) for kind in ("kept", "cut off"))
    return float(cut / (kept + cut)) if cut else 0.0


def quantiles(values: Sequence[int] | np.ndarray[Any, Any]) -> dict[str, int]:
    """``rows``, and at each of ``QUANTILES`` (as ``50 %``) the length there."""
    at = np.percentile(np.asarray(values), QUANTILES, method="inverted_cdf")
    marks = {f"{q} %": int(v) for q, v in zip(QUANTILES, at, strict=True)}
    return {"rows": len(values), **marks}


def warning(found: dict[str, Any], max_tokens: int) -> str:
    """What a person should know of ``lengths``; empty where the cut changes little."""
    share = share_cut_off(found)
    if share <= CUT:
        return ""
    told = (
        f"{share:.0%} of the answers reached synthesize.sampling.max_tokens="
        f"{max_tokens} and were set aside, so the pool leans to short ones"
    )
    if "kept" in found and "references" in found:
        told += (
            f" (half of those kept have up to {found['kept']['50 %']:,} tokens, half of the "
            f"references up to {found['references']['50 %']:,})"
        )
    return f"{told}; raise it"
