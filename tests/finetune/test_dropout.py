"""The adapters' dropout: the share, the scale, the gradient, and that a seed repeats it."""

import pytest
import torch

from delia_ray.finetune.dropout import Dropout, quicken


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_scale_and_gradient(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    values = torch.ones(333, 601, dtype=dtype, requires_grad=True)
    found = Dropout(p)(values)
    found.sum().backward()
    share = float((found == 0).float().mean())
    assert abs(share - p) < 5 * (p * (1 - p) / values.numel()) ** 0.5
    kept = found[found != 0]
    assert torch.equal(kept, torch.full_like(kept, 1 / (1 - p)))
    assert torch.equal(values.grad, found.detach())  # of ones, gradient and value are the same


def test_every_place_and_neighbours_are_drawn_apart() -> None:
    torch.manual_seed(2)
    drawn = torch.stack([Dropout(0.5)(torch.ones(4096)) > 0 for _ in range(64)]).double()
    by_place = drawn.mean(0).view(-1, 4).mean(0)  # four places come from one word
    assert (by_place - 0.5).abs().max() < 0.01
    together = torch.corrcoef(drawn.view(-1, 4).T) - torch.eye(4)
    assert together.abs().max() < 0.02


def test_seed_repeats_and_evaluation_is_without() -> None:
    values, layer = torch.randn(7, 13), Dropout(0.3)
    torch.manual_seed(3)
    first = layer(values)
    second = layer(values)
    torch.manual_seed(3)
    assert torch.equal(layer(values), first)
    assert not torch.equal(second, first)
    assert layer.eval()(values) is values
    assert Dropout(0.0)(values) is values


def test_adapters_of_a_model_have_it(make_model, tmp_path) -> None:
    from delia_ray.config import Finetune
    from delia_ray.finetune.model import attach, load_base

    model, tokenizer = load_base(str(make_model(tmp_path / "m")), {}, torch.float32)
    tuned = attach(model, tokenizer, {}, Finetune())
    assert sum(isinstance(m, Dropout) for m in tuned.modules()) > 0
    assert quicken(tuned) == 0  # none is left
