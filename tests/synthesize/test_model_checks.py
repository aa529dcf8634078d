"""What the base model makes of a wording: its figures by hand, and what they are held against."""

import pytest
import torch

from delia_ray.config import Reword
from delia_ray.models import load_tokenizer, locate, prompt_ids
from delia_ray.scoring import scorer
from delia_ray.synthesize import model_checks
from delia_ray.synthesize.model_checks import Seen, Task, look

CHECKED = Reword().for_model("some/model")


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (Seen(0.0, -0.5, True, 0.9), None),
        (Seen(0.09, -0.1, True, 0.71), None),
        (Seen(0.11, -0.1, True, 0.9), "its answer follows less from it"),
        (Seen(0.05, 0.01, True, 0.9), "no better than without an instruction"),
        (Seen(0.05, 0.4, False, 0.9), None),  # nor is the original: this model cannot tell
        (Seen(-0.3, -0.5, True, 0.69), "far from the original"),
        (Seen(None, None, False, 0.9), None),
        (Seen(None, None, False, None), None),
    ],
)
def test_limits(seen: Seen, reason: str | None) -> None:
    assert seen.problem(CHECKED) == reason
    off = CHECKED.model_copy(update={"max_loss_increase": None, "min_nearness": None})
    assert seen.problem(off) is None


def _chat(text: str):
    return [{"role": "user", "content": text}]


def _task(original: str, wordings: list[str], rows: list[tuple[str, str]]) -> Task:
    return Task(
        original,
        tuple(wordings),
        tuple(_chat(content) for content, _ in rows),
        tuple(tuple(_chat(c + way) for c, _ in rows) for way in (original, *wordings)),
        tuple(answer for _, answer in rows),
    )


def test_figures_are_those_of_a_plain_loop() -> None:
    wordings = ["Turn the word round.", "Say where the river ends."]
    rows = [("sun\n\n", "nus"), ("rope\n\n", "epor")]
    task = _task("Reverse the word.", wordings, rows)
    others = ["Name a town.", "Add 1 and 2.", "Who is it?"]
    (found,) = look("miniature", [task], others)
    model = scorer("miniature").model
    tokenizer = load_tokenizer(locate("miniature"))

    def loss(text: str) -> float:
        total = 0.0
        for content, answer in rows:
            prompt = prompt_ids(tokenizer, _chat(content + text))
            ids = prompt + tokenizer(answer, add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            own = range(len(prompt), len(ids))
            total -= sum(float(logs[at - 1, ids[at]]) for at in own) / len(own)
        return total / len(rows)

    def state(text: str) -> torch.Tensor:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            return model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].mean(0)

    mean = torch.stack([state(text) for text in others]).mean(0)
    for text, seen in zip(wordings, found, strict=True):
        assert seen.loss == pytest.approx(loss(text) - loss(task.original), abs=1e-4)
        assert seen.bare == pytest.approx(loss(text) - loss(""), abs=1e-4)
        assert seen.helped == (loss(task.original) < loss(""))
        near = torch.cosine_similarity(state(text) - mean, state(task.original) - mean, dim=0)
        assert seen.nearness == pytest.approx(float(near), abs=1e-4)


def test_rows_too_long_to_look_at_count_for_nothing(monkeypatch) -> None:
    monkeypatch.setattr(model_checks, "PROMPT", 40)
    rows = [("word " * 50 + "\n\n", "drow"), ("sun\n\n", "nus")]
    (both,) = look("miniature", [_task("Reverse it.", ["Turn it."], rows)], ["Name a town."])
    (one,) = look("miniature", [_task("Reverse it.", ["Turn it."], rows[1:])], ["Name a town."])
    assert both[0].loss == pytest.approx(one[0].loss, abs=1e-5)
    (none,) = look("miniature", [_task("Reverse it.", ["Turn it."], rows[:1])], [])
    assert none == [Seen(None, None, False, None)]
