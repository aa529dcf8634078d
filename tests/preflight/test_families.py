"""One step of a small copy before the first stage: what it says, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

from delia_ray.config import RunConfig
from delia_ray.finetune.model import load_base
from delia_ray.finetune.small import one_thread
from delia_ray.preflight import CHECKS, Problem, examine
from tests.families.models import make_family

CHECKED = {name: CHECKS[name] for name in ("generation settings", "one step")}


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def _found(base: Path, **finetune) -> list[Problem]:
    tree = {"model": str(base), "downstream": {"special_tokens": {"<sep>": "a list"}},
            "mix": {"max_length": 128}, "finetune": finetune}  # fmt: skip
    return examine(RunConfig.model_validate(tree), CHECKED)


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return make_family("Llama", tmp_path_factory.mktemp("llama") / "base")


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_what_works_says_nothing(llama: Path, method: str) -> None:
    assert _found(llama, method=method, gradient_checkpointing=method == "full") == []


def test_settings_that_cannot_be_saved_are_told(tmp_path: Path) -> None:
    base = make_family("Qwen2", tmp_path / "base")
    file = base / "generation_config.json"
    settings = json.loads(file.read_text()) | {"temperature": 0.9, "top_p": 0.6}
    file.write_text(json.dumps(settings))
    for method in ("lora", "full"):
        found = _found(base, method=method)
        assert [p.fatal for p in found] == [False, False]
        assert "temperature=0.9" in str(found[0])
        assert "top_p=0.6" in str(found[1])


def test_what_a_family_is_trained_by_is_told(tmp_path: Path) -> None:
    base = make_family("LFM2", tmp_path / "base")
    rows, layers = _found(base)
    assert "family lfm2 the rows of a pack would see each other" in str(rows)
    assert "in_proj, k_proj, out_proj, q_proj, v_proj" in str(layers)
    assert not rows.fatal


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("Phi-3", {"lora": {"target_modules": ["q_proj", "o_proj"]}}, r"no layers \['q_proj'\]"),
        ("gpt-oss", {"attention": "sdpa"}, "set finetune.attention=auto"),
        ("BLOOM", {"attention": "varlen"}, "set finetune.attention=auto"),
        ("RWKV", {}, "choose a model of another family"),
        ("T5", {}, "the family t5"),
    ],
)
def test_what_is_impossible_is_one_error_with_advice(
    family: str, settings: dict, message: str, tmp_path: Path
) -> None:
    base = make_family(family, tmp_path / "base")
    fatal = [str(p) for p in _found(base, **settings) if p.fatal]
    assert len(fatal) == 1
    assert message.replace("\\", "") in fatal[0]


def test_a_config_that_transformers_cannot_read_is_named(tmp_path: Path, llama: Path) -> None:
    config = json.loads((llama / "config.json").read_text()) | {"model_type": "none-such"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for file in llama.iterdir():
        if file.name != "config.json":
            (tmp_path / file.name).symlink_to(file)
    (found,) = [p for p in _found(tmp_path) if p.fatal]
    assert "none-such" in str(found)


def test_rows_that_a_model_gains_are_the_same_at_every_load(tmp_path: Path) -> None:
    """In tables beside the embedding too (Gemma's per-layer ones)."""
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    from tests.families.models import MANNERS, make_tokenizer

    tokenizer = make_tokenizer(MANNERS["gemma"])
    config = Gemma4TextConfig(
        vocab_size=len(tokenizer), vocab_size_per_layer_input=len(tokenizer), hidden_size=32,
        intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, hidden_size_per_layer_input=8, sliding_window=8,
        layer_types=["sliding_attention", "full_attention"], pad_token_id=0,
    )  # fmt: skip
    Gemma4ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    one, other = (load_base(str(tmp_path), {"<sep>": "x"}, torch.float32)[0] for _ in range(2))
    names = [n for n, _ in one.named_parameters() if "embed" in n]
    assert len(names) > 1
    for name in names:
        assert torch.equal(one.get_parameter(name), other.get_parameter(name)), name
