"""From outputs to ``scores.json`` and the terminal's table."""

import pytest

from delia_ray.config import Metric, RunConfig, Suite
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics import METRICS, BatchMetric
from delia_ray.evaluate.scoring import assemble, check_suite, labels, score_suite
from delia_ray.evaluate.table import cell, table

HOW = {"resamples": 200, "confidence": 0.95, "seed": 0}


def suite(name: str, *metrics: Metric) -> Suite:
    return Suite(name=name, path=name, metrics=list(metrics) or [Metric(name="exact_match")])


def config(*suites: Suite, summary: list[str]) -> RunConfig:
    evaluate = {"suites": [s.model_dump() for s in suites], "summary": summary, "resamples": 200}
    return RunConfig.model_validate({"evaluate": evaluate})


def test_a_failed_generation_is_wrong_even_where_nothing_was_right() -> None:
    found = score_suite(suite("s"), ["", "", "x"], ["", "", "x"], [True, False, False], **HOW)
    assert found.rows == [0.0, 1.0, 1.0]
    assert found.metrics["exact_match"]["value"] == pytest.approx(2 / 3)


def test_main_metric_is_first_and_the_only_one_row_by_row() -> None:
    both = suite("s", Metric(name="chrf"), Metric(name="exact_match"))
    found = score_suite(both, ["a b c"] * 4, ["a b d"] * 4, [False] * 4, **HOW)
    assert list(found.metrics) == ["chrf", "exact_match"]
    assert found.rows is None
    assert set(found.signatures) == {"chrf"}
    assert set(found.metrics["chrf"]) == {"value", "low", "high", "n"}
    other = suite("s", Metric(name="format_validity"), Metric(name="exact_match"))
    assert score_suite(other, ["[1]"], ["[2]"], [False], **HOW).rows == [1.0]


def test_labels_tell_fields_apart_where_needed() -> None:
    one = Metric(name="field_accuracy", field="a")
    two = Metric(name="field_accuracy", field="b")
    assert labels(suite("s", one)) == ["field_accuracy"]
    assert labels(suite("s", one, two)) == ["field_accuracy:a", "field_accuracy:b"]


def test_labels_name_the_options_that_make_another_measure() -> None:
    assert labels(suite("s", Metric(name="bleu", tokenize="zh"), Metric(name="bleu"))) == [
        "bleu:zh", "bleu",
    ]  # fmt: skip
    assert labels(suite("s", Metric(name="constraints", loose=True))) == ["constraints:loose"]
    both = [
        Metric(name="accuracy", pattern="(a)"), Metric(name="accuracy", labels=["a"]),
        Metric(name="accuracy"), Metric(name="accuracy"),
    ]  # fmt: skip
    assert labels(suite("s", *both)) == [
        "accuracy:(a)", "accuracy:['a']", "accuracy#1", "accuracy#2",
    ]  # fmt: skip


def test_failed_generations_and_what_they_cost() -> None:
    metrics = [
        Metric(name="exact_match"), Metric(name="repetition"), Metric(name="length"),
        Metric(name="f1"),
    ]  # fmt: skip
    found = score_suite(suite("s", *metrics), ["a b", "a"], ["a b", "a"], [False, True], **HOW)
    values = {label: figures["value"] for label, figures in found.metrics.items()}
    assert values == {"exact_match": 0.5, "repetition": 0.5, "length": 1.0, "f1": 0.5}
    assert found.signatures == {"f1": "macro-f1|confidence:0.95|bs:200|seed:0"}
    wide = score_suite(
        suite("s", Metric(name="f1")), ["a", "b"] * 20, ["a"] * 20 + ["b"] * 20, [False] * 40,
        resamples=200, confidence=0.5, seed=0,
    )  # fmt: skip
    assert "confidence:0.5" in wide.signatures["f1"]


class Longer(BatchMetric):
    """A metric that sees the prompt: is the output longer than the last user turn?"""

    def score_all(self, outputs, references, sources):
        assert sources is not None
        return [float(len(o) > len(s)) for o, s in zip(outputs, sources, strict=True)]


def test_a_metric_may_see_the_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "exact_match", Longer)
    prompts = [
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]
        for text in ("ab", "abcd")
    ]
    found = score_suite(suite("s"), ["abc"] * 2, ["x"] * 2, [False] * 2, prompts=prompts, **HOW)
    assert found.rows == [1.0, 0.0]


def test_learned_metrics_fail_early_under_the_suites_name() -> None:
    one = suite("s", Metric(name="comet", checkpoint="/nowhere/model.ckpt"))
    with pytest.raises(UserError, match=r"^suite s: comet: "):
        check_suite(one, ["a"], [[{"role": "user", "content": "b"}]])


def test_suites_that_cannot_be_scored_fail_early() -> None:
    with pytest.raises(UserError, match="no rows"):
        check_suite(suite("s"), [])
    with pytest.raises(UserError, match="1 of 2 rows of s have no reference"):
        check_suite(suite("s"), ["a", None])
    with pytest.raises(UserError, match="suite s: field_accuracy"):
        check_suite(suite("s", Metric(name="field_accuracy", field="x")), ["a"])


def scored(conf: RunConfig, right: dict[str, list[int]]):
    """Scores in which ``arm`` has the given rows right, in every suite."""
    n = len(next(iter(right.values())))
    return {
        s.name: {
            arm: score_suite(
                s, ["y" if hit else "n" for hit in hits], ["y"] * n, [False] * n, **HOW
            )
            for arm, hits in right.items()
        }
        for s in conf.evaluate.suites
    }


def test_assemble_and_table() -> None:
    conf = config(
        suite("one"), suite("two"), suite("three", Metric(name="chrf")),
        summary=["one", "two", "three"],
    )  # fmt: skip
    right = {"base": [0] * 8, "common": [1, 0] * 4, "delia": [1, 1, 1, 0] * 2}
    scores = assemble(conf, scored(conf, right))
    assert list(scores["suites"]) == ["one", "two", "three", "mean"]
    assert scores["mean_of"] == ["one", "two"]  # chrF has another scale
    assert scores["suites"]["mean"]["delia"]["exact_match"]["value"] == 0.75
    assert scores["suites"]["mean"]["delia"]["exact_match"]["n"] == 16
    assert scores["baseline"] == "common"
    assert set(scores["differences"]) == {"one", "two", "mean"}
    gap = scores["differences"]["mean"]["delia"]["exact_match"]
    assert set(gap) == {"value", "low", "high"}
    assert gap["value"] == 0.25
    assert list(scores["differences"]["one"]) == ["delia"]
    assert set(scores["signatures"]) == {"chrf"}
    rows = table(scores, scores["arms"])
    assert rows[0] == ["suite", "metric", "base", "common", "delia"]
    assert rows[1][:3] == ["one", "exact_match", "0.00 [0.00, 0.00]"]
    assert rows[1][3].startswith("0.50 [")
    assert rows[3][2].count(".") == 3
    assert rows[3][1] == "chrf"
    assert rows[-1][0] == "mean"
    assert len(rows) == 5


def test_without_common_the_base_is_the_baseline() -> None:
    conf = RunConfig.model_validate(
        {"evaluate": {"suites": [suite("s").model_dump()], "summary": []}, "arms": {"mine": {}}}
    )
    scores = assemble(conf, scored(conf, {"base": [0, 1], "mine": [1, 1]}))
    assert scores["baseline"] == "base"
    assert scores["differences"]["s"]["mine"]["exact_match"]["value"] == 0.5
    assert list(scores["suites"]) == ["s"]


def test_mixed_main_metrics_have_a_name_of_their_own() -> None:
    conf = config(suite("a"), suite("b", Metric(name="format_validity")), summary=["a", "b"])
    scores = assemble(conf, scored(conf, {a: [0, 1] for a in ("base", "common", "delia")}))
    assert list(scores["suites"]["mean"]["base"]) == ["main metric"]
    assert table(scores, ["base"])[-1][1] == "main metric"


def test_every_metric_has_a_row_on_demand() -> None:
    conf = config(suite("a", Metric(name="exact_match"), Metric(name="bleu")), summary=[])
    scores = assemble(conf, scored(conf, {a: [0, 1] for a in ("base", "common", "delia")}))
    assert [r[:2] for r in table(scores, ["base"], every_metric=True)[1:]] == [
        ["a", "exact_match"], ["", "bleu"],
    ]  # fmt: skip


def test_other_scales_stay_out_of_the_mean_and_say_so() -> None:
    conf = config(
        suite("a", Metric(name="exact_match"), Metric(name="length"), Metric(name="ter")),
        suite("b", Metric(name="ter")),
        summary=["a", "b"],
    )
    scores = assemble(conf, scored(conf, {a: [0, 1] for a in ("base", "common", "delia")}))
    assert scores["mean_of"] == ["a"]
    assert scores["scales"] == {"exact_match": 1.0, "length": None, "ter": 100.0}
    assert scores["lower_is_better"] == ["length", "ter"]
    rows = table(scores, ["base"], every_metric=True)
    assert [r[1] for r in rows[1:4]] == [
        "exact_match", "length (less is better)", "ter (less is better)",
    ]  # fmt: skip
    assert rows[2][2] == "1.0 [1.0, 1.0]"


def test_cells() -> None:
    assert cell({"value": 44.31, "low": 42.98, "high": 45.7}, None) == "44.3 [43.0, 45.7]"
    assert cell({"value": 0.984, "low": 0.94, "high": 1}, 1.0) == "0.98 [0.94, 1.00]"
    assert cell({"value": 44.31, "low": 42.98, "high": 45.7}, 100.0) == "44.3 [43.0, 45.7]"
