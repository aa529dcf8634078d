"""Models of every family train, save and answer rightly, or are refused by name before it."""

import contextlib
from pathlib import Path

import pytest

from delia_ray.config import RunConfig
from delia_ray.finetune.small import one_thread
from delia_ray.preflight import CHECKS, examine
from tests.families.life import TOKENS_NEW, Life, live
from tests.families.models import FAMILIES, MANNERS, make_family
from tests.families.table import DOCUMENT, line, refused_line


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def _examined(base: Path) -> list[str]:
    """What the check before the first stage says of the family."""
    config = RunConfig.model_validate(
        {"model": str(base), "downstream": {"special_tokens": TOKENS_NEW},
         "mix": {"max_length": 256}}
    )  # fmt: skip
    own = {name: CHECKS[name] for name in ("generation settings", "one step")}
    return [("! " if p.fatal else "") + str(p) for p in examine(config, own)]


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if not f.refused])
def test_a_family_lives(name: str, tmp_path: Path) -> None:
    base = make_family(name, tmp_path / "base")
    said = _examined(base)
    assert not [s for s in said if s.startswith("! ")]
    life = live(name, base, tmp_path)
    _check(name, life)
    assert any("computed apart" in s for s in said) == life.layout.apart
    assert line(name, life) in DOCUMENT.read_text().splitlines(), (
        "write the table again: python -m tests.families.table"
    )


def _check(name: str, life: Life) -> None:
    for supervised, answer in life.masks:
        # Some templates write a space before an answer, which is the model's to write then.
        assert supervised.removeprefix(" ") == answer, "the answer and its end, and nothing else"
    assert life.system_refused == (not MANNERS[FAMILIES[name].manner].has_system)
    assert life.packed < 1e-5, "packs and single rows"
    assert life.losses[1] < 0.05 < life.losses[0]
    for wanted, got, ended in life.answers:
        assert (got, ended) == (wanted, "stop"), "the end of the turn is learned"
    assert life.others_moved == 0 < life.row_moved, "only the new token's row is trained"
    for adapter, merged in life.adapter_and_merged:
        assert adapter == merged


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if f.refused])
def test_what_cannot_work_is_refused_by_name(name: str, tmp_path: Path) -> None:
    base = make_family(name, tmp_path / "base")
    fatal = [s for s in _examined(base) if s.startswith("! ")]
    assert len(fatal) == 1
    assert FAMILIES[name].refused in fatal[0] or f"family {name.lower()}" in fatal[0]
    assert "choose" in fatal[0]
    with contextlib.suppress(KeyError):
        assert refused_line(name) in DOCUMENT.read_text().splitlines()
