"""Other systems' outputs, scored by the command as users give it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.evaluate.systems import read_systems, systems_digest

SYSTEMS = {"is-en/Facebook-AI": "en", "is-en/Online-G": "en", "en-is/Mideind": "is"}


@pytest.mark.ray
def test_the_figures_of_wmt21(data: Path, tmp_path: Path) -> None:
    """The given figures, to the last digit, with sacrebleu's signature."""
    given = json.loads((data / "meta" / "wmt21_first_half_scores.json").read_text())
    metrics = [{"name": "bleu"}, {"name": "chrf"}]
    suites, systems = [], {}
    for pair in ("is-en", "en-is"):
        path = data / "messages" / f"wmt21_newstest2021.{pair}.first_half.jsonl"
        suites.append({"name": pair, "path": str(path), "metrics": metrics})
    for name, language in SYSTEMS.items():
        pair, _, system = name.partition("/")
        file = f"newstest2021.{pair}.first_half.hyp.{system}.{language}"
        systems[system] = {pair: str(data / "native" / "wmt21" / "system-outputs" / file)}
    evaluate = {"base": False, "suites": suites, "systems": systems, "summary": [],
                "resamples": 100}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "delia_ray.cli", "evaluate", "name=wmt", f"storage={tmp_path}",
         "arms={}", "corpus=[{path: corpus, format: miniature, rows: 8}]",
         f"evaluate={json.dumps(evaluate)}"],
        capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (tmp_path / "wmt" / "evaluate").glob("*/scores.json")
    scores = json.loads(file.read_text())
    assert scores["arms"] == [name.partition("/")[2] for name in SYSTEMS]
    for name, wanted in given["scores"].items():
        pair, _, system = name.partition("/")
        found = scores["suites"][pair][system]
        assert found["bleu"]["n"] == wanted["segments"]
        assert round(found["bleu"]["value"], 4) == wanted["bleu"]
        assert round(found["chrf"]["value"], 4) == wanted["chrf"]
    assert scores["signatures"]["bleu"].startswith("nrefs:1|")
    version = given["tool"].split()[1].rstrip(",")
    assert all(text.endswith(f"version:{version}") for text in scores["signatures"].values())
    assert "Facebook-AI" in done.stdout
    assert "–" in done.stdout  # no system was given both suites


def _config(**systems: dict[str, str]) -> RunConfig:
    suites = [{"name": "s", "path": "x"}]
    return RunConfig.model_validate(
        {"arms": {}, "evaluate": {"suites": suites, "systems": systems, "summary": []}}
    )


def test_what_a_file_may_hold(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("één\r\n\r\nthree".encode())
    (tmp_path / "b.jsonl").write_text('"one"\n{"output": "two"}\n{"output": 3}\n')
    config = _config(a={"s": str(tmp_path / "a.txt")}, b={"s": str(tmp_path / "b.jsonl")})
    found = read_systems(config, {"s": 3})
    assert [found["a"][f"s/{i}"].text for i in range(3)] == ["één", "", "three"]
    assert [found["b"][f"s/{i}"].text for i in range(3)] == ["one", "two", "3"]


def test_a_wrong_number_of_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    config = _config(a={"s": str(tmp_path / "a.txt")})
    with pytest.raises(UserError, match=r"evaluate\.systems\.a\.s: .* has 2 lines.* 3 rows"):
        read_systems(config, {"s": 3})


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one\n")
    files = {"a": {"s": str(file)}}
    before = systems_digest(files)
    file.write_text("two\n")
    assert systems_digest(files) != before
    with pytest.raises(UserError, match="cannot read"):
        systems_digest({"a": {"s": str(tmp_path / "none.txt")}})


def test_names_are_checked() -> None:
    with pytest.raises(ValueError, match="'base' is a model's name"):
        _config(base={"s": "x"})
    with pytest.raises(ValueError, match=r"names \['t'\]"):
        _config(a={"t": "x"})
    with pytest.raises(ValueError, match="nothing to evaluate"):
        RunConfig.model_validate({"arms": {}, "evaluate": {"base": False}})
