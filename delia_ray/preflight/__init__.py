"""Whether a model and a recipe fit together, said before the first stage: in seconds, in the
process of the command, without Ray.

A check is a function from a ``Subject`` to the ``Problem``s it finds, in a file of its own, and
a line in ``CHECKS``. Heavy packages are imported inside it. ``check`` makes all of them and
raises one error with every problem; ``delia doctor`` shows the same. A recipe that passed is
remembered in its run's folder, so that it is not checked again.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.models import fingerprint
from delia_ray.preflight import rows
from delia_ray.preflight.families import generation_settings, one_step
from delia_ray.preflight.metrics import metrics
from delia_ray.preflight.positions import longest_rows
from delia_ray.preflight.problem import Problem
from delia_ray.preflight.subject import Subject
from delia_ray.preflight.template import chat_template
from delia_ray.preflight.tokens import special_tokens
from delia_ray.records import digest

__all__ = ["CHECKS", "Check", "Problem", "Subject", "check", "check_rows", "examine"]

Check = Callable[[Subject], Iterable[Problem]]

CHECKS: dict[str, Check] = {
    "chat template": chat_template,
    "special tokens": special_tokens,
    "longest rows": longest_rows,
    "metrics": metrics,
    "generation settings": generation_settings,
    "one step": one_step,
}
"""Name -> what is checked before the first stage, in the order of the report."""

RowCheck = Callable[[Subject, Folder], Iterable[Problem]]

ROW_CHECKS: dict[str, RowCheck] = {
    "downstream rows": rows.downstream_rows,
    "diverse rows": rows.diverse_rows,
    "suite rows": rows.suite_rows,
}
"""The same for what the rows tell: made on the folder of the finished stage ingest, before
anything is generated."""

VERSION = 2
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
    notes = _report(examine(config), tell)
    if passed is not None:
        passed.write_json(name, {"checks": list(CHECKS), "notes": notes})


def check_rows(
    config: RunConfig, ingest: Folder, tell: Callable[[str], None] | None = None
) -> None:
    """Make the checks of ``ROW_CHECKS`` on the rows in ``ingest``.

    Raises:
        UserError: with every problem, numbered.
    """
    subject = Subject(config)
    made: dict[str, Check] = {
        name: functools.partial(_of_rows, check=check, ingest=ingest)
        for name, check in ROW_CHECKS.items()
    }
    _report(_examine(subject, made), tell)


def _of_rows(subject: Subject, check: RowCheck, ingest: Folder) -> Iterable[Problem]:
    return check(subject, ingest)


def examine(config: RunConfig, checks: Mapping[str, Check] | None = None) -> list[Problem]:
    """Every problem that the checks find, each once, the fatal ones first.

    A check that itself breaks stops nobody: that is a note.
    """
    return _examine(Subject(config), CHECKS if checks is None else checks)


def _report(found: list[Problem], tell: Callable[[str], None] | None) -> list[str]:
    """Tell the notes, which are given back, and raise the rest."""
    notes = [str(p) for p in found if not p.fatal]
    if tell is not None:
        for note in notes:
            tell(f"note: {note}")
    if fatal := [p for p in found if p.fatal]:
        raise UserError(_told(fatal))
    return notes


def _examine(subject: Subject, checks: Mapping[str, Check]) -> list[Problem]:
    found: list[Problem] = []
    for name, one in checks.items():
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
