"""What makes a recipe impossible is said before its first stage, all at once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from delia_ray import pipeline, preflight
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.preflight import CHECKS, Problem, Subject


def _one(subject: Subject) -> Iterator[Problem]:
    yield Problem("it is blue", "mix.turns=all", "paint it")


def _note(subject: Subject) -> Iterator[Problem]:
    yield Problem("it is old", fatal=False)


def _breaks(subject: Subject) -> Iterator[Problem]:
    raise KeyError("odd")


def _raises(subject: Subject) -> Iterator[Problem]:
    raise UserError("model=x has nothing")


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        preflight, "CHECKS", {"a": _note, "b": _one, "c": _breaks, "d": _raises, "e": _raises}
    )
    notes: list[str] = []
    with pytest.raises(UserError) as error:
        preflight.check(RunConfig(), Folder(str(tmp_path)), notes.append)
    assert str(error.value).splitlines() == [
        "2 things make this recipe impossible:",
        "       1. mix.turns=all: it is blue; paint it",
        "       2. model=x has nothing",
    ]
    assert notes == ["note: it is old", "note: the check 'c' could not be made (KeyError: 'odd')"]
    assert not (tmp_path / "preflight").exists(), "what failed is checked again"


def test_a_recipe_that_passed_is_not_checked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []

    def counted(check: Callable[[Subject], Iterator[Problem]]) -> Callable[[Subject], list]:
        def one(subject: Subject) -> list[Problem]:
            made.append("once more")
            return list(check(subject))

        return one

    monkeypatch.setattr(preflight, "CHECKS", {"a": counted(_note)})
    run = Folder(str(tmp_path))
    preflight.check(RunConfig(), run)
    preflight.check(RunConfig(finetune={"lr": 1.0}), run)
    assert len(made) == 1, "no check looks at the learning rate"
    preflight.check(RunConfig(mix={"max_length": 500}), run)
    assert len(made) == 2


def test_the_miniature_passes_every_check() -> None:
    assert preflight.examine(RunConfig()) == []


def test_the_pipeline_checks_before_its_first_stage(tmp_path: Path) -> None:
    config = RunConfig(storage=str(tmp_path), mix={"max_length": 100_000})
    with pytest.raises(UserError, match=r"mix\.max_length=100000"):
        pipeline.run(config)
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == ["config.json", "drivers"]


def test_every_check_has_a_name_and_tells_of_itself() -> None:
    assert all(check.__doc__ for check in CHECKS.values())
