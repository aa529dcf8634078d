"""The special token's first steps: its row, the adapter around it, and the merged model."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from delia_ray.config import Finetune, Lora
from delia_ray.errors import UserError
from delia_ray.finetune.model import attach, load_base
from delia_ray.finetune.result import merge
from delia_ray.finetune.schedule import rate
from delia_ray.token_rows import initialise_rows

TOKENS = {"<sep>": "ab", "<new>": "cd"}
SETTINGS = Finetune(lora=Lora(r=4, alpha=4, dropout=0.0))


@pytest.fixture(params=["tied", "untied"])
def tied(request: pytest.FixtureRequest) -> bool:
    return request.param == "tied"


@pytest.mark.parametrize("spare", [0, 16])
@pytest.mark.parametrize("how", ["random", "mean", "description", "description_noise"])
def test_only_the_new_rows_change(tmp_path, make_model, tied, spare, how) -> None:
    path = str(make_model(tmp_path, tied=tied, spare=spare))
    before = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model, tokenizer = load_base(path, TOKENS, torch.float32)
    initialise_rows(model, path, tokenizer, TOKENS, how, seed=0)
    ids = [tokenizer.convert_tokens_to_ids(t) for t in TOKENS]
    known = len(AutoTokenizer.from_pretrained(path))
    assert ids == [known, known + 1]
    assert len(model.get_input_embeddings().weight) == (known + 16 if spare else 320)
    for side in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, side)().weight, getattr(model, side)().weight
        assert torch.equal(old[:known], new[:known])
        assert not torch.equal(new[ids[0]], new[ids[1]]) or how == "mean"
        if how == "mean":
            torch.testing.assert_close(new[ids[0]], old[:known].mean(0))
        if how == "description":
            words = tokenizer("ab", add_special_tokens=False)["input_ids"]
            torch.testing.assert_close(new[ids[0]], old[words].mean(0))
        if how == "description_noise":
            words = tokenizer("ab", add_special_tokens=False)["input_ids"]
            away = new[ids[0]] - old[words].mean(0)
            assert 0.05 < away.std() / old[:known].std() < 0.2
        if how == "random":
            assert 0.5 < new[ids[0]].std() / old[:known].std() < 2


def test_a_token_the_model_already_has_keeps_its_row(tmp_path, make_model) -> None:
    path = str(make_model(tmp_path))
    old = AutoModelForCausalLM.from_pretrained(path).get_input_embeddings().weight.clone()
    model, tokenizer = load_base(path, {"<|user|>": "x"}, torch.float32)
    initialise_rows(model, path, tokenizer, {"<|user|>": "x"}, "random", seed=0)
    assert torch.equal(model.get_input_embeddings().weight, old)


def test_a_description_is_needed_to_start_from_it(tmp_path, make_model) -> None:
    path = str(make_model(tmp_path))
    model, tokenizer = load_base(path, {"<sep>": ""}, torch.float32)
    with pytest.raises(UserError, match=r"token_init=description.*<sep>"):
        initialise_rows(model, path, tokenizer, {"<sep>": ""}, "description", seed=0)


def _train_a_little(model, tokenizer) -> None:
    ids = torch.tensor([tokenizer("one <sep> two <new> three")["input_ids"]])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("spare", [0, 16])
def test_trained_rows_travel_through_adapter_and_merge(tmp_path, make_model, tied, spare) -> None:
    path = str(make_model(tmp_path / "base", tied=tied, spare=spare))
    model, tokenizer = load_base(path, TOKENS, torch.float32)
    initialise_rows(model, path, tokenizer, TOKENS, "random", seed=0)
    ids = [tokenizer.convert_tokens_to_ids(t) for t in TOKENS]
    first = model.get_input_embeddings().weight[ids].detach().clone()
    tuned = attach(model, tokenizer, TOKENS, SETTINGS)
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    lora = 2 * 4 * (16 * 4 + 16 * 4)  # layers x projections x (A + B) of rank 4
    assert trained == lora + 2 * 16 * (1 if tied else 2), "the rows and LoRA, nothing else"
    _train_a_little(tuned, tokenizer)
    tuned.eval().save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    probe = torch.tensor([tokenizer("say <sep> or <new>")["input_ids"]])
    with torch.no_grad():
        expected = tuned(input_ids=probe).logits

    fresh, _ = load_base(path, TOKENS, torch.float32)
    plain = PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    merge(path, Path(tmp_path / "adapter"), TOKENS, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=probe).logits, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(merged(input_ids=probe).logits, expected, atol=1e-4, rtol=1e-4)
    rows = merged.get_input_embeddings().weight
    assert not torch.allclose(rows[ids], first, atol=1e-3), "the rows were trained"
    base = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    known = len(AutoTokenizer.from_pretrained(path))
    assert torch.equal(rows[:known], base.get_input_embeddings().weight[:known])
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("<sep>")["input_ids"] == [ids[0]]


def test_missing_target_modules_are_named(tmp_path, make_model) -> None:
    path = str(make_model(tmp_path))
    model, tokenizer = load_base(path, {}, torch.float32)
    settings = Finetune(lora=Lora(target_modules=["query_key_value"]))
    with pytest.raises(UserError, match=r"query_key_value.*q_proj"):
        attach(model, tokenizer, {}, settings)


def test_the_rate_warms_up_and_stays() -> None:
    settings = Finetune(lr=1.0, warmup_steps=4)
    assert [rate(s, 100, settings) for s in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rate(0, 100, Finetune(lr=1.0, warmup_steps=0)) == 1.0


def test_the_rate_falls_to_zero_where_it_should() -> None:
    two = Finetune(lr=1.0, warmup_steps=2, phases=[{"from_step": 3, "lr": 0.5}])
    assert [rate(s, 9, two) for s in range(5)] == [0.5, 1.0, 1.0, 0.5, 0.5]
    linear = Finetune(lr=1.0, warmup_steps=2, schedule="linear")
    assert [rate(s, 6, linear) for s in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    cosine = Finetune(lr=1.0, warmup_steps=2, schedule="cosine")
    assert rate(4, 6, cosine) == pytest.approx(0.5)
    assert rate(5, 6, cosine) < 0.25


def _foreign(path: str, folder: Path, **settings) -> None:
    """A LoRA adapter made by PEFT alone."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=["q_proj"], **settings)
    tuned = get_peft_model(model, config)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    tuned.save_pretrained(folder)


def test_an_adapter_made_elsewhere_goes_on_here(tmp_path, make_model, tied) -> None:
    path = str(make_model(tmp_path / "base", tied=tied))
    _foreign(path, tmp_path / "theirs", lora_alpha=6)
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "theirs").eval()
    model, tokenizer = load_base(path, TOKENS, torch.float32)
    initialise_rows(model, path, tokenizer, TOKENS, "random", seed=0)
    ours = attach(model, tokenizer, TOKENS, Finetune(adapter=str(tmp_path / "theirs"))).eval()
    probe = torch.tensor([tokenizer("say this")["input_ids"]])
    known = len(AutoTokenizer.from_pretrained(path))
    with torch.no_grad():
        torch.testing.assert_close(
            ours(input_ids=probe).logits[..., :known], theirs(input_ids=probe).logits[..., :known]
        )
    before = {n: p.detach().clone() for n, p in ours.named_parameters() if p.requires_grad}
    _train_a_little(ours.train(), tokenizer)
    after = {n: p for n, p in ours.named_parameters() if p.requires_grad}
    assert all((after[n] != v).any() for n, v in before.items()), "all of it is trained on"
    ours.save_pretrained(tmp_path / "ours", save_embedding_layers=False)
    again, _ = load_base(path, TOKENS, torch.float32)
    attach(again, tokenizer, TOKENS, Finetune(adapter=str(tmp_path / "ours")))


def test_adapters_that_cannot_go_on_say_why(tmp_path, make_model) -> None:
    path = str(make_model(tmp_path / "base"))
    _foreign(path, tmp_path / "rows", trainable_token_indices={"embed_tokens": [5]})
    _foreign(path, tmp_path / "good")
    other = str(make_model(tmp_path / "other", hidden=64))
    (tmp_path / "empty").mkdir()
    for base, name, message in (
        (path, "rows", r"rows of tokens \{'embed_tokens': \[5\]\}"),
        (path, "empty", "is not a PEFT adapter"),
        (other, "good", "does not fit the model"),
    ):
        model, tokenizer = load_base(base, TOKENS, torch.float32)
        with pytest.raises(UserError, match=message):
            attach(model, tokenizer, TOKENS, Finetune(adapter=str(tmp_path / name)))
