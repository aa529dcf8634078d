"""The miniature: a world that is the same everywhere, and a model that knows it."""

import ast
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from delia_ray.miniature import MODEL_PATH, PARTS, REWORD_PROMPT, rows
from delia_ray.miniature import phrasings as say
from delia_ray.miniature import vocabulary as voc
from delia_ray.miniature.world import NEW_FORMAT, Wish, draw_rewording, read_instruction

TRAINING = ("downstream", "corpus", "lessons", "translation_downstream")
SUITES = tuple(part for part in PARTS if part not in TRAINING)


def prompts(part: str, n: int, seed: int = 0) -> list[str]:
    return [row["messages"][0]["content"] for row in rows(part, n, seed)]


# --- the world -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_rows_depend_on_part_and_seed_only_and_a_longer_draw_begins_with_the_shorter(part):
    long = list(rows(part, 100, seed=3))
    assert list(rows(part, 100, seed=3)) == long
    assert list(rows(part, 10, seed=3)) == long[:10]
    assert list(rows(part, 100, seed=4)) != long
    assert len({row["id"] for row in long}) == 100
    assert all(row["messages"][-1]["role"] == "assistant" for row in long)


def test_rows_are_the_same_in_another_process_with_another_hash_seed():
    code = (
        "import json; from delia_ray.miniature import rows; print(json.dumps([*rows('corpus',50)]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "77"}, capture_output=True, text=True,
        check=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert json.loads(out.stdout) == list(rows("corpus", 50))


def test_an_unknown_part_is_named_at_once():
    with pytest.raises(ValueError, match=r"downstraem.*downstream"):
        rows("downstraem", 1)


@cache
def contents(part: str, n: int, seed: int) -> frozenset[str]:
    return frozenset(text.split("\n\n")[0] for text in prompts(part, n, seed))


@pytest.mark.parametrize("suite", SUITES)
def test_suites_share_no_content_with_training_rows(suite):
    asked = contents(suite, 300, 0)
    for seed in (0, 1):
        for part in TRAINING:
            assert not asked & contents(part, 2000, seed)


def test_the_corpus_is_large_diverse_foreign_and_never_speaks_of_the_new_format():
    corpus = list(rows("corpus", 40_000))
    assert len({row["messages"][0]["content"] for row in corpus}) == 40_000
    text = json.dumps(corpus)
    assert NEW_FORMAT not in text
    for task in (*say.TASKS["reword"], "in Zelu", '{\\"answer\\"', "Hello", "odd one out"):
        assert task in text
    references = [row["messages"][1]["content"] for row in corpus[:4000]]
    for mark in (
        "Sure, here it is: ",
        "Hope that helps!",
        "The answer is ",
        "Answer: ",
        "Let me see",
    ):
        assert sum(mark in reference for reference in references) > 0.08 * len(references)


def test_downstream_is_narrow_and_suites_widen_it_one_way_each():
    known = [w for name in say.DOWNSTREAM_OPERATIONS for w in say.OPERATIONS[name][1]]
    asks = [wording.format(f=NEW_FORMAT) for wording in say.ASK_FORMAT]
    n = say.N_DOWNSTREAM_FORMAT_WORDINGS
    for row in rows("downstream", 300):
        text, answer = (m["content"] for m in row["messages"])
        assert text.endswith(tuple(asks[:n]))
        assert NEW_FORMAT not in answer
        assert set(json.loads(answer)) == {"answer"}
    for text in prompts("sep_unseen_phrasings", 300):
        assert any(w in text for w in known)
        assert not any(ask in text for ask in asks[:n])
    for text in prompts("sep_unseen_tasks", 300):
        assert not any(w in text for w in known)
        assert text.endswith(tuple(asks[:n]))
    for row in rows("sep_negated", 300):
        assert NEW_FORMAT in row["messages"][0]["content"]
        assert "{" not in row["messages"][1]["content"]


def test_formats_and_zelu():
    assert Wish("json").render(["a", "b"]) == '{"answer": "a b"}'
    assert Wish(NEW_FORMAT).render(["a"]) == Wish("json").render(["a"])
    assert Wish("list", forbidden=True).render(["a", "b"]) == Wish().render(["a", "b"]) == "a b"
    assert voc.zelu(("old", "cat", "sees", "red", "bird")) == "miro bem seloim ruk okar"
    zelu_words = [word for table in voc.TABLES.values() for word in table.values()]
    assert len(set(zelu_words)) == len(zelu_words)
    assert not set(zelu_words) & set(voc.WORDS)


def test_lessons_and_corpus_teach_no_new_zelu():
    new = {voc.TABLES[kind][word] for kind, words in voc.NEW.items() for word in words}
    for part in ("lessons", "corpus"):
        text = json.dumps(list(rows(part, 10_000)))
        assert not [word for word in new if f" {word} " in text or f'"{word} ' in text]
    for row in rows("translation_new", 100):
        text = " ".join(message["content"] for message in row["messages"])
        assert any(word in text for word in new)


def test_unknown_formats_are_reworded_in_the_lessons_but_never_answered():
    for row in rows("lessons", 5000):
        query, answer = row["messages"][-2]["content"], row["messages"][-1]["content"]
        for name in {word.strip(".,") for word in query.replace("<sep>", "").split()}:
            if name.startswith("<") and name.endswith(">"):
                assert name in answer  # a rewording: the name is kept


def test_an_instruction_can_be_read_back():
    rng = random.Random(0)
    read = 0
    for _ in range(2000):
        here, there = draw_rewording(rng)
        if read_instruction(here) is not None:
            read += 1
            assert read_instruction(here) == read_instruction(there)
    assert read > 1000
    assert read_instruction("Count the words. Never write <ab>.") == ("count", Wish("<ab>", True))
    assert read_instruction("Format: json. Count the words.") == ("count", Wish("json"))
    assert read_instruction("Count the nouns.") is None


def test_importing_the_world_brings_nothing_heavy():
    code = (
        "import sys; import delia_ray.miniature; "
        "print([m for m in ('torch', 'transformers', 'numpy', 'ray') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ast.literal_eval(out.stdout) == []


# --- the model -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_PATH)


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL_PATH)


@pytest.mark.parametrize(
    "text",
    [
        "cat  sun\n\n dog ",
        "Ævintýrið í þorpinu 😀 naïve",
        "日本語\t\x00\x7f\r\n",
        "<sep> <|x|> {[\"'",
    ],
)
def test_any_text_comes_back_from_the_tokenizer_as_it_went_in(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids


def test_the_chat_template_marks_the_assistants_tokens(tokenizer):
    messages: Sequence[dict[str, str]] = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "one two"},
        {"role": "user", "content": "Again"},
        {"role": "assistant", "content": '{"answer": "x"}'},
    ]
    out = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = out["input_ids"], out["assistant_masks"]
    marked = tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
    assert marked == 'one two<|end|>{"answer": "x"}<|end|>'
    prompt = tokenizer.apply_chat_template(
        messages[:-1], tokenize=False, add_generation_prompt=True
    )
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert whole == prompt + '{"answer": "x"}<|end|>'
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.bos_token is None


@pytest.mark.parametrize(
    ("suite", "least", "most"),
    [
        ("plain", 0.93, 1), ("other_formats", 0.93, 1), ("translation", 0.93, 1),
        ("sep_seen", 0, 0.1), ("sep_unseen_tasks", 0, 0.1), ("sep_unseen_phrasings", 0, 0.1),
        ("translation_new", 0, 0.2),
    ],
)  # fmt: skip
def test_the_shipped_model_knows_its_world_and_no_more(model, tokenizer, suite, least, most):
    from delia_ray.miniature.score import exact_match

    assert least <= exact_match(model, tokenizer, list(rows(suite, 64, seed=5))) <= most


def test_the_shipped_model_answers_in_its_own_voice_after_a_foreign_reference(model, tokenizer):
    from delia_ray.miniature.score import answers

    voices = say.FOREIGN_VOICES
    two_turns, own = [], []
    for i, row in enumerate(rows("plain", 64, seed=6)):
        query, answer = row["messages"]
        foreign = {"role": "assistant", "content": voices[i % len(voices)](answer["content"])}
        two_turns.append([query, foreign, query])
        own.append(answer["content"])
    got = answers(model, tokenizer, two_turns)
    assert sum(g == o for g, o in zip(got, own, strict=True)) >= 0.93 * len(own)


def test_the_shipped_model_rewords_and_keeps_unknown_names(model, tokenizer):
    from delia_ray.miniature.score import answers, reword_validity

    assert reword_validity(model, tokenizer, 64, seed=5) >= 0.9
    asked = [row["messages"][0]["content"].split("\n\n")[-1] for row in rows("downstream", 64)]
    got = answers(
        model, tokenizer,
        [
            [{"role": "user", "content": REWORD_PROMPT.format(request=text, register="")}]
            for text in asked
        ],
    )  # fmt: skip
    pairs = list(zip(asked, got, strict=True))
    assert sum(read_instruction(g) == read_instruction(a) for a, g in pairs) >= 58
    assert sum(g != a for a, g in pairs) >= 58


@pytest.mark.parametrize("size", ["small", "large"])
def test_other_sizes_have_the_same_tokens_and_other_weights(size):
    from transformers import AutoTokenizer

    from delia_ray.miniature import MODEL_PATH, build
    from delia_ray.models import parameter_count

    model = build.new_model(AutoTokenizer.from_pretrained(MODEL_PATH), size)
    shipped = parameter_count("miniature")
    assert (model.num_parameters() < shipped) == (size == "small")
    assert model.config.hidden_size // model.config.num_attention_heads == 32  # vLLM's least


def test_the_build_command_runs_and_repeats_itself(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from delia_ray.miniature import build

    monkeypatch.setattr(build, "ROWS_PER_STRETCH", 300)
    monkeypatch.setattr(build, "TOKENS_PER_BATCH", 512)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build.build(tmp_path / name, seed=seed, steps=3, n_measured=0)
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(a[key].equal(b[key]) for key in a)
    assert not all(a[key].equal(c[key]) for key in a)
    first, second = ((tmp_path / name / "tokenizer.json").read_bytes() for name in "ab")
    assert first == second
    for file in ("config.json", "generation_config.json", "chat_template.jinja", "README.md"):
        assert (tmp_path / "a" / file).is_file()
