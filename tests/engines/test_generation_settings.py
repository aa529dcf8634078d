"""Answers come out as the recipe says, whatever generation_config.json of the model holds."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from delia_ray.config import TransformersEngine, VllmEngine
from delia_ray.engines import Request
from delia_ray.engines.transformers import Transformers
from delia_ray.engines.vllm import Vllm
from delia_ray.errors import UserError
from delia_ray.generation_settings import FILE, read, savable
from delia_ray.models import end_ids

ENDS = {"eos_token_id": 0, "pad_token_id": 0}
ACTS: dict[str, dict[str, Any]] = {
    "repetition_penalty 1.1": {"repetition_penalty": 1.1, "do_sample": True},
    "repetition_penalty 1.3": {"repetition_penalty": 1.3},
    "num_beams": {"num_beams": 3},
    "num_return_sequences": {"num_return_sequences": 2, "do_sample": True},
    "return_dict_in_generate": {"return_dict_in_generate": True, "output_scores": True},
    "suppress_tokens": {"suppress_tokens": list(range(60, 200))},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(40, 220))},
    "forced_eos_token_id": {"forced_eos_token_id": 70},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "bad_words_ids": {"bad_words_ids": [[i] for i in range(50, 230)]},
    "max_time": {"max_time": 1e-9},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": [2, 9.0]},
}
QUIET: dict[str, dict[str, Any]] = {
    "forced_bos_token_id": {"forced_bos_token_id": 71},
    "stop_strings": {"stop_strings": ["a", "e", "i"]},
    "min_new_tokens": {"min_new_tokens": 11},
    "sampling without do_sample": {"temperature": 0.9, "top_p": 0.6},
    "max_length": {"max_length": 3},
    "num_return_sequences without sampling": {"num_return_sequences": 2},
}
PROMPTS = ["abc", "what is it?", "z"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, make_model) -> Path:
    folder = make_model(Path(tmp_path_factory.mktemp("plain")), seed=3, hidden=64)
    (folder / FILE).write_text(json.dumps(ENDS))
    return folder


def _with(plain: Path, folder: Path, settings: dict[str, Any]) -> str:
    shutil.copytree(plain, folder)
    (folder / FILE).write_text(json.dumps(ENDS | settings))
    return str(folder)


def _requests() -> list[Request]:
    return [
        Request(f"{p}{t}", [{"role": "user", "content": p}], 12, temperature=t, seed=5)
        for p in PROMPTS
        for t in (0.0, 0.8)
    ]


def _answers(path: str) -> list[tuple[str, str, str, int]]:
    found = Transformers(TransformersEngine(batch_size=4), path).load()(_requests())
    return [(o.text, o.finish_reason, o.error, o.completion_tokens) for o in found]


@pytest.fixture(scope="module")
def expected(plain: Path) -> list[tuple[str, str, str, int]]:
    found = _answers(str(plain))
    assert len({text for text, *_ in found}) > 3
    return found


def _decoded_with_its_own(path: str) -> list[Any]:
    """What transformers does with the model's settings in force, one prompt at a time."""
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(path),
        AutoTokenizer.from_pretrained(path),
    )
    found: list[Any] = []
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer(f"<|user|>{prompt}<|end|><|assistant|>")["input_ids"]])
        try:
            out = model.generate(ids, max_new_tokens=12, do_sample=False, tokenizer=tokenizer)
            found.append(out.tolist() if torch.is_tensor(out) else "not a tensor")
        except ValueError:
            found.append("error")
    return found


@pytest.mark.parametrize("name", [*ACTS, *QUIET])
def test_the_transformers_engine_heeds_none_of_it(name, tmp_path, plain, expected) -> None:
    path = _with(plain, tmp_path / "model", (ACTS | QUIET)[name])
    assert _answers(path) == expected


@pytest.mark.parametrize("name", ACTS)
def test_each_of_them_would_act(name, tmp_path, plain) -> None:
    """Or the test above could not fail."""
    path = _with(plain, tmp_path / "model", ACTS[name])
    assert _decoded_with_its_own(path) != _decoded_with_its_own(str(plain))


def test_vllm_is_told_to_heed_none_of_it(plain) -> None:
    told = Vllm(VllmEngine(), str(plain))._engine_kwargs(gpu=False)
    assert told["generation_config"] == "vllm"


def test_ends_are_read_from_settings_that_contradict_each_other(tmp_path, plain) -> None:
    path = _with(plain, tmp_path / "m", {"eos_token_id": [0, 7], "num_return_sequences": 2})
    assert end_ids(path) == {0, 7}


@pytest.mark.parametrize(
    ("settings", "left_out"),
    [
        ({"temperature": 0.9, "top_p": 0.6}, {"temperature", "top_p"}),
        ({"temperature": 0.9, "top_p": 0.6, "do_sample": True}, set()),
        ({"top_k": 20, "do_sample": False, "repetition_penalty": 1.1}, {"top_k"}),
        ({"num_return_sequences": 2}, {"num_return_sequences"}),
        ({"num_return_sequences": 2, "num_beams": 2}, set()),
        ({"early_stopping": True, "length_penalty": 1.2}, {"early_stopping", "length_penalty"}),
        ({"output_scores": True}, {"output_scores"}),
        ({"max_new_tokens": 0}, {"max_new_tokens"}),
        ({"forced_eos_token_id": 0, "suppress_tokens": [0]}, {"suppress_tokens"}),
        ({"cache_implementation": "none such"}, {"cache_implementation"}),
        ({"streamer": 1}, {"streamer"}),
        ({}, set()),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_contradicts_is_left_out_and_the_rest_is_saved(tmp_path, settings, left_out) -> None:
    kept, reasons = savable(ENDS | settings)
    assert set(reasons) == left_out
    assert all(reason.startswith(f"{name}=") for name, reason in reasons.items())
    kept.save_pretrained(tmp_path)
    again = GenerationConfig.from_pretrained(tmp_path).to_dict()
    expected = {k: v for k, v in (ENDS | settings).items() if k not in left_out}
    assert {k: again[k] for k in expected} == expected


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_file_that_is_no_object_is_named(tmp_path, text) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=r"generation_config\.json"):
        read(str(tmp_path))
