"""Metrics, the places that count them, and the dashboard that shows them: one list."""

import io
import json
import re
from pathlib import Path

import pytest

from delia_ray.console import INSIDE_A_JOB, Screen
from delia_ray.metrics import METRICS, Meter

ROOT = Path(__file__).parent.parent


def test_every_metric_is_counted_somewhere() -> None:
    code = "".join(
        p.read_text() for p in (ROOT / "delia_ray").rglob("*.py") if p.name != "metrics.py"
    )
    counted = set(re.findall(r'meter\.(?:add|set)\(\s*f?"(delia_\w+)"', code))
    in_loop = re.findall(r'\("(\w+)", "\w+"\)', code.split("class _Metrics")[1].split("\n\n\n")[0])
    assert counted | {f"delia_{name}" for name in in_loop} == set(METRICS)


def test_the_dashboard_shows_every_metric() -> None:
    board = json.loads((ROOT / "cluster" / "grafana.json").read_text())
    shown = "".join(t["expr"] for panel in board["panels"] for t in panel["targets"])
    assert set(re.findall(r"ray_(delia_\w+)", shown)) == set(METRICS)
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
            assert '{run=~"$run"}' in target["expr"]


def test_kinds_are_named_as_prometheus_asks() -> None:
    for name, (kind, text, _) in METRICS.items():
        assert (kind == "counter") == name.endswith("_total"), name
        assert text


def test_without_ray_nothing_happens() -> None:
    Meter("run").add("delia_rows_total", 3)
    Meter("run").set("delia_loss", 1.0, arm="delia")


def test_lines_of_a_job_begin_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(text: str) -> str:
        stream = io.StringIO()
        Screen(stream, "mine").line(text)
        return stream.getvalue()

    monkeypatch.delenv(INSIDE_A_JOB, raising=False)
    assert said("one\n two") == "one\n two\n"
    monkeypatch.setenv(INSIDE_A_JOB, "{}")
    assert said("one\n two") == "mine one\nmine  two\n"


@pytest.mark.ray
def test_ray_takes_them(ray_local: None) -> None:
    meter = Meter("run")
    for name, (kind, _, labels) in METRICS.items():
        given = dict.fromkeys(labels, "x")
        (meter.add if kind == "counter" else meter.set)(name, 1.0, **given)
