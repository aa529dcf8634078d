"""Whether a model and a recipe fit together, said before the first stage: in seconds, in the
process of the command, without Ray.

A check is a function from a ``Subject`` to the ``Problem``s it finds, in a file of its own, and
a line in ``CHECKS``. Heavy packages are imported inside it. ``check`` makes all of them and
raises one error with every problem; ``delia doctor`` shows the same. A recipe that passed is
remembered in its run's folder, so that it is not checked again.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.models import fingerprint
from delia_ray.preflight.families import generation_settings, one_step
from delia_ray.preflight.positions import longest_rows
from delia_ray.preflight.problem import Problem
from delia_ray.preflight.subject import Subject
from delia_ray.records import digest

__all__ = ["CHECKS", "Check", "Problem", "Subject", "check", "examine"]

Check = Callable[[Subject], Iterable[Problem]]

CHECKS: dict[str, Check] = {
    "longest rows": longest_rows,
    "generation settings": generation_settings,
    "one step": one_step,
}
"""Name -> what is checked before the first stage, in the order of the report."""

VERSION = 1
"""Raised when a check would find more in what passed before."""
PASSED = "preflight"
"""Folder below the run's with a file for each recipe that passed."""


def check(
    config: RunConfig, run: Folder | None = None, tell: Callable[[str], None] | None = None
) -> None:
    """Make every check, unless ``config`` passed them before.

    Args:
        config: the recipe.
        run: the run's folder, where it is noted that the recipe passed.
        tell: is told what does not stop the run but should be known.

    Raises:
        UserError: with every problem, numbered.
    """
    name = f"{_mark(config)}.json"
    passed = run / PASSED if run is not None else None
    if passed is not None and passed.exists(name):
        return
    found = examine(config)
    fatal = [p for p in found if p.fatal]
    notes = [str(p) for p in found if not p.fatal]
    if tell is not None:
        for note in notes:
            tell(f"note: {note}")
    if fatal:
        raise UserError(_told(fatal))
    if passed is not None:
        passed.write_json(name, {"checks": list(CHECKS), "notes": notes})


def examine(config: RunConfig, checks: Mapping[str, Check] | None = None) -> list[Problem]:
    """Every problem that the checks find, each once, the fatal ones first.

    A check that itself breaks stops nobody: that is a note.
    """
    subject = Subject(config)
    found: list[Problem] = []
    for name, one in (CHECKS if checks is None else checks).items():
        try:
            found += one(subject)
        except UserError as error:
            found.append(Problem(str(error)))
        except Exception as error:
            told = f"{type(error).__name__}: {error}".splitlines()[0]
            found.append(Problem(f"the check {name!r} could not be made ({told})", fatal=False))
    return sorted(dict.fromkeys(found), key=lambda p: not p.fatal)


def _told(problems: list[Problem]) -> str:
    if len(problems) == 1:
        return str(problems[0])
    lines = [f"{number}. {problem}" for number, problem in enumerate(problems, start=1)]
    return "\n       ".join([f"{len(problems)} things make this recipe impossible:", *lines])


_NO_MATTER: Any = {
    "name": True, "storage": True, "seed": True, "training_seed": True, "corpus": True,
    "curate": True, "cluster": True,
    "finetune": {"lr", "schedule", "phases", "warmup_steps", "weight_decay", "steps", "watch",
                 "checkpoint_every", "keep_checkpoints", "max_failures", "profile", "trackers"},
    "mix": {"ratio", "schedule", "temperature", "repeat", "strategy"},
}  # fmt: skip
"""Settings that no check looks at."""


def _mark(config: RunConfig) -> str:
    """What the findings depend on."""
    versions: dict[str, Any] = {n: metadata.version(n) for n in ("transformers", "torch", "peft")}
    seen = config.model_dump(mode="json", exclude=_NO_MATTER)
    return digest([VERSION, sorted(CHECKS), versions, fingerprint(config.model), seen])
