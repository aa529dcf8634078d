"""The mix that was asked for beside the one that came out."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from delia_ray.mix.index import Index
from delia_ray.mix.order import Order
from delia_ray.mix.plan import Lay

STRETCH = 1000
"""Positions over which the realised mix is counted."""


def asked(order: Order, index: Index, positions: int) -> npt.NDArray[np.float64]:
    """(sources,) rows of each source that the config asks for in the first ``positions``."""
    phases = order.windows.phases
    ends = [*(p.start for p in phases[1:]), positions]
    down = sum(
        max(0, min(end, positions) - phase.start) / float(phase.ratio + 1)
        for phase, end in zip(phases, ends, strict=True)
    )
    found = np.zeros(len(index.sources))
    for draw, items, total in (
        (order.downstream, index.wording, down),
        (order.diverse, index.diverse, positions - down),
    ):
        if draw is not None:
            rows = draw.at(np.arange(draw.size)).row  # a whole round
            codes = index.source_of(items[rows])
            found += np.bincount(codes, minlength=len(found)) / len(rows) * total
    return found


class Counted:
    """The realised mix: totals, and stretches of ``STRETCH`` positions."""

    def __init__(self, index: Index, positions: int) -> None:
        self.index = index
        stretches = -(-positions // STRETCH)
        kinds = ("downstream", index.kind)
        self.used = [(c, k, s) for c, (k, s) in enumerate(index.sources) if k in kinds]
        """(code, kind, source) of what the arm may use."""
        self.found = np.zeros((3, stretches, len(index.sources)), np.int64)

    def add(self, lay: Lay) -> None:
        code, shape = self.index.code[lay.sequence].astype(np.int64), self.found.shape[1:]
        cell = lay.position // STRETCH * shape[1] + code
        first = np.append(True, np.diff(lay.position) != 0)
        for number, weight in enumerate(
            (first, self.index.tokens[lay.sequence], self.index.supervised[lay.sequence])
        ):
            counted = np.bincount(cell, weights=weight, minlength=shape[0] * shape[1])
            self.found[number] += counted.reshape(shape).astype(np.int64)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of records.SHARE."""
        for stretch in range(self.found.shape[1]):
            for code, kind, source in self.used:
                rows, tokens, supervised = (int(v) for v in self.found[:, stretch, code])
                yield {
                    "position": stretch * STRETCH, "source": source, "kind": kind, "rows": rows,
                    "tokens": tokens, "supervised_tokens": supervised,
                }  # fmt: skip

    def totals(self) -> dict[str, dict[str, int]]:
        """Rows, tokens and supervised tokens: downstream, and diverse with whatever answers."""
        kinds = np.array([kind == "downstream" for kind, _ in self.index.sources])
        names = ("rows", "tokens", "supervised_tokens")
        summed = self.found.sum(1)
        return {
            name: {
                "downstream": int(summed[number][kinds].sum()),
                "diverse": int(summed[number][~kinds].sum()),
            }
            for number, name in enumerate(names)
        }

    def sources(self, wanted: npt.NDArray[np.float64]) -> dict[str, dict[str, Any]]:
        """For each source the rows ``asked`` for and realised, its share of rows, tokens and
        supervised tokens in percent, and the least and most rows in any whole stretch."""
        summed = self.found.sum(1)
        whole = self.found[0, : max(1, self.found.shape[1] - 1)]
        share = 100 * summed / np.maximum(1, summed.sum(1, keepdims=True))
        return {
            f"{source} ({kind})": {
                "rows_asked": round(float(wanted[code]), 1),
                "rows": int(summed[0, code]),
                "rows_percent": round(float(share[0, code]), 3),
                "tokens_percent": round(float(share[1, code]), 3),
                "supervised_percent": round(float(share[2, code]), 3),
                f"least_and_most_in_{STRETCH}": [
                    int(whole[:, code].min()),
                    int(whole[:, code].max()),
                ],
            }
            for code, kind, source in self.used
        }
