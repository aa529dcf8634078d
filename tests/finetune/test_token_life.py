"""The whole life of special tokens: declared, initialised, trained, saved, merged, served.

Two processes train every combination of tied and untied embeddings, ZeRO stage and first
value with the product's own loop; under ZeRO-3 every parameter is really spread over them.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from delia_ray.artifacts import open_storage
from delia_ray.config import Finetune
from delia_ray.finetune.engine import make_engine
from delia_ray.finetune.job import Job
from delia_ray.finetune.model import attach, load_base
from delia_ray.finetune.objective import Objective
from tests.finetune.gang import run_gang, start_gang
from tests.finetune.helpers import TOKENS, changed, prepare

SIDES = ("tied", "untied")
STAGES = (1, 2, 3)
FIRST = ("random", "mean", "description", "description_noise")
SPREAD = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
LIVES = [(side, zero, how) for side in SIDES for zero in STAGES for how in FIRST]


@pytest.fixture(scope="module")
def lives(tmp_path_factory, make_model) -> dict[tuple[str, int, str], Path]:
    """The trained arm's folder of each combination; bases are at ``<side>``."""
    root = tmp_path_factory.mktemp("life")
    jobs, folders = [], {}
    for side in SIDES:
        base = make_model(root / side / "base", tied=side == "tied", hidden=64)
        config, out = prepare(root / side, base)
        for zero in STAGES:
            for how in FIRST:
                own = changed(
                    config, zero=zero, token_init=how, checkpoint_every=100,
                    deepspeed=SPREAD if zero == 3 else {},
                )  # fmt: skip
                target = out / f"{zero}-{how}"
                jobs.append((Job(own, out / "mix", target), None))
                folders[side, zero, how] = Path(target.path) / "delia"
    run_gang(2, jobs)
    return folders


@pytest.fixture(scope="module")
def prompt(lives) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(lives["tied", 1, "mean"] / "merged")
    ids: list[int] = tokenizer("do not <sep>, but <new> so")["input_ids"]
    return ids


@pytest.fixture(scope="module")
def served(lives, prompt, tmp_path_factory) -> dict[str, np.ndarray]:
    """vLLM's logits of every merged model."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "ids.json").write_text(json.dumps(prompt))
    models = [f / "merged" for f in lives.values()]
    command = ["-m", "tests.finetune.logits_of_vllm", folder / "x.npz", folder / "ids.json"]
    done = subprocess.run(
        [sys.executable, *map(str, [*command, *models])],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return dict(np.load(folder / "x.npz"))


def _base(life: tuple[str, int, str], lives) -> str:
    return str(lives[life].parents[2] / "base")


def _logits(model, prompt: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([prompt])).logits[0].float()


@pytest.mark.parametrize("life", LIVES, ids=lambda v: "-".join(map(str, v)))
def test_adapter_and_merged_model_and_vllm_agree(lives, served, prompt, life) -> None:
    folder = lives[life]
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32)
    expected = _logits(merged, prompt)
    # Plain PEFT, in three lines.
    base = AutoModelForCausalLM.from_pretrained(_base(life, lives), dtype=torch.float32)
    base.resize_token_embeddings(len(merged.get_input_embeddings().weight))
    tuned = PeftModel.from_pretrained(base, folder / "adapter")
    used = len(AutoTokenizer.from_pretrained(folder / "adapter"))  # what is beyond only pads
    found = _logits(tuned, prompt)
    torch.testing.assert_close(found[:, :used], expected[:, :used], rtol=1e-4, atol=1e-4)
    vllm = torch.tensor(served[str(folder / "merged")], dtype=torch.float32)
    torch.testing.assert_close(vllm[:, :used], expected[:-1, :used], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("life", LIVES, ids=lambda v: "-".join(map(str, v)))
def test_only_the_declared_rows_and_lora_changed(lives, life) -> None:
    folder = lives[life]
    base = AutoModelForCausalLM.from_pretrained(_base(life, lives), dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32)
    known = len(AutoTokenizer.from_pretrained(_base(life, lives)))
    after = merged.state_dict()
    moved = {
        n for n, w in base.state_dict().items() if not torch.equal(after[n][:known], w[:known])
    }
    assert {n.split(".")[-2] for n in moved} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    tokenizer = AutoTokenizer.from_pretrained(folder / "merged")
    assert [tokenizer.convert_tokens_to_ids(t) for t in TOKENS] == [known, known + 1]
    rows = load_file(folder / "adapter" / "adapter_model.safetensors")
    rest = {n for n in rows if "lora_" not in n}
    assert len(rest) == (1 if life[0] == "tied" else 2), "the rows of both sides, nothing else"
    for name in rest:
        side = merged.get_input_embeddings() if "embed" in name else merged.get_output_embeddings()
        torch.testing.assert_close(rows[name], side.weight[[known, known + 1]])
        others = side.weight[known + 2 :]
        assert torch.equal(others, others[:1].expand_as(others)), "padding rows stay the mean"


def test_vllm_still_refuses_adapters_with_trained_rows(served) -> None:
    """Else ``result.merge`` is not needed for vLLM any more (vLLM 0.32.0, 2026-11-21)."""
    assert "trainable_tokens_delta" in str(served["refusal"])


def _save_by_peft(base: str, folder: Path) -> None:
    """Under ZeRO-3, the way PEFT's documentation shows, every rank in step."""
    settings = Finetune(zero=3, precision="fp32", deepspeed=SPREAD)
    model, tokenizer = load_base(base, TOKENS, torch.float32)
    model = attach(model, tokenizer, TOKENS, settings)
    engine = make_engine(Objective(model), settings, dist.get_world_size(), 1, 2)
    if dist.get_rank() == 0:
        engine.module.model.save_pretrained(folder, save_embedding_layers=False)
    dist.barrier()


def test_peft_still_loses_what_zero_3_spread(tmp_path, make_model) -> None:
    """Else ``result.save_adapter`` need not gather (peft 0.21.2, deepspeed 0.19.8,
    2026-11-21)."""
    base = str(make_model(tmp_path / "base"))
    start_gang(2, _save_by_peft, base, tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert [n for n, v in saved.items() if v.numel() == 0], "what was spread is empty"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("how", FIRST)
def test_every_zero_stage_trains_the_same(lives, side, how) -> None:
    one, *others = (
        load_file(lives[side, zero, how] / "adapter" / "adapter_model.safetensors")
        for zero in STAGES
    )
    for other in others:
        assert other.keys() == one.keys()
        for name, value in other.items():
            # Adam divides a small gradient by itself, so that rounding in one of them shows; a
            # step is 0.01.
            torch.testing.assert_close(value, one[name], rtol=1e-3, atol=1e-3)


def test_the_first_values_differ(lives) -> None:
    """Four steps do not make one of another."""
    rows = []
    for how in FIRST:
        adapter = load_file(lives["untied", 1, how] / "adapter" / "adapter_model.safetensors")
        rows += [value for name, value in sorted(adapter.items()) if "embed_tokens" in name]
    assert len(rows) == len(FIRST)
    for one, other in itertools.combinations(rows, 2):
        assert (one - other).abs().max() > 0.05


def test_what_the_watch_saw_stands_in_the_curve(lives) -> None:
    curves = {}
    for zero in STAGES:
        folder = open_storage(str(lives["untied", zero, "mean"]))
        curves[zero] = folder.read_table("curve.parquet").to_pylist()  # fmt: skip
    for name in ("token_distance", "gradient_cosine", "gradient_norm_diverse"):
        seen = {zero: [point[name] for point in curve] for zero, curve in curves.items()}
        assert [v is not None for v in seen[1]] == [True, False, False, True, False, True]
        for zero in (2, 3):
            assert seen[zero][-1] == pytest.approx(seen[1][-1], rel=1e-2, abs=1e-3)
    assert curves[1][-1]["token_distance"] != curves[1][0]["token_distance"]
    assert -1 <= curves[1][-1]["gradient_cosine"] <= 1
