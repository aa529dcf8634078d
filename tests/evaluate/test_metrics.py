"""Metrics on cases worked by hand, and sacrebleu's on known figures."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delia_ray.config import Metric
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics import METRICS, CorpusMetric, CorpusScore, RowMetric, make_metric
from delia_ray.evaluate.metrics.comet import Comet
from delia_ray.evaluate.metrics.structure import Plain, parse
from delia_ray.ifeval import encode


def judge(output: str, reference: str, **settings: object) -> float:
    metric = make_metric(Metric.model_validate(settings))
    assert isinstance(metric, RowMetric)
    return metric.score(output, reference)


def test_every_name_of_the_config_has_a_class() -> None:
    assert set(METRICS) == set(get_args(Metric.model_fields["name"].annotation))


@pytest.mark.parametrize(
    ("output", "reference", "score"),
    [
        ("a b", "a b", 1),
        (" a b\n", "a b", 1),
        ("a  b", "a b", 0),
        ("A b", "a b", 0),
        ("a b.", "a b", 0),
        ("", "", 1),
    ],
)
def test_exact_match(output: str, reference: str, score: float) -> None:
    assert judge(output, reference, name="exact_match") == score


@pytest.mark.parametrize(
    ("output", "reference", "score"),
    [
        ('{"answer": "x"}', '{"answer": "completely other"}', 1),
        ("{'answer': 'x'}", '{"answer": "y"}', 1),  # a Python literal is as good as JSON
        ("{'thought': \"it's\", 'label': 'no'}", "{'label': 'yes', 'thought': 'so'}", 1),
        ('{"answer": "x", "more": 1}', '{"answer": "y"}', 0),
        ('{"Answer": "x"}', '{"answer": "y"}', 0),
        ('{"answer": "x"', '{"answer": "y"}', 0),  # cut off
        ('Sure! {"answer": "x"}', '{"answer": "y"}', 0),
        ("[1, 2]", "[3]", 1),
        ("[1, 2]", '{"answer": 1}', 0),
        ("(1, 2)", "[1, 2]", 0),
        ("red fish", "old road", 1),  # plain where plain was asked for
        ('{"answer": "red fish"}', "old road", 0),  # formatted though it was forbidden
        ("3", "4.5", 1),
        ("true", "1", 0),
        ("", "old road", 1),
    ],
)
def test_format_validity(output: str, reference: str, score: float) -> None:
    assert judge(output, reference, name="format_validity") == score


SCHEMA = {
    "type": "object", "required": ["label"],
    "properties": {"label": {"enum": ["yes", "no"]}, "n": {"type": "integer"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "output", "score"),
    [
        ({"form": "json"}, ' {"a": null}\n', 1),
        ({"form": "json"}, "3", 1),
        ({"form": "json"}, "{'a': 1}", 0),
        ({"form": "json"}, '{"a": NaN}', 0),
        ({"form": "json"}, '```json\n{"a": 1}\n```', 0),
        ({"form": "json"}, "", 0),
        ({"form": "python"}, "{'a': (1, None)}", 1),
        ({"form": "python"}, '{"a": null}', 0),
        ({"form": "python"}, "print('a')", 0),
        ({"form": "regex", "pattern": r"(yes|no)\."}, " yes.\n", 1),
        ({"form": "regex", "pattern": r"(yes|no)\."}, "yes. No", 0),
        ({"form": "json_schema", "json_schema": SCHEMA}, '{"label": "no", "n": 2}', 1),
        ({"form": "json_schema", "json_schema": SCHEMA}, '{"label": "maybe"}', 0),
        ({"form": "json_schema", "json_schema": SCHEMA}, '{"n": 2}', 0),
        ({"form": "json_schema", "json_schema": SCHEMA}, '{"label": "no", "n": "2"}', 0),
        ({"form": "json_schema", "json_schema": SCHEMA}, "{'label': 'no'}", 0),
        ({"form": "json_schema", "json_schema": {"minimum": 3}}, "3", 1),
        ({"form": "json_schema", "json_schema": {"minimum": 3}}, "2", 0),
    ],
)
def test_forms(settings: dict, output: str, score: float) -> None:
    assert judge(output, "whatever", name="format_validity", **settings) == score


def test_a_broken_schema_fails_early() -> None:
    with pytest.raises(UserError, match=r"json_schema is no JSON schema: .thing. is not valid"):
        judge("1", "1", name="format_validity", form="json_schema", json_schema={"type": "thing"})


RED_FISH = [
    "red fish", '{"answer": "red fish"}', "{'answer': ['red', 'fish']}", "[red, fish]",
    '["red", "fish"]', '"red fish"', "<answer>red fish</answer>", "- red\n- fish",
    "* **red**\n* *fish*", "1. red\n2. fish", "Red fish.", "```json\n[\"red\", \"fish\"]\n```",
    '{"answer": "red fish', "('red', 'fish')", '{"a": {"b": "red"}, "c": "fish"}', "“red fish”",
]  # fmt: skip


@pytest.mark.parametrize("reference", RED_FISH)
def test_content_is_the_same_in_every_format(reference: str) -> None:
    assert [judge(said, reference, name="content_match") for said in RED_FISH] == [1] * len(
        RED_FISH
    )


@pytest.mark.parametrize(
    ("output", "reference", "score"),
    [
        ("fish red", "red fish", 0),
        ("red", "red fish", 0),
        ("Sure: red fish", "red fish", 0),
        ("redfish", "red fish", 0),
        ('{"answer": "red bird"}', '{"answer": "red fish"}', 0),
        ("{'b': 2, 'a': 1}", '{"a": 1, "b": 2}', 1),  # the same dict
        ("{'b': 1, 'a': 2}", '{"a": 1, "b": 2}', 0),
        ("2, 1", '{"a": 1, "b": 2}', 0),
        ("1, 2", '{"a": 1, "b": 2}', 1),
        ("-5", "5", 0),
        ('{"n": -5.0}', "-5", 1),
        ("- 5", "5", 1),  # an item of a list
        ("True", "true", 1),
        ("null", "None", 1),
        ("", "red", 0),
        (":-)", ":-)", 1),
        (":-(", ":-)", 0),
        ("", "", 1),
        ("[" * 3000 + "1" + "]" * 3000, "1", None),  # only must not fail
    ],
)
def test_content_match(output: str, reference: str, score: float | None) -> None:
    found = judge(output, reference, name="content_match")
    assert score is None or found == score


@given(st.text(max_size=60), st.text(max_size=20))
def test_content_never_fails(output: str, reference: str) -> None:
    assert judge(reference, reference, name="content_match") == 1
    judge(output, reference, name="content_match")


@pytest.mark.parametrize(
    ("settings", "output", "reference", "score"),
    [
        ({}, " yes\n", "yes", 1),
        ({}, "Yes", "yes", 0),
        ({"lowercase": True}, "Yes", "yes", 1),
        ({"labels": ["yes", "no"]}, "maybe", "yes", 0),
        ({"labels": ["Yes", "No"], "lowercase": True}, "YES", "yes", 1),
        ({"field": "label"}, "{'label': 'yes'}", "{'label': 'yes', 'why': 'x'}", 1),
        ({"field": "label"}, "{'label': True}", '{"label": true}', 1),
        ({"field": "label"}, "{'label': ['yes']}", "{'label': 'yes'}", 0),
        ({"field": "label"}, "yes", "{'label': 'yes'}", 0),
        ({"field": "label", "labels": ["yes", "no"]}, "{'label': 'yes'}", "yes", 1),
        ({"pattern": r"answer is (\w+)"}, "Well, the answer is no, not yes.", "no", 1),
        ({"pattern": r"answer is (\w+)"}, "The answer is no.", "The answer is no!", 1),
        ({"pattern": r"answer is (\w+)"}, "no", "no", 0),
        ({"pattern": r"is(?: (yes|no))?"}, "it is", "no", 0),
    ],
)
def test_accuracy(settings: dict, output: str, reference: str, score: float) -> None:
    assert judge(output, reference, name="accuracy", **settings) == score


def test_labels_must_be_read_out_of_the_references() -> None:
    for settings in ({"field": "label"}, {"labels": ["yes", "no"]}):
        for name in ("accuracy", "f1"):
            metric = make_metric(Metric.model_validate({"name": name, **settings}))
            with pytest.raises(UserError, match=rf"^{name}: no label .* 1 of 2 .*row 2: 'maybe'"):
                metric.check(["{'label': 'yes'}" if "field" in settings else "yes", "maybe"])


def f1(outputs: list[str], references: list[str], **settings: object) -> CorpusScore:
    metric = make_metric(Metric.model_validate({"name": "f1", **settings}))
    assert isinstance(metric, CorpusMetric)
    return metric.score(outputs, references, 500, 3)


def test_f1_by_hand() -> None:
    right = ["yes", "yes", "yes", "no", "no"]
    # yes: TP 2, FP 1, FN 1; no: TP 1, FP 1, FN 1.
    assert f1(["yes", "yes", "no", "no", "yes"], right).value == pytest.approx((2 / 3 + 1 / 2) / 2)
    # "hm" is no prediction of a class: yes: TP 2, FN 1; no: TP 2.
    said = ["yes", "yes", "hm", "no", "no"]
    assert f1(said, right).value == pytest.approx((4 / 5 + 1) / 2)
    assert f1(said, right, labels=["yes", "no"]).value == pytest.approx((4 / 5 + 1) / 2)
    # A class that is neither asked for nor said has no F1; said, it has 0.
    assert f1(said, right, labels=["yes", "no", "other"]).value == pytest.approx((4 / 5 + 1) / 2)
    assert f1(said, right, labels=["yes", "no", "hm"]).value == pytest.approx((4 / 5 + 1) / 3)
    assert f1([""] * 5, right).value == 0
    assert f1(right, right) == CorpusScore(1.0, 1.0, 1.0, "macro-f1|confidence:0.95|bs:500|seed:3")


def test_f1_interval() -> None:
    rng = np.random.default_rng(0)
    right = rng.choice(["a", "b", "c"], 300).tolist()
    said = [r if rng.random() < 0.7 else "a" for r in right]
    found = f1(said, right)
    assert found == f1(said, right)
    assert 0.6 < found.low < found.value < found.high < 0.9
    assert 0.06 < found.high - found.low < 0.16  # about 4 standard errors of a rate over 300
    with pytest.raises(ValueError, match="at least one row"):
        f1([], [])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcx")), min_size=1))
def test_f1_agrees_with_its_definition(pairs: list[tuple[str, str]]) -> None:
    scores = []
    for label in "abc":
        tp = sum(t == p == label for t, p in pairs)
        errors = sum((t == label) != (p == label) for t, p in pairs)
        if tp or errors:
            scores.append(2 * tp / (2 * tp + errors))
    found = f1([p for _, p in pairs], [t for t, _ in pairs], labels=["a", "b", "c"])
    assert found.value == pytest.approx(sum(scores) / len(scores))


TWO = encode(["punctuation:no_comma", "keywords:existence"], [{}, {"keywords": ["fish"]}])
ONE = encode(["change_case:english_lowercase"], [{}])


def test_constraints_by_prompt_and_by_instruction() -> None:
    assert judge("A fish", TWO, name="constraints") == 1
    assert judge("A fish, red", TWO, name="constraints") == 0
    assert judge("Sure!\na fish", ONE, name="constraints") == 0
    assert judge("Sure!\na fish", ONE, name="constraints", loose=True) == 1

    outputs, references = ["A fish, red", "", "a fish", "Sure!\na fish"], [TWO, TWO, ONE, ONE]
    for loose, share in ((False, 2 / 6), (True, 3 / 6)):
        metric = make_metric(Metric(name="constraints_per_instruction", loose=loose))
        assert isinstance(metric, CorpusMetric)
        found = metric.score(outputs, references, 500, 0)
        assert found.value == pytest.approx(share)
        assert 0 <= found.low < share < found.high <= 1


def test_constraints_need_rows_of_ifeval() -> None:
    for name in ("constraints", "constraints_per_instruction"):
        metric = make_metric(Metric(name=name))  # type: ignore[arg-type]
        metric.check([ONE, TWO])
        with pytest.raises(UserError, match=r"row 2 holds no constraints .*format: ifeval"):
            metric.check([ONE, "yes"])


def test_length_and_repetition() -> None:
    assert judge(" one  two\n", "x", name="length") == 2
    assert judge(" one  two\n", "x", name="length", unit="characters") == 8
    assert judge("", "x", name="length") == 0
    assert METRICS["length"].scale is None
    assert judge("go on and on " * 12, "x", name="repetition") == pytest.approx(1 - 4 / 45)
    assert judge("short short", "x", name="repetition") == 0
    assert not METRICS["repetition"].higher_is_better


@pytest.mark.parametrize(
    ("name", "package", "kind"), [("bleurt", "bleurt", "folder"), ("comet", "comet", "file")]
)
def test_learned_metrics_fail_before_any_generation(
    name: str, package: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = make_metric(Metric.model_validate({"name": name, "checkpoint": "nowhere"}))
    if find_spec(package) is None:
        with pytest.raises(UserError, match=f"^{name}: the package {package} is not installed"):
            metric.check(["x"], ["y"])
    (tmp_path / f"{package}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=f"^{name}: checkpoint=nowhere is not a {kind}"):
        metric.check(["x"], ["y"])


def test_the_source_text_is_found_in_the_prompt() -> None:
    def texts(sources: list[str], **settings: object) -> list[str]:
        metric = Comet(Metric.model_validate({"name": "comet", "checkpoint": "x", **settings}))
        return metric.texts(sources)

    prompts = ["Translate.\n\nHallo\nWelt", "Translate.\n\nJa"]
    assert texts(prompts) == prompts
    assert texts(prompts, pattern=r"\n\n(.*)") == ["Hallo\nWelt", "Ja"]
    with pytest.raises(UserError, match=r"finds no source text in row 2: 'Ja'"):
        texts([prompts[0], "Ja"], pattern=r"\n\n(.*)")


@pytest.mark.parametrize(
    ("output", "reference", "score"),
    [
        ("{'thought': 'x', 'label': 'yes'}", "{'thought': 'y', 'label': 'yes'}", 1),
        ('{"label": " yes "}', "{'thought': 'y', 'label': 'yes'}", 1),
        ("{'label': 'no'}", "{'label': 'yes'}", 0),
        ("{'Label': 'yes'}", "{'label': 'yes'}", 0),
        ("label: yes", "{'label': 'yes'}", 0),
        ("{'label': True}", "{'label': 1}", 0),
        ('{"label": 1.0}', "{'label': 1}", 1),
        ('["label"]', "{'label': 1}", 0),
    ],
)
def test_field_accuracy(output: str, reference: str, score: float) -> None:
    assert judge(output, reference, name="field_accuracy", field="label") == score


def test_field_accuracy_needs_fitting_references() -> None:
    metric = make_metric(Metric(name="field_accuracy", field="label"))
    assert isinstance(metric, RowMetric)
    with pytest.raises(UserError, match=r"1 of 2 reference answers.*'label'.*row 2"):
        metric.check(["{'label': 1}", "yes"])


@given(st.text(max_size=60))
def test_parsing_never_fails(text: str) -> None:
    parse(text)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "1" * 5000, "{[]: 1}", "\x00", "'\\d'", "{1: 2, **{}}", "__import__('os')"],
    ids=range(7),
)
def test_parsing_survives_what_models_write(text: str) -> None:
    assert parse(text) is Plain or text == "'\\d'"


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=8))))
def test_json_and_python_literals_parse_alike(value: dict[str, object]) -> None:
    assert parse(json.dumps(value)) == parse(repr(value)) == value


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++"])
def test_corpus_metrics(name: str) -> None:
    metric = make_metric(Metric(name=name))  # type: ignore[arg-type]
    assert isinstance(metric, CorpusMetric)
    right = ["the cat sat on the mat", "a dog ran away now", "birds fly high"] * 10
    other = ["the cat sat on a mat", "a dog ran off now", "birds fly high"] * 10
    best = metric.score(right, right, 100, 0)
    assert [best.value, best.low, best.high] == pytest.approx([100] * 3)
    some = metric.score(other, right, 200, 7)
    assert 0 < some.low < some.value < some.high < 100
    assert "seed:7" in some.signature
    assert "bs:200" in some.signature
    assert some == metric.score(other, right, 200, 7)
    assert some.low != metric.score(other, right, 200, 8).low
    assert metric.score(["zzz"], ["a"], 100, 0).value == 0
    mixed = metric.score(["a b c d", "zzz"], ["a b c d", "yyy"], 100, 0)  # some resamples are 0
    assert 0 <= mixed.low <= mixed.value <= mixed.high <= 100
    assert "SACREBLEU_SEED" not in os.environ
    with pytest.raises(ValueError, match="at least one row"):
        metric.score([], [], 100, 0)


def test_ter() -> None:
    metric = make_metric(Metric(name="ter"))
    assert isinstance(metric, CorpusMetric)
    assert not metric.higher_is_better
    said = ["the cat sat on a mat", "A dog ran off"]
    right = ["the cat sat on the mat", "a dog ran away now"]
    # One word of six is wrong; of five, one is wrong and one is missing; case is free.
    assert metric.score(said, right, 100, 0).value == pytest.approx(100 * 3 / 11)
    assert metric.score(["b a"], ["a b"], 100, 0).value == pytest.approx(50)  # one shift
    assert metric.score(right, right, 100, 0).value == 0
    long = metric.score(["a b c d e f", "x"], ["a", "x"], 200, 0)
    assert long.value == pytest.approx(100 * 5 / 2)
    assert long.high > 250  # not cut off at 100
    assert "seed:0" in long.signature


def test_options_of_sacrebleu() -> None:
    def score(**settings: object) -> CorpusScore:
        metric = make_metric(Metric.model_validate(settings))
        assert isinstance(metric, CorpusMetric)
        metric.check([])
        return metric.score(["The Cat sat here now"], ["the cat sat here now"], 100, 0)

    for name in ("bleu", "chrf", "chrf++"):
        assert score(name=name).value < 100
        assert score(name=name, lowercase=True).value == pytest.approx(100)
    assert score(name="bleu", lowercase=True).signature != score(name="bleu").signature
    assert "tok:char" in score(name="bleu", tokenize="char").signature
    assert "nw:2" in score(name="chrf++").signature
    assert "nw:0" in score(name="chrf").signature


def test_tokenizers_are_those_of_sacrebleu() -> None:
    from sacrebleu.metrics.bleu import BLEU

    assert set(get_args(Metric.model_fields["tokenize"].annotation)) == set(BLEU.TOKENIZERS)


@pytest.mark.skipif(find_spec("MeCab") is not None, reason="mecab is installed")
def test_a_tokenizer_that_is_not_there_fails_early() -> None:
    with pytest.raises(UserError, match="tokenize=ja-mecab cannot be loaded"):
        make_metric(Metric(name="bleu", tokenize="ja-mecab")).check([])


SYSTEMS = ["is-en/Facebook-AI", "is-en/Online-G", "en-is/Mideind"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_known_figures_of_wmt21(system: str, data: Path) -> None:
    """To the last digit given."""
    known = json.loads((data / "meta" / "wmt21_first_half_scores.json").read_text())["scores"]
    pair, name = system.split("/")
    target = pair.split("-")[1]
    part = f"newstest2021.{pair}.first_half"
    wmt = data / "native" / "wmt21"
    outputs = _lines(wmt / "system-outputs" / f"{part}.hyp.{name}.{target}")
    references = _lines(wmt / f"{part}.ref.A.{target}")
    assert len(outputs) == len(references) == known[system]["segments"]
    signatures = {"bleu": "case:mixed|eff:no|tok:13a|smooth:exp", "chrf": "nc:6|nw:0|space:no"}
    for metric, signature in signatures.items():
        scorer = make_metric(Metric(name=metric))  # type: ignore[arg-type]
        assert isinstance(scorer, CorpusMetric)
        found = scorer.score(outputs, references, 100, 0)
        assert round(found.value, 4) == known[system][metric]
        assert found.low < found.value < found.high
        assert signature in found.signature


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
