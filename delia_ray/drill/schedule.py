"""What is struck when: a pure function of the seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from delia_ray.errors import UserError

STRIKES: dict[str, tuple[str, ...]] = {
    "ingest": ("driver", "storage"),
    "synthesize": ("engine", "queue", "node", "driver", "storage", "disk"),
    "mix": ("driver", "storage"),
    "finetune": ("worker", "controller", "node", "driver", "storage", "disk"),
    "evaluate": ("node", "driver", "storage"),
}
"""Stage -> what can be struck in it. engine: the actor of an engine; queue: the actor that feeds
the engines; node: a raylet with everything on it; driver: the run's own process; worker: a training
worker; controller: Ray Train's; storage: denied for a while; disk: full for a while."""
KINDS = tuple(dict.fromkeys(kind for kinds in STRIKES.values() for kind in kinds))


@dataclass(frozen=True)
class Drill:
    """One disturbance of one run."""

    number: int
    """From 1."""
    stage: str
    """While this stage runs; those before it are done."""
    kind: str
    share: float
    """When, as a share of what the stage takes undisturbed."""


def schedule(seed: int, count: int, kinds: Sequence[str] = KINDS) -> list[Drill]:
    """``count`` drills: every (stage, kind) in turn, shuffled, at random moments.

    A longer schedule of the same seed begins like a shorter one.

    Raises:
        UserError: a kind is none, or there is none.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"--kinds {unknown[0]}: choose from {', '.join(KINDS)}")
    pairs = [(stage, kind) for stage, own in STRIKES.items() for kind in own if kind in kinds]
    if not pairs:
        raise UserError(f"--kinds is empty; choose from {', '.join(KINDS)}")
    rng = random.Random(seed)
    drills: list[Drill] = []
    while len(drills) < count:
        rng.shuffle(pairs)
        drills += [
            Drill(len(drills) + i, stage, kind, round(rng.uniform(0.05, 0.9), 3))
            for i, (stage, kind) in enumerate(pairs, start=1)
        ]
    return drills[:count]
