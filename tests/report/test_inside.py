"""The sections on robustness, on what was kept, and on the states inside."""

from delia_ray.report.inside import (
    forgotten,
    probe_tables,
    retention_tables,
    robustness_tables,
)
from delia_ray.report.page import render
from delia_ray.report.stage import gather
from delia_ray.stage import StageRun
from tests.report.conftest import EVIL, probes, scores


def test_robustness() -> None:
    (table,) = robustness_tables(scores())
    assert table.title == "words"
    assert [row[0] for row in table.rows] == ["base", "common", "delia"]
    assert table.rows[2][1] == "0.90 [0.80, 1.00]"
    assert table.rows[2][6] == "0.03"
    assert robustness_tables({}) == []
    assert robustness_tables({"robustness": {"words": {"base": None}}}) == []


def test_retention() -> None:
    losses, groups = retention_tables(scores())
    assert losses.rows == [
        ["base", "0.50 [0.40, 0.60]", ""],
        ["delia", "0.75 [0.65, 0.85]", "+0.25 [+0.15, +0.35]"],
    ]
    assert groups.header == ["", "rows", "base", "delia"]
    assert groups.rows == [["words: json", "4", "0.50", "0.25 (\u22122, +1)"]]


def test_forgotten_rows_are_listed(stage_run: StageRun) -> None:
    found = gather(stage_run)
    (own,) = forgotten(found.scores, found.generations)
    assert (own.arm, own.total, [r["index"] for r in own.rows]) == ("delia", 2, ["1", "3"])
    assert own.rows[0]["before"].endswith("base")
    assert own.rows[0]["after"].endswith("delia")


def test_probes() -> None:
    states, near, gradients = probe_tables(probes())
    assert states.rows == [
        ["delia", "0", "0", "0", "\u2013", "0"],
        ["delia", "1", "3.25", "0.1", "0.9", "3.25"],
    ]
    assert [row[0] for row in near.rows] == ["base", "delia"]
    assert gradients.rows == [["delia", "2", "0.5", "-0.125"]]
    assert probe_tables({}) == []


def test_the_page_has_the_sections(stage_run: StageRun) -> None:
    page = render(gather(stage_run))
    for part in ("robustness", "retention", "inside"):
        assert f'<section id="{part}">' in page
    assert EVIL not in page
    assert "0.25 (\u22122, +1)" in page
