"""Chat in, text out: both engines on the shipped miniature."""

import json
from typing import Any

import pytest

from delia_ray.config import AutoEngine, TransformersEngine, VllmEngine
from delia_ray.engines import OWN_FAULT, Request, make_engine, resolve
from delia_ray.errors import UserError
from delia_ray.miniature import rows
from delia_ray.models import load_tokenizer, locate, prompt_ids, prompts_ids

NO_CONTENT: Any = [{"role": "user", "content": None}]
"""A chat that the template cannot render."""
SCHEMA = {"enum": ["yes", "no"]}
CHATS = [row["messages"] for row in rows("other_formats", 24)]


def _requests(**sampling) -> list[Request]:
    return [
        Request(f"k{i}", m[:-1], max_tokens=48, seed=i, **sampling) for i, m in enumerate(CHATS)
    ]


@pytest.fixture(scope="module")
def local():
    return make_engine(TransformersEngine(batch_size=8), "miniature").load()


def test_greedy_answers_are_right_and_end(local) -> None:
    answers = local(_requests())
    assert [a.key for a in answers] == [f"k{i}" for i in range(24)]
    assert all(a.finish_reason == "stop" for a in answers)
    right = sum(a.text == m[-1]["content"] for a, m in zip(answers, CHATS, strict=True))
    assert right >= 22
    assert all(a.completion_tokens > 1 and a.prompt_tokens > 5 for a in answers)


def test_sampling_depends_on_the_seed_not_on_the_neighbours(local) -> None:
    requests = _requests(temperature=3.0, top_p=0.99)
    together = {a.key: a.text for a in local(requests)}
    alone = {r.key: local([r])[0].text for r in requests[:6]}
    assert {k: together[k] for k in alone} == alone
    other = Request("k0", requests[0].messages, 48, 3.0, 0.99, seed=99)
    assert local([other])[0].text != together["k0"]


def test_a_tiny_nucleus_is_greedy(local) -> None:
    greedy = [a.text for a in local(_requests())]
    assert [a.text for a in local(_requests(temperature=1.0, top_p=1e-6))] == greedy


def test_cut_off_answers_say_so(local) -> None:
    request = Request("x", CHATS[0][:-1], max_tokens=2)
    answer = local([request])[0]
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 2)


def test_auto_prefers_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(AutoEngine()).type == "vllm"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert resolve(AutoEngine()).type == "transformers"
    with pytest.raises(UserError, match=r"vLLM is not installed.*engine\.type=transformers"):
        resolve(VllmEngine())


def test_prompts_are_rendered_alike_alone_and_together() -> None:
    tokenizer = load_tokenizer(locate("miniature"))
    chats = [m[:-1] for m in CHATS]
    assert prompts_ids(tokenizer, chats) == [prompt_ids(tokenizer, c) for c in chats]


def test_a_users_turn_begins_where_the_template_puts_it() -> None:
    """Magpie's pre-query template, for any chat template."""
    tokenizer = load_tokenizer(locate("miniature"))
    system = [{"role": "system", "content": "Be brief."}]
    whole = prompt_ids(tokenizer, [*system, {"role": "user", "content": "Hello there"}])
    opening = prompt_ids(tokenizer, system, "user")
    assert whole[: len(opening)] == opening
    assert tokenizer.decode(opening).endswith("<|user|>")


def test_a_range_of_replicas() -> None:
    assert VllmEngine(replicas=3).replica_range == (3, 3)
    assert VllmEngine(replicas=(2, 8)).replica_range == (2, 8)
    with pytest.raises(ValueError, match="fewest, most"):
        VllmEngine(replicas=(4, 2))
    wide = make_engine(VllmEngine(replicas=(1, 4), kwargs={"tensor_parallel_size": 2}), "miniature")
    assert (wide.replicas, wide.gpus) == ((1, 4), 2)
    assert wide.in_flight == 4 * 128 * 17


def _dataset(requests: list[Request]):
    import ray.data

    return ray.data.from_items([vars(r) for r in requests], override_num_blocks=3)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A LoRA adapter of the miniature that turns its answers into something else."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = str(tmp_path_factory.mktemp("adapter"))
    base = AutoModelForCausalLM.from_pretrained(locate("miniature"))
    config = LoraConfig(
        r=8, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    get_peft_model(base, config).save_pretrained(folder)
    return folder


@pytest.mark.ray
@pytest.mark.vllm
def test_vllm_answers_like_transformers(ray_local, local, adapter: str) -> None:
    """Many kinds of rows in one pass: right texts, isolated errors, seeds that hold, a JSON
    schema, a LoRA adapter, and a query that the model invents."""
    greedy, warm = _requests(), _requests(temperature=0.7, top_p=0.95)
    again = [Request(f"again-{r.key}", *list(vars(r).values())[1:]) for r in warm]
    warm = [Request(f"warm-{r.key}", *list(vars(r).values())[1:]) for r in warm]
    long = Request("long", [{"role": "user", "content": "€" * 3000}], max_tokens=4)
    bad = Request("bad", NO_CONTENT, max_tokens=4)
    cut = Request("cut", CHATS[0][:-1], max_tokens=2)
    schema = Request("schema", CHATS[0][:-1], max_tokens=24, schema=json.dumps(SCHEMA))
    other = [
        Request(f"lora-{i}", m[:-1], max_tokens=48, adapter=adapter)
        for i, m in enumerate(CHATS[:8])
    ]
    query = Request("query", [], max_tokens=8, turn="user")
    engine = make_engine(VllmEngine(max_model_len=512, adapters=[adapter]), "miniature")
    odd = [long, bad, cut, schema, query, *other]
    rows_ = engine.map(_dataset([*greedy, *warm, *again, *odd])).take_all()
    found = {r["key"]: r for r in rows_}
    assert len(found) == len(rows_) == 24 * 3 + len(odd)
    expected = {a.key: a for a in local(greedy)}
    same = sum(found[k]["text"] == a.text for k, a in expected.items())
    assert same >= 23  # another summation order may turn one near tie
    assert all(
        found[k]["completion_tokens"] == a.completion_tokens
        for k, a in expected.items()
        if found[k]["text"] == a.text
    )
    assert all(found[f"warm-k{i}"]["text"] == found[f"again-k{i}"]["text"] for i in range(24))
    assert found["long"]["finish_reason"] == "error"
    assert found["long"]["error"].split(":")[0] in OWN_FAULT
    assert found["bad"]["finish_reason"] == "error"
    assert "TypeError" in found["bad"]["error"]
    assert found["cut"]["finish_reason"] == "length"
    assert json.loads(found["schema"]["text"]) in ("yes", "no"), found["schema"]["error"]
    assert sum(found[f"lora-{i}"]["text"] != found[f"k{i}"]["text"] for i in range(8)) >= 6
    assert (found["query"]["error"], found["query"]["prompt_tokens"]) == ("", 1)
    assert all(r["seconds"] > 0 for r in rows_ if not r["error"])


@pytest.mark.ray
def test_transformers_actors_isolate_a_bad_row(ray_local, local) -> None:
    bad = Request("bad", NO_CONTENT, max_tokens=4)
    engine = make_engine(TransformersEngine(batch_size=8), "miniature")
    found = {r["key"]: r for r in engine.map(_dataset([*_requests(), bad])).take_all()}
    assert found["bad"]["finish_reason"] == "error"
    assert "TypeError" in found["bad"]["error"]
    assert [found[f"k{i}"]["text"] for i in range(24)] == [a.text for a in local(_requests())]
