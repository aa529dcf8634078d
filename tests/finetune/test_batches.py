"""Steps as tensors: whoever computes them, a step means the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from delia_ray.finetune.batches import IGNORED, Steps, token_losses
from delia_ray.records import SEQUENCE, conform


def _sequences(count: int = 40):
    random = np.random.default_rng(0)
    rows = []
    for i in range(count):
        length = int(random.integers(4, 20))
        answer = int(random.integers(1, length - 1))
        rows.append(
            {
                "id": str(i), "source": "s", "variant": 0,
                "kind": "downstream" if i < 8 else "diverse",
                "input_ids": random.integers(1, 200, length).tolist(),
                "supervised": [j >= length - answer for j in range(length)],
            }
        )  # fmt: skip
    return conform(rows, SEQUENCE)


@pytest.fixture(scope="module")
def steps() -> Steps:
    return Steps(_sequences(), np.random.default_rng(1).permutation(40), batch_size=10)


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_model):
    from transformers import AutoModelForCausalLM

    path = make_model(Path(tmp_path_factory.mktemp("m")))
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


@pytest.mark.parametrize("world", [1, 2, 3, 8, 12])
@pytest.mark.parametrize("size", [1, 4, 10])
def test_every_row_is_computed_once(steps: Steps, world: int, size: int) -> None:
    for step in range(len(steps)):
        shares = [steps.micros(step, rank, world, size) for rank in range(world)]
        assert len({len(s) for s in shares}) == 1, "ranks must make equally many passes"
        micros = [m for share in shares for m in share]
        assert all(len(m.input_ids) <= size for m in micros)
        counted = sum(int((m.labels != IGNORED).sum()) for m in micros)
        assert counted == steps.supervised_tokens(step)
        ids = sorted(
            tuple(row[mask.bool()].tolist())
            for m in micros
            if (m.labels != IGNORED).any()
            for row, mask in zip(m.input_ids, m.attention_mask, strict=True)
        )
        assert ids == sorted(tuple(steps.ids[int(r)].as_py()) for r in steps.rows(step))


def test_the_loss_is_the_mean_over_supervised_tokens(steps: Steps, model) -> None:
    """Against transformers' own loss, one unpadded row at a time."""
    expected = 0.0
    for row in steps.rows(0):
        ids = torch.tensor([steps.ids[int(row)].as_py()])
        labels = torch.where(torch.tensor([steps.masks[int(row)].as_py()]), ids, IGNORED)
        with torch.no_grad():
            expected += model(input_ids=ids, labels=labels).loss.item() * int(steps.supervised[row])
    for world, size in ((1, 10), (2, 3), (3, 2)):
        micros = [m for r in range(world) for m in steps.micros(0, r, world, size)]
        with torch.no_grad():
            sums = [torch.stack(token_losses(model, m)).sum() for m in micros]
        assert float(sum(sums)) == pytest.approx(expected, rel=1e-5)


def test_gradients_do_not_depend_on_the_split(steps: Steps, model) -> None:
    def gradient(world: int, size: int) -> torch.Tensor:
        model.zero_grad()
        for rank in range(world):
            for micro in steps.micros(1, rank, world, size):
                (sum(token_losses(model, micro)) / steps.supervised_tokens(1)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    whole = gradient(1, 10)
    for world, size in ((1, 2), (2, 5), (4, 1)):
        torch.testing.assert_close(gradient(world, size), whole, rtol=1e-4, atol=1e-6)


def test_sources_are_told_apart(steps: Steps, model) -> None:
    for micro in steps.micros(0, 0, 1, 1):
        downstream, diverse = token_losses(model, micro)
        own, other = (downstream, diverse) if micro.downstream[0] else (diverse, downstream)
        assert own > 0
        assert other == 0
