"""The page of the claims: complete, self-contained, the same for the same study."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from delia_ray.errors import DeliaError
from delia_ray.study.figures import sections
from delia_ray.study.page import VERDICTS, effects, headline, markdown, render
from delia_ray.study.plots import limits, positions, ramp
from delia_ray.study.tables import cell, figure, probability, signed, table

from ..browser import SIDEWAYS, ask, needs_browser
from ..report.test_stage import Page
from .conftest import EVIL, RATIOS

LISTS: dict[str, tuple[list[str], list[str]]] = {
    "claims": (["claims"], []),
    "contrasts": (["contrasts"], ["all-contrasts"]),
    "baselines": (["baselines"], ["all-baselines"]),
    "by_ratio": (["ratio-format-exact_match"], ["all-by-ratio"]),
    "distance": (["distance"], ["all-distance"]),
    "retention": (["retention"], ["all-retention"]),
    "forgotten": ([], ["all-forgotten"]),
    "probes": ([], ["all-probes"]),
    "neighbours": (["neighbours"], []),
}
"""The sections and the tables that each list of a study fills."""


def ids(page: str) -> set[str]:
    """Of sections, tables and rows; those inside drawings only have to differ."""
    found = [(tag, a["id"]) for tag, a in Page(page).tags if "id" in a]
    assert len(found) == len({i for _, i in found})
    return {i for tag, i in found if i is not None and tag in ("section", "table", "th")}


def test_every_claim_comes_first_with_its_verdict(study: dict[str, Any], page: str) -> None:
    text = " ".join(" ".join(Page(page).text).split())
    for claim in study["claims"]:
        sign, _ = VERDICTS[claim["verdict"]]
        assert claim["claim"] in text
        assert claim["because"] in text
        assert claim["paper"] in text
        after = text[text.index(claim["claim"]) :]
        assert after.index(f"{sign} {claim['verdict']}") < 200
    assert "interval +0.14 to +0.26; smallest effect that could be seen: 0.06" in text
    order = re.findall(r'<section id="([^"]+)"', page)
    assert order == [
        "claims", "contrasts", "baselines", "distance", "ratio-format-exact_match",
        "ratio-translation-exact_match", "retention", "neighbours", "design", "figures",
    ]  # fmt: skip
    assert "delia study claims" in text
    assert "n = 5 seeds" in text


def test_page_is_self_contained_and_escapes(page: str) -> None:
    parsed = Page(page)
    targets = ids(page)
    for tag, attrs in parsed.tags:
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in ("src", "href", "action", "poster", "srcset"):
                assert value is not None
                assert value.startswith("#")
                if tag == "a":
                    assert value[1:] in targets
    assert "http" not in page.replace("https://example.org/x.js", "").replace("http-equiv", "")
    assert "<script>alert" not in page
    assert EVIL in " ".join(parsed.text)
    assert [tag for tag, _ in parsed.tags].count("script") == 1


def test_same_study_same_bytes(study: dict[str, Any], page: str) -> None:
    other = json.loads(json.dumps(study))
    assert render(other) == page
    assert markdown(study) == markdown(other)


@pytest.mark.parametrize("alone", LISTS)
def test_a_list_alone_gives_its_own_section(study: dict[str, Any], alone: str) -> None:
    empty: dict[str, Any] = {name: [] for name in LISTS if name != "claims"}  # one is missing
    own = {"design": study["design"], **empty, alone: study[alone][:2]}
    sections_of, tables_of = LISTS[alone]
    found = ids(render(own))
    assert {i for i in found if not i.startswith(("all-", "claim-"))} == {
        "design", *sections_of, *(["figures"] if tables_of else []),
    }  # fmt: skip
    assert {i for i in found if i.startswith("all-")} == set(tables_of)
    assert ("## How much" in markdown(own)) == (alone == "contrasts")


def test_a_study_with_a_design_alone_renders() -> None:
    page = render({"design": {"model": "m"}})
    assert ids(page) == {"design"}
    assert "No claim was judged" in page
    assert "No claim was judged" in markdown({"design": {}})


def test_headline_counts_and_refuses_other_words(study: dict[str, Any]) -> None:
    assert headline(study) == "1 of 4 claims holds, 1 does not, 2 cannot be told"
    other = copy.deepcopy(study)
    other["claims"][0]["verdict"] = "perhaps"
    with pytest.raises(DeliaError, match="perhaps"):
        render(other)


def test_markdown_has_the_table(study: dict[str, Any]) -> None:
    lines = markdown(study).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[0] == "| claim | paper | ours | interval | verdict | because |"
    assert lines[lines.index(rows[0]) + 1] == "|---|---|---|---|---|---|"
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    assert [len(c) for c in cells] == [6] * 5 + [5] * 4
    assert [c[4] for c in cells[1:5]] == [
        "✓ holds", "✗ does not hold", "? cannot tell", "? cannot tell",
    ]  # fmt: skip
    assert cells[1][3] == "+0.14 to +0.26"
    assert cells[4][3] == "–"
    assert cells[6][0] == "self-sampling"
    assert "<script" not in markdown(study)
    assert len(lines) < 60


def test_effects_share_a_scale_with_zero_in_the_middle() -> None:
    rows = [
        {"name": "a", "value": 0.1, "low": 0.0, "high": 0.2, "p": 0.0001},
        {"name": "b", "value": -0.2, "low": -0.4, "high": -0.1, "p": None},
        {"name": "c", "value": 0.0, "low": None, "high": None},
        {"name": "d", "value": None},
    ]
    a, b, c = effects(rows)
    assert (a.low, a.at, a.high) == (50, 62, 74)
    assert (b.low, b.high, c.at) == (2, 38, 50)
    assert (a.tone, b.tone, c.tone) == ("open", "worse", "open")
    assert (a.p, b.p, c.p, c.interval) == ("< 0.001", "–", "–", "")


def test_plots_show_zero_every_ratio_and_how_many(study: dict[str, Any]) -> None:
    at = positions(RATIOS)
    assert (at[0], at[8], at[16]) == (0, 1, 2)
    assert at[520] == pytest.approx(7.02, abs=0.01)
    assert positions([0]) == {0: 0}
    assert list(ramp(RATIOS).values()) == [f"var(--ramp-{i})" for i in range(8)]
    assert ramp([0, 4]) == {0: "var(--ramp-0)", 4: "var(--ramp-7)"}
    assert limits([0.1, 0.9]) == (-0.02, 1.02)
    assert limits([3.0, 20.0]) == (0, 21)
    found = {s.id: s for s in sections(study)}
    form = found["ratio-format-exact_match"]
    assert len(form.plots) == 2
    assert len(form.small) == 4
    for drawing, caption in form.plots:
        assert all(f">{r}<" in drawing for r in RATIOS)
        assert "4 suites (416 prompts), n = 5 seeds at each ratio. Bars: 95% intervals" in caption
    assert "sep_negated: 96 prompts" in form.small[2][1]
    drawing, caption = found["distance"].plots[0]
    assert all(f">{r}×<" in drawing for r in RATIOS)
    assert "var(--ramp-0)" in drawing
    assert "mean over 5 seeds" in caption
    assert all(f">{r}×<" in found["retention"].plots[1][0] for r in RATIOS)


def test_gaps_in_the_figures_are_left_out(study: dict[str, Any]) -> None:
    own = {key: study[key][:3] for key in ("by_ratio", "distance", "retention")}
    own["by_ratio"][0] |= {"value": None, "low": None, "high": None}
    own["by_ratio"][1] |= {"low": None, "high": None}
    own["distance"][0]["values"][3] = None
    own["retention"][0]["adapt"] = None
    text = render({"design": study["design"], **own})
    assert text.count("<svg") == 3
    assert "nan" not in re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.S).lower()


def test_figures_in_tables() -> None:
    found = table("t", "T", [{"a_b": 1, "d": {"p": 0.5}}, {"a_b": 2, "values": [3.0, 4.0]}])
    assert found.header == ["a b", "d p", "first value", "last value"]
    assert [[c.text for c in row] for row in found.rows] == [
        ["1", "0.500", "–", "–"], ["2", "–", "3.00", "4.00"],
    ]  # fmt: skip
    assert cell(float("nan")).text == "–"
    assert cell("equal_steps", "mode").text == "equal steps"
    assert cell("exact_match", "metric").text == "exact_match"
    assert [figure(v) for v in (0.123, -0.001, 22.04, 1234.5, 5)] == [
        "0.12", "0.00", "22.0", "1,234", "5",
    ]  # fmt: skip
    assert [signed(v) for v in (0.2, -0.2, 0.0, 0.001)] == ["+0.20", "−0.20", "0.00", "0.00"]
    assert [probability(v) for v in (0.0004, 0.0123)] == ["< 0.001", "0.012"]


@needs_browser
def test_reading_on_a_phone(page: str, tmp_path: Path) -> None:
    found = ask(page, SIDEWAYS, tmp_path, width=390)
    assert found["page"] == 390
    assert found["outside"] == []
    assert found["text"] >= 9


@needs_browser
def test_tables_sort_and_narrow(page: str, tmp_path: Path) -> None:
    found = ask(
        page,
        """
        function names(id) { return Array.from(page.querySelectorAll(id + " tbody tr")).filter(
          function (r) { return !r.hidden; }).map(function (r) { return r.cells[0].innerText; }); }
        var heads = page.querySelectorAll("#contrasts thead th");
        heads[2].querySelector("button").click();
        var up = names("#contrasts");
        heads[3].querySelector("button").click();
        var likely = names("#contrasts");
        var box = page.querySelector("input[data-rows=all-by-ratio]");
        box.value = "translation words 520";
        box.dispatchEvent(new Event("input"));
        return {up: up, likely: likely, rows: names("#all-by-ratio").length,
          said: box.closest("div").querySelector("output").textContent};
        """,
        tmp_path,
    )
    first = [name.split("\n")[0].split(" ")[0] for name in found["up"]]
    assert first == ["volume", "rewording", "self-sampling"]
    assert found["likely"][0].startswith("self-sampling")
    assert (found["rows"], found["said"]) == (2, "2 of 128 rows")
