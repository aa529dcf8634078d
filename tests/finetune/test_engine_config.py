"""What DeepSpeed is told: the precision of this machine, and buffers no larger than is trained."""

import pytest
import torch

from delia_ray.config import Finetune
from delia_ray.finetune.engine import deepspeed_config, dtype, multiplies_bf16


@pytest.mark.parametrize(
    ("can", "fast"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "amx_tile": True}, True),
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({"amx_fp16": True}, False),
        ({}, False),
    ],
)
def test_auto_follows_the_processor(monkeypatch, can: dict[str, bool], fast: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert multiplies_bf16() is fast
    assert dtype("auto") == (torch.bfloat16 if fast else torch.float32)
    assert deepspeed_config(Finetune(), 1, 1, 1)["bf16"]["enabled"] is fast
    assert dtype("fp32") == torch.float32
    assert dtype("bf16") == torch.bfloat16


@pytest.mark.parametrize(("trained", "bucket"), [(1_000, 1_000), (10**10, 5 * 10**8), (0, 1)])
def test_buffers_follow_what_is_trained(trained: int, bucket: int) -> None:
    zero = deepspeed_config(Finetune(), 1, 1, 1, trained)["zero_optimization"]
    assert zero["reduce_bucket_size"] == zero["allgather_bucket_size"] == bucket


def test_own_settings_win_over_ours() -> None:
    own = Finetune(deepspeed={"zero_optimization": {"reduce_bucket_size": 7}})
    zero = deepspeed_config(own, 1, 1, 1, 1_000)["zero_optimization"]
    assert (zero["reduce_bucket_size"], zero["allgather_bucket_size"]) == (7, 1_000)
