"""Words, counts, samples and plots, each alone."""

from typing import Any

import pytest

from delia_ray.report.counts import by_arm, count_tables, ingest_table, without_times
from delia_ray.report.page import comparison
from delia_ray.report.plots import POINTS, loss_plot, smooth, thin
from delia_ray.report.samples import by_kind, clip, outcome, reworded, tally
from delia_ray.report.words import clock, judge, number, opponents, signed, verdict

from .conftest import scores


def with_gap(low: float, high: float) -> dict[str, Any]:
    found = scores()
    gap = {"value": (low + high) / 2, "low": low, "high": high}
    found["differences"] = {s: {"delia": {"exact_match": gap}} for s in ("words", "mean")}
    return found


@pytest.mark.parametrize(
    ("low", "high", "tone", "says"),
    [
        (0.01, 0.2, "better", "does better"),
        (-0.2, -0.01, "worse", "does worse"),
        (-0.1, 0.1, "open", "cannot be told apart"),
        (0.0, 0.1, "open", "cannot be told apart"),
    ],
)
def test_verdict_claims_only_what_the_interval_allows(
    low: float, high: float, tone: str, says: str
) -> None:
    found = verdict(with_gap(low, high))
    assert found.tone == tone
    assert says in found.headline
    assert ("excludes zero" in found.detail) == (tone != "open")
    assert found.by_suite[tone] == ["words"]
    assert "95%" in found.caveat
    assert "seed" in found.caveat


def test_verdict_without_a_mean_or_without_arms() -> None:
    found = scores()
    del found["differences"]["mean"]
    assert "better than common on words" in verdict(found).detail
    found["differences"] = {}
    assert verdict(found).headline == "No paired comparison in this run"


def test_opponents() -> None:
    assert opponents(scores()) == ("delia", "common")
    assert opponents({"arms": ["base", "x", "y"], "baseline": "base"}) == ("y", "base")
    assert opponents({"arms": ["base", "common"], "baseline": "common"}) == ("common", "base")


def test_less_may_be_better_and_a_scale_may_have_no_bound() -> None:
    gap = {"value": -0.2, "low": -0.3, "high": -0.1}
    assert (judge(gap), judge(gap, lower_is_better=True)) == ("worse", "better")
    found = scores()
    level = {"value": 40.0, "low": 20.0, "high": 160.0, "n": 8}
    for arm in found["arms"]:
        found["suites"]["texts"][arm] = {"length": level, "ter": level, "bleurt": level}
    found["scales"] |= {"length": None, "ter": 100.0}
    found["lower_is_better"] = ["length", "ter"]
    lines = {line.metric: line for line in comparison(found) if line.suite == "texts"}
    assert lines["length"].scale == "no bound, less is better"
    assert lines["ter"].scale == "0 to 100, less is better"
    assert lines["bleurt"].scale == "0 to 1"
    cell = lines["length"].cells[0]
    assert (cell.value, cell.at, cell.low, cell.high) == ("40.0", 25.0, 12.5, 100.0)
    assert lines["ter"].cells[0].high == 100.0


def test_figures_in_words() -> None:
    assert [signed(0.128), signed(-0.128), signed(-0.001), signed(3.21, 100)] == [
        "+0.13", "−0.13", "0.00", "+3.2",
    ]  # fmt: skip
    assert [number(v) for v in (4096, 0.98765, 12.0, True, None, [], [1, 2000], "x")] == [
        "4,096", "0.9877", "12", "yes", "-", "none", "1, 2,000", "x",
    ]  # fmt: skip
    assert [clock(s) for s in (3.21, 59.6, 130, 3765)] == ["3.2 s", "1:00", "2:10", "1:02:45"]


def test_counts_of_any_shape() -> None:
    tables = count_tables(
        {"a_b": 1, "deep": {"x": 2, "y": {"z": 3}}, "m": {"r": {"c": 4}}, "e": {}}
    )
    assert [(t.title, t.rows) for t in tables] == [
        ("", [["a b", "1"]]),
        ("deep", [["x", "2"], ["y, z", "3"]]),
        ("m", [["r", "4"]]),
    ]
    arms = by_arm({"common": {"rows": {"downstream": 5}}, "delia": {"rows": {"diverse": 3}}})
    assert arms.rows == [["rows, downstream", "5", ""], ["rows, diverse", "", "3"]]
    assert by_arm({"d": {"rows": {"downstream": 1, "diverse": 3}}}).rows[1][1] == "3 (75.0%)"
    assert without_times({"x": 1, "seconds": 2, "y": [{"tokens_per_second": 3}]}) == {
        "x": 1, "y": [{}],
    }  # fmt: skip


def test_ingest_says_where_rows_do_not_add_up() -> None:
    good = {"read": 5, "records": 2, "rejects": {"a": 1}, "duplicates": 1, "beyond_limit": 1}
    table = ingest_table({"corpus": {"c": good, "d": {**good, "read": 6}}, "files": 2})
    assert table is not None
    assert [row[-1] for row in table.rows] == ["yes", "no"]
    assert table.rows[0][:2] == ["corpus: c", "5"]
    assert ingest_table({"corpus": {"c": {"other": 1}}}) is None


def test_outcomes() -> None:
    assert [outcome(*p) for p in ((1, 0), (0, 1), (1, 1), (0, 0), (0.5, 0.2), (None, 1))] == [
        "ours", "theirs", "both", "neither", "ours", "unscored",
    ]  # fmt: skip


def test_rewordings_show_only_what_differs() -> None:
    def row(text: str, **more: Any) -> dict[str, Any]:
        return {"id": "d", "prompt": [{"role": "user", "content": text}], **more}

    new = [
        row("content\n\nB", variant=1, reason=None),
        row("content\n\nC", variant=2, reason=None),
        row("content\n\nD", variant=3, reason="lost the token"),
    ]
    assert reworded(new, [row("content\n\nA")]) == [("A", ["B", "C"])]
    before = reworded([row("B\n\ncontent", variant=1, reason=None)], [row("content\n\nA")])
    assert before == [("A", ["B"])], "the instruction may come first"
    assert reworded([row("same", variant=1, reason=None)], [row("same")]) == [("same", ["same"])]
    assert tally([None, "b", None, "a", "b"]) == {"kept": 2, "b": 2, "a": 1}
    assert clip("x" * 10, 4) == "xxxx… (6 more characters)"


def test_plots_are_deterministic_and_take_the_page_s_colours() -> None:
    series = [("a $b$ <c>", [1, 2, 3], [3.0, 2.0, 1.0], "var(--arm-1)", False)]
    svg = loss_plot("one", 'a "title"', series)
    assert svg == loss_plot("one", 'a "title"', series)
    assert svg.startswith('<svg role="img" aria-label="a &#34;title&#34;"')
    assert "var(--arm-1)" in svg
    assert "var(--ink)" in svg
    assert "#0102" not in svg
    assert "http" not in svg
    assert "<metadata" not in svg
    assert "a $b$ &lt;c&gt;" in svg
    ids = {name: set(_ids(loss_plot(name, "", series))) for name in ("one", "two")}
    assert ids["one"]
    assert not ids["one"] & ids["two"]


def test_log_scale_has_plain_labels() -> None:
    steps = list(range(1, 200))
    svg = loss_plot("log", "", [("a", steps, [10.0 / s**2 for s in steps], "red", False)])
    assert "mathdefault" not in svg
    assert ">0.01<" in svg


def test_smoothing_and_thinning() -> None:
    assert smooth([2.0] * 50) == pytest.approx([2.0] * 50)
    assert len(smooth([1.0, 5.0])) == 2
    assert smooth([]) == []
    steps, values = thin(list(range(10_000)), [float(i) for i in range(10_000)])
    assert len(steps) == len(values) <= POINTS
    assert steps == values
    assert steps[0] == 4.0
    assert thin([], []) == ([], [])


def _ids(svg: str) -> list[str]:
    import re

    return re.findall(r' id="([^"]+)"', svg)


def test_examples_of_whose_words_the_rewordings_are() -> None:
    def row(key: str, text: str, **more: Any) -> dict[str, Any]:
        return {"id": key, "prompt": [{"role": "user", "content": text}], **more}

    new = [
        row("1", "x\n\nB", kind="model", variant=1, reason=None),
        row("1", "x\n\nC", kind="template", variant=2, reason=None),
        row("2", "y\n\nB", kind="model", variant=1, reason=None),
        row("2", "y\n\nE", kind="row", variant=1, reason="not new"),
        row("3", "z\n\nB", kind="frame", variant=1, reason=None),
    ]
    found = by_kind(new, [row("1", "x\n\nA"), row("2", "y\n\nA")])
    assert found == [
        ("the model's words", 2, [("A", "B"), ("A", "B")]),
        ("a template around it", 1, [("A", "C")]),
    ]
    assert by_kind([], []) == []
