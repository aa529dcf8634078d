"""Metrics on cases worked by hand, and sacrebleu's on known figures."""

import json
import os
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delia_ray.config import Metric
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics import METRICS, CorpusMetric, RowMetric, make_metric
from delia_ray.evaluate.metrics.structure import Plain, parse

DATA = Path(__file__).parents[3] / "shared" / "data"


def judge(output: str, reference: str, **settings: str) -> float:
    metric = make_metric(Metric(**settings))
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


@pytest.mark.parametrize("name", ["bleu", "chrf"])
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


SCORES = DATA / "meta" / "wmt21_first_half_scores.json"
SYSTEMS = ["is-en/Facebook-AI", "is-en/Online-G", "en-is/Mideind"]


@pytest.mark.skipif(not SCORES.exists(), reason="the WMT-21 files are not beside the repository")
@pytest.mark.parametrize("system", SYSTEMS)
def test_known_figures_of_wmt21(system: str) -> None:
    known = json.loads(SCORES.read_text())["scores"][system]
    pair, name = system.split("/")
    target = pair.split("-")[1]
    part = f"newstest2021.{pair}.first_half"
    wmt = DATA / "native" / "wmt21"
    outputs = _lines(wmt / "system-outputs" / f"{part}.hyp.{name}.{target}")
    references = _lines(wmt / f"{part}.ref.A.{target}")
    assert len(outputs) == len(references) == known["segments"]
    for metric in ("bleu", "chrf"):
        scorer = make_metric(Metric(name=metric))  # type: ignore[arg-type]
        assert isinstance(scorer, CorpusMetric)
        found = scorer.score(outputs, references, 100, 0)
        assert found.value == pytest.approx(known[metric], abs=1e-4)
        assert found.low < found.value < found.high


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
