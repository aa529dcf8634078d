"""The page as a reader meets it: sorting, filters, a phone's width."""

from pathlib import Path

import pytest

from delia_ray.report.stage import STAGE
from delia_ray.stage import StageRun

from ..browser import SIDEWAYS, ask, needs_browser

pytestmark = needs_browser

TABLE = """
<!doctype html><html><body><table class="sortable"><thead><tr>
<th>name</th><th>n</th><th data-sort="none">free</th><th>exact</th></tr></thead><tbody>
<tr><th>b10</th><td>1,024 (1.5%)</td><td>x</td><td data-value="3">zz</td></tr>
<tr><th>b9</th><td>−0.12</td><td>y</td><td data-value="20">aa</td></tr>
<tr><th>a</th><td>–</td><td>z</td><td data-value="100">mm</td></tr>
<tr><th>c</th><td>9.5</td><td>w</td><td data-value="-4">bb</td></tr>
</tbody></table><script>SCRIPT</script></body></html>
"""

NAMES = """Array.from(page.querySelectorAll('tbody tr')).map(function (row) {
  return row.cells[0].textContent; })"""


@pytest.fixture
def page(stage_run: StageRun) -> str:
    STAGE.run(stage_run)
    return stage_run.out.read_bytes("report.html").decode()


def test_tables_sort_numbers_as_numbers_and_say_so(tmp_path: Path) -> None:
    script = (Path(STAGE.run.__code__.co_filename).parent / "script.js.jinja").read_text()
    found = ask(
        TABLE.replace("SCRIPT", script),
        f"""
        var heads = Array.from(page.querySelectorAll("thead th")), seen = [];
        function press(column) {{
          var button = heads[column].querySelector("button");
          button.focus();
          if (page.activeElement !== button) {{ throw new Error("no focus by keyboard"); }}
          button.click();
          seen.push([heads.map(function (h) {{ return h.getAttribute("aria-sort"); }}), {NAMES}]);
        }}
        [1, 1, 1, 0, 3].forEach(press);
        return {{seen: seen, buttons: heads.map(function (h) {{
          return h.querySelectorAll("button[type=button]").length; }})}};
        """,
        tmp_path,
    )
    assert found["buttons"] == [1, 1, 0, 1]
    assert found["seen"] == [
        [["none", "ascending", None, "none"], ["b9", "c", "b10", "a"]],
        [["none", "descending", None, "none"], ["b10", "c", "b9", "a"]],
        [["none", "none", None, "none"], ["b10", "b9", "a", "c"]],
        [["ascending", "none", None, "none"], ["a", "b9", "b10", "c"]],
        [["none", "none", None, "ascending"], ["c", "b10", "b9", "a"]],
    ]


def test_samples_are_filtered_by_suite_outcome_and_words(page: str, tmp_path: Path) -> None:
    found = ask(
        page,
        """
        var all = [];
        function look() {
          var shown = Array.from(page.querySelectorAll("article")).filter(function (a) {
            return !a.hidden && !a.closest("details.suite").hidden; });
          all.push([
            shown.length,
            Array.from(new Set(shown.map(function (a) {
              return a.closest("details.suite").dataset.suite + " " + a.dataset.outcome;
            }))).sort(),
            page.getElementById("shown").textContent,
          ]);
        }
        function set(id, value, event) {
          page.getElementById(id).value = value;
          page.getElementById(id).dispatchEvent(new Event(event));
          look();
        }
        look();
        set("pick-suite", "words", "change");
        set("pick-outcome", "ours", "change");
        set("pick-text", "REVERSE  delia prompt", "input");
        set("pick-text", "nowhere", "input");
        set("pick-suite", "", "change");
        set("pick-text", "", "input");
        set("pick-outcome", "", "change");
        return all;
        """,
        tmp_path,
    )
    whole, words, ours, typed, nowhere = found[:5]
    assert whole[2] == f"{whole[0]} samples"
    assert whole[1] == ["texts unscored", "words both", "words neither", "words ours"]
    assert words[1] == ["words both", "words neither", "words ours"]
    assert ours[1] == typed[1] == ["words ours"]
    assert ours[0] == typed[0] == 3
    assert ours[2] == f"3 of {whole[0]} samples"
    assert nowhere[:2] == [0, []]
    assert found[5][0] == 0
    assert found[6][1] == ["words ours"]
    assert found[7] == whole


def test_nothing_scrolls_sideways_on_a_phone(page: str, tmp_path: Path) -> None:
    found = ask(page, SIDEWAYS, tmp_path, width=390)
    assert found["page"] == 390
    assert found["outside"] == []
    assert found["text"] >= 9
