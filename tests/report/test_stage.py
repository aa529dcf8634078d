"""The page and the figures of a small run whose rows are hostile."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from delia_ray.artifacts import open_storage
from delia_ray.errors import DeliaError
from delia_ray.report.stage import STAGE
from delia_ray.stage import StageRun

from .conftest import ARMS, EVIL, N, write

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order, and keeps what matters."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else: {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


@pytest.fixture
def page(stage_run: StageRun) -> str:
    outcome = STAGE.run(stage_run)
    assert outcome.summary.startswith("delia does better than common; ")
    assert outcome.counts["bytes"] == len(stage_run.out.read_bytes("report.html"))
    return stage_run.out.read_bytes("report.html").decode()


def test_page_is_well_formed_and_complete(page: str) -> None:
    parsed = Page(page)
    text = " ".join(parsed.text)
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for section in (
        "comparison", "training", "mix", "synthesis", "ingest", "time", "samples", "recipe",
        "provenance",
    ):  # fmt: skip
        assert section in ids
    assert sum(tag == "svg" for tag, _ in parsed.tags) == 5
    assert "+0.29" in text
    assert "[+0.10, +0.40]" in text
    assert "Turn the words round, please." in text
    assert "4 (10.0%)" not in text
    assert "8 (20.0%)" in text
    assert "320 (80.0%)" in text
    assert "empty answer" in text
    assert "3,912" in text
    assert "20 rejected rows, the first 12" in text
    assert text.count("yes") >= 2  # the rows of both sources add up
    samples = [a for tag, a in parsed.tags if tag == "article"]
    assert {a["data-outcome"] for a in samples} == {"ours", "both", "neither", "unscored"}
    inputs = {a.get("id") for tag, a in parsed.tags if tag in ("select", "input")}
    assert inputs == {"pick-suite", "pick-outcome", "pick-text"}
    sortable = [a for t, a in parsed.tags if t == "table" and "sortable" in (a["class"] or "")]
    assert len(sortable) >= 3
    assert "cut off" in text
    assert "✓ right" in text
    assert "✗ wrong" in text


def test_page_loads_nothing_and_runs_only_its_own_script(page: str) -> None:
    parsed = Page(page)
    for tag, attrs in parsed.tags:
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
        for name, value in attrs.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in ("src", "href", "action", "poster", "srcset"):
                assert (value or "").startswith("#"), f"{tag} loads {value}"
    outside = page.replace("https://example.org/x.js", "")  # a row's own text, shown as text
    assert "http://" not in outside
    assert "https://" not in outside
    assert "@import" not in outside
    assert not re.search(r"url\((?!#)", page)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    policy = next(a["content"] for _, a in parsed.tags if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    script = re.search(r"<script>(.*)</script>", page, re.S)
    assert script
    import base64
    import hashlib

    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy


def test_rows_are_escaped(page: str) -> None:
    assert "<script>alert" not in page
    assert "</style></pre>" not in page
    shown = " ".join(Page(page).text)
    assert shown.count(EVIL) >= 2 * 3 * 2  # in prompts, references, outputs: as text


def test_results(stage_run: StageRun, page: str) -> None:
    found = json.loads(stage_run.out.read_bytes("results.json"))
    assert found["name"] == "tiny"
    assert found["seed"] == 0
    assert found["model"] == "miniature"
    assert found["suites"]["words"]["common"]["exact_match"] == {
        "value": 0.612346, "low": 0.562346, "high": 0.662346, "n": N,
    }  # fmt: skip
    assert set(found["suites"]["words"]) == set(ARMS)
    assert found["differences"]["mean"]["delia"]["exact_match"]["value"] == 0.287654
    assert found["mix"]["arms"]["delia"]["rows"] == {"downstream": 8, "diverse": 32}
    assert "seconds" not in json.dumps(found)
    assert "2026" not in json.dumps(found)


def test_two_runs_give_the_same_bytes(stage_run: StageRun, page: str, tmp_path: Path) -> None:
    other = write(open_storage(str(tmp_path / "other")), seconds=3.25)
    STAGE.run(other)
    assert other.out.read_bytes("results.json") == stage_run.out.read_bytes("results.json")
    assert other.out.read_bytes("report.html") != stage_run.out.read_bytes("report.html")
    STAGE.run(stage_run)
    assert stage_run.out.read_bytes("report.html").decode() == page


def test_an_unfinished_stage_is_an_error(stage_run: StageRun) -> None:
    stage_run.inputs["mix"].remove("manifest.json")
    with pytest.raises(DeliaError, match="mix is unfinished"):
        STAGE.run(stage_run)


def test_report_needs_no_ray_and_closes_its_figures(page: str) -> None:
    from matplotlib import pyplot as plt

    assert plt.get_fignums() == []


def test_settings_follow_the_recipe(stage_run: StageRun) -> None:
    first = STAGE.settings(stage_run.config)
    assert json.loads(json.dumps(first)) == first
    assert STAGE.settings(stage_run.config.model_copy(update={"seed": 5})) != first
