"""What is claimed of which arms, settled before their scores are seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, log2
from typing import Literal

from delia_ray.evaluate.crossed import Seeds

Direction = Literal["greater", "less"]
Weights = Mapping[str, float]
"""Arm -> weight; what is judged is the sign of the weighted sum of the arms' values."""


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms that has a name."""

    name: str
    weights: Weights


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """What every kind of claim has."""

    name: str
    direction: Direction = "greater"
    """On which side of 0 the claim sees the value; ``less`` for distances and losses."""
    suites: tuple[str, ...] = ()
    """Only these count; empty for all."""
    negligible: float = 0.0
    """Smallest effect of interest, in the score's unit (``Ordered``: per doubling). A value
    that surely lies nearer to 0 makes the claim fail; 0 switches this off. An effect that is
    absent is then called "does not hold" where the interval is narrow enough to say so, and
    "cannot tell" otherwise; switched off, it is always "cannot tell"."""
    seeds: Seeds = "independent"
    """Whether seed s of one arm belongs to seed s of the others; see ``Seeds``."""

    def __post_init__(self) -> None:
        if not (isfinite(self.negligible) and self.negligible >= 0):
            raise ValueError(f"negligible is a size, 0 or more, got {self.negligible}")


@dataclass(frozen=True, kw_only=True)
class Better(_Claim):
    """Arms differ from a baseline: their mean is the claim, each for itself is a finding."""

    ours: tuple[str, ...]
    baseline: str

    def headline(self) -> Contrast:
        share = {arm: 1 / len(self.ours) for arm in self.ours}
        who = self.ours[0] if len(self.ours) == 1 else f"mean of {', '.join(self.ours)}"
        return Contrast(f"{who} - {self.baseline}", {**share, self.baseline: -1.0})

    def contrasts(self) -> list[Contrast]:
        return [
            Contrast(f"{arm} - {self.baseline}", {arm: 1.0, self.baseline: -1.0})
            for arm in self.ours
        ]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ours or len({*self.ours, self.baseline}) <= len(self.ours):
            raise ValueError(
                f"a comparison needs arms that differ, got {self.ours} and {self.baseline!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Ordered(_Claim):
    """The value goes one way as the ratio grows.

    The claim is the slope over log2(1 + ratio), a linear trend contrast over the arms; the
    findings are the steps from each ratio to the next. A step that surely goes the other
    way contradicts the claim, whatever the slope.
    """

    ratios: tuple[tuple[str, float], ...]
    """(arm, ratio), each ratio once."""

    def headline(self) -> Contrast:
        x = {arm: log2(1 + ratio) for arm, ratio in self.ratios}
        middle = sum(x.values()) / len(x)
        spread = sum((v - middle) ** 2 for v in x.values())
        slope = {arm: (v - middle) / spread for arm, v in x.items()}
        return Contrast("change per doubling of 1 + ratio", slope)

    def contrasts(self) -> list[Contrast]:
        arms = [arm for arm, _ in sorted(self.ratios, key=lambda pair: pair[1])]
        return [
            Contrast(f"{after} - {before}", {after: 1.0, before: -1.0})
            for before, after in pairwise(arms)
        ]

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = dict(self.ratios)
        if len(sizes) < 2 or len({*sizes.values()}) < len(self.ratios):
            raise ValueError(f"an order needs two ratios, each once, got {self.ratios}")
        if min(sizes.values()) < 0:
            raise ValueError(f"ratios are 0 or more, got {self.ratios}")


@dataclass(frozen=True, kw_only=True)
class Parts(_Claim):
    """Where the gain of ``delia`` over ``common`` comes from.

    The claim is the whole gain. The findings ``volume``, ``self-sampling`` and ``rewording``
    are a path from ``common`` to ``delia`` that changes one thing at a time, so they add up
    to it; ``rewording alone`` and ``interplay`` say whether rewording needs the diverse rows.
    The names of the arms are those of ``config.finetune.BASELINES``.
    """

    common: str = "common"
    rewording_only: str = "rewording_only"
    self_sampling_only: str = "self_sampling_only"
    replay: str = "replay"
    delia: str = "delia"

    def headline(self) -> Contrast:
        return Contrast(f"{self.delia} - {self.common}", {self.delia: 1.0, self.common: -1.0})

    def contrasts(self) -> list[Contrast]:
        return [
            Contrast("volume", {self.replay: 1.0, self.common: -1.0}),
            Contrast("self-sampling", {self.self_sampling_only: 1.0, self.replay: -1.0}),
            Contrast("rewording", {self.delia: 1.0, self.self_sampling_only: -1.0}),
            Contrast("rewording alone", {self.rewording_only: 1.0, self.common: -1.0}),
            Contrast(
                "interplay",
                {
                    self.delia: 1.0,
                    self.self_sampling_only: -1.0,
                    self.rewording_only: -1.0,
                    self.common: 1.0,
                },
            ),
        ]


Claim = Better | Ordered | Parts
