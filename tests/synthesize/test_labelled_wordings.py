"""The checks on wordings that real models made, each labelled by hand: does it ask for the same?

``wordings.jsonl`` holds them, with what the model that made them makes of them: where ``row`` is
given, the original is the instruction of that row of the paper's training set, which is not part
of this project. The rules were written with most of them in sight; the last 29, Qwen's wordings of
the demo's instructions, came after.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from delia_ray.config import Reword, Rules
from delia_ray.rewording import rewording_problem, split_instruction
from delia_ray.synthesize.model_checks import Seen

CHECKED = Reword().for_model("some/model")
TOKENS = {"<sep>": "a JSON object"}
LABELLED = [
    json.loads(line)
    for line in (Path(__file__).parent / "wordings.jsonl").read_text("utf-8").splitlines()
]


def _is_kept(labelled: dict[str, Any], original: str) -> bool:
    rules = rewording_problem(
        labelled["wording"], "stop", original, "xxxx", [], TOKENS, [], Rules(), CHECKED
    )
    figures = ("loss_increase", "loss_to_none", "original_helps", "nearness")
    return rules is None and Seen(*(labelled[f] for f in figures)).problem(CHECKED) is None


def _tell(rows: list[tuple[dict[str, Any], str]]) -> tuple[float, float]:
    """(precision, recall) of what is kept."""
    found = Counter((_is_kept(row, original), row["good"]) for row, original in rows)
    right = found[True, True]
    return right / (right + found[True, False]), right / (right + found[False, True])


def test_there_are_enough_of_both_kinds() -> None:
    assert len(LABELLED) >= 200
    models = {row["model"] for row in LABELLED}
    for model in models:
        labels = Counter(row["good"] for row in LABELLED if row["model"] == model)
        assert min(labels[True], labels[False]) >= 10
    assert len(models) == 2


def test_of_the_demos_instructions() -> None:
    rows = [(row, row["instruction"]) for row in LABELLED if "instruction" in row]
    precision, recall = _tell(rows)
    assert precision >= 0.95
    assert recall >= 0.6


@pytest.mark.parametrize("model", ["SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct"])
def test_of_the_papers_rows(data: Path, model: str) -> None:
    path = data / "native" / "delia" / "train_dataset.jsonl"
    lines = [line for line in path.read_text("utf-8").splitlines() if line]
    told = [json.loads(line)["messages"][-2]["content"] for line in lines]
    rows = [
        (row, split_instruction(told[row["row"]], "last_paragraph")[1])
        for row in LABELLED
        if row["model"] == model and "row" in row
    ]
    precision, recall = _tell(rows)
    assert precision >= 0.95
    assert recall >= 0.6
