"""What comes from outside is text on every page: no element, attribute or link of its own."""

from pathlib import Path
from typing import Any

import pytest

from delia_ray.artifacts import open_storage
from delia_ray.report.plots import loss_plot
from delia_ray.report.stage import STAGE
from delia_ray.study.page import render as study_page
from delia_ray.sweep.page import render as sweep_page
from tests.report.conftest import write
from tests.report.test_stage import Page
from tests.study.conftest import invented

EVIL = (
    "<evil-tag onload=alert(1)>\" onclick='alert(2)' ' autofocus x=\"</script></style></svg>"
    "<script>alert(3)</script> javascript:alert(4) {{ 7 * 7 }} ]]> --> &lt;evil-tag&gt;"
)


def _swapped(tree: Any, words: set[str]) -> Any:
    """``tree`` with the hostile text in place of each text, and key, in ``words``."""
    if isinstance(tree, dict):
        return {_swapped(k, words): _swapped(v, words) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_swapped(v, words) for v in tree]
    return EVIL if isinstance(tree, str) and tree in words else tree


def _check(page: str) -> str:
    parsed = Page(page)
    assert sum(tag == "script" for tag, _ in parsed.tags) <= 1
    for tag, attributes in parsed.tags:
        assert tag not in ("evil-tag", "link", "img", "iframe", "object", "base", "form"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("autofocus", "srcdoc", "action", "formaction"), (tag, name)
            if name in ("href", "src", "xlink:href"):
                assert (value or "").startswith("#"), (tag, name)
    shown = " ".join(" ".join(parsed.text).split())
    assert EVIL in shown, "it is shown as it is"
    return shown


def test_the_report(tmp_path: Path) -> None:
    run = write(open_storage(str(tmp_path)), text=EVIL)
    for name, folder in run.inputs.items():
        manifest = _swapped(folder.manifest(), {"layout", "empty answer", "vllm", "ray", "2.60.0"})
        folder.publish({**manifest, "stage": name})
    STAGE.run(run)
    shown = _check(run.out.read_bytes("report.html").decode())
    assert shown.count(EVIL) > 20


def test_the_study() -> None:
    words = {
        "miniature",
        "2 CPU cores",
        "sep_negated",
        "words",
        "format",
        "replay",
        "volume",
        "json",
    }
    found = _swapped(invented(), words)
    for claim in found["claims"]:
        claim |= {"paper": EVIL, "ours": EVIL, "because": EVIL}
    assert _check(study_page(found)).count(EVIL) > 12


def test_the_sweep(made: dict[str, Any]) -> None:
    found = _swapped(made, {"2 CPU cores", "miniature", "uniform", "plain", made["best"]["yaml"]})
    for trial in found["trials"]:
        trial["error"] = EVIL if trial["state"] == "failed" else trial.get("error")
    assert _check(sweep_page(found)).count(EVIL) > 2


def test_names_in_a_drawing() -> None:
    series = [(EVIL, [1.0, 2.0], [2.0, 1.0], "var(--arm-0)", False)]
    _check(loss_plot("one", EVIL, series, x=EVIL, y=EVIL))


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from tests.sweep.test_page import made as invented_sweep

    return invented_sweep.__wrapped__(tmp_path_factory)  # type: ignore[attr-defined]
