"""How many packs a worker computes at once, where ``finetune.micro_batch_size`` is ``auto``.

A step is the same whatever is chosen: the loss of each pass is a sum over its tokens, divided by
those of the whole step, so passes of unequal size accumulate exactly, too. Packs are spread evenly
over the passes all the same.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.errors import DeliaError

FILE = "memory.json"
"""In an arm's folder: the choice of its training, for those that go on with it."""
SHARE = 0.8
"""Of the free memory that a pass may take."""
ENOUGH = 8192
"""Tokens of a pass above which a CPU computes no faster."""
GIB = 2**30

Need = Callable[[int], int]
"""Packs of a pass to the bytes that a worker then holds."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and from what."""

    micro_batch_size: int
    auto: bool
    packs: int
    """Of a worker in each step."""
    tokens: int
    """Of the longest pack."""
    needs_gib: float
    """A worker's at the height of a pass; 0 where it could not be told."""
    free_gib: float
    """That this worker may hold."""
    why: str

    def __str__(self) -> str:
        how = "auto" if self.auto else "as set"
        said = (
            f"micro_batch_size={self.micro_batch_size} ({how}: {self.why}) of a worker's "
            f"{self.packs} packs of up to {self.tokens:,} tokens"
        )
        if not self.needs_gib:
            return said
        return f"{said}; needs about {self.needs_gib:.1f} of {self.free_gib:.1f} GiB free for it"

    @property
    def short(self) -> bool:
        """Whether it needs more than there is."""
        return self.needs_gib > self.free_gib


def choose(
    wanted: int | str,
    packs: int,
    tokens: int,
    free: int,
    need: Need | None,
    before: int | None = None,
    most: int | None = None,
    enough: int | None = ENOUGH,
) -> Choice:
    """Of a worker.

    Args:
        wanted: ``finetune.micro_batch_size``.
        packs: of the worker in each step.
        tokens: of the longest pack.
        free: bytes that the worker may hold in all.
        need: None where it is not known; then ``auto`` takes one pack at a time.
        before: what the training that is gone on with took; it stays where it still fits.
        most: of packs, where a training with more died.
        enough: tokens of a pass above which more give nothing; None without a bound.
    """
    if isinstance(wanted, int):
        size, why = wanted, "finetune.micro_batch_size"
    elif need is None:
        size, why = 1, "what a pass needs could not be told"
    else:
        size, why = _auto(packs, tokens, int(SHARE * free), need, before, most, enough)
    needs = need(min(size, packs)) if need is not None else 0
    return Choice(
        size, not isinstance(wanted, int), packs, tokens, round(needs / GIB, 2),
        round(free / GIB, 2), why,
    )  # fmt: skip


def _auto(
    packs: int,
    tokens: int,
    free: int,
    need: Need,
    before: int | None,
    most: int | None,
    enough: int | None,
) -> tuple[int, str]:
    bounds = {"all there are": packs}
    if enough is not None:
        bounds[f"a pass of {enough:,} tokens is as fast as any"] = max(1, enough // max(1, tokens))
    if most is not None:
        bounds["more ran out of memory before"] = max(1, most)
    fits = next((n for n in range(min(bounds.values()), 1, -1) if need(n) <= free), 1)
    bounds["what fits in memory"] = fits
    if before is not None and before <= fits:
        return before, "as it began"
    why = min(bounds, key=lambda name: bounds[name])
    # As many passes, but of packs spread evenly.
    return math.ceil(packs / math.ceil(packs / fits)), why


def write(arm: Folder, choice: Choice) -> None:
    """Leave ``choice`` in the arm's folder."""
    arm.write_json(FILE, asdict(choice))


def read(arm: Folder) -> Choice | None:
    """What was left there; None where nothing was, or nothing that can be read."""
    found = _read(arm)
    names = Choice.__dataclass_fields__
    try:
        choice = Choice(**{name: found[name] for name in names})
    except KeyError:
        return None
    sizes = (choice.micro_batch_size, choice.packs, choice.tokens)
    numbers = (choice.needs_gib, choice.free_gib)
    right = all(type(n) is int and 1 <= n < 2**40 for n in sizes)
    right = right and all(type(n) in (int, float) and n >= 0 for n in numbers)
    return choice if right and type(choice.auto) is bool and type(choice.why) is str else None


def mark_dead(out: Folder, arms: Sequence[str]) -> None:
    """Note that the training of ``arms`` ran out of memory with what was chosen, so that the next
    takes less."""
    for arm in arms:
        if (choice := read(out / arm)) is not None:
            (out / arm).write_json(FILE, asdict(choice) | {"died": choice.micro_batch_size})


def died_with(arm: Folder) -> int | None:
    """Packs with which an earlier training of this arm ran out of memory."""
    found = _read(arm).get("died")
    return found if type(found) is int and found >= 1 else None


def _read(arm: Folder) -> dict[str, Any]:
    if not arm.exists(FILE):
        return {}
    try:
        found = arm.read_json(FILE)
    except DeliaError:
        return {}
    return found if isinstance(found, dict) else {}
