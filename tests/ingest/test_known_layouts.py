"""Layouts that people in this field have: what becomes of their rows, and what is left out."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from delia_ray.config import Parallel, Turns
from delia_ray.ingest.layouts import Options
from delia_ray.ingest.parse import Job, parse_file

from .helpers import jsonl, write


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str, **more: Any) -> dict[str, Any]:
    return {"from": "gpt", "value": text, **more}


@dataclass
class Case:
    """Rows of one file, and what must come of them."""

    rows: list[Any]
    records: list[tuple[str, str | None]]
    """Each prompt as ``role: text`` lines, and its answer."""
    rejects: list[str] = field(default_factory=list)
    """Kinds."""
    left_out: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

CASES = {
    "system and history beside an instruction": Case(
        [
            {"instruction": "And in Celsius?", "input": "", "output": "18 C.",
             "system": "You are a weather bot.",
             "history": [["What is the weather?", "64 F."], ["Is that warm?", "Mild."]]},
            {"instruction": "Convert 94F.", "input": "94F", "output": "34C", "system": "",
             "history": []},
        ],
        [("system: You are a weather bot.\nuser: What is the weather?\nassistant: 64 F.\n"
          "user: Is that warm?\nassistant: Mild.\nuser: And in Celsius?", "18 C."),
         ("user: Convert 94F.\n\n94F", "34C")],
    ),
    "history as JSON text": Case(
        [{"instruction": "c?", "output": "d", "history": '[["a?", "b"]]'}],
        [("user: a?\nassistant: b\nuser: c?", "d")],
    ),
    "history as messages": Case(
        [{"prompt": "c?", "completion": "d", "history": [user("a?"), said("b")]}],
        [("user: a?\nassistant: b\nuser: c?", "d")],
    ),
    "history that is no list": Case(
        [{"instruction": "c?", "output": "d", "history": "a long time ago"}],
        [], ["history cannot be read"],
    ),
    "system columns": Case(
        [
            {"system_prompt": "Be terse.", "question": "q1", "response": "a1"},
            {"system": "Be terse.", "prompt": "q2", "completion": "a2"},
            {"system": "Be terse.", "instruction": "q3", "output": "a3"},
            {"system_message": "Be terse.", "conversations": [human("q4"), gpt("a4")]},
            {"system": " ", "prompt": "q5", "completion": "a5"},
        ],
        [*((f"system: Be terse.\nuser: q{i}", f"a{i}") for i in range(1, 5)), ("user: q5", "a5")],
    ),
    "a system column that repeats the first turn": Case(
        [{"system": "Be kind.", "messages": [system("Be kind."), user("q")]}],
        [("system: Be kind.\nuser: q", None)],
    ),
    "a system column that differs from the first turn": Case(
        [{"system": "Be kind.", "messages": [system("Be terse."), user("q")]}],
        [], ["two system turns that differ"],
    ),
    "system columns by the rules": Case(
        [{"system": "Be terse.", "prompt": "q", "completion": "a"}],
        [("user: q", "a")],
        settings={"options": Options(turns=Turns(system="drop"))},
    ),
    "a context beside a question": Case(
        [
            {"context": "It began on 31 August.", "question": "When?", "answer": "31 August"},
            {"passage": "Cats sleep.", "question": "What do cats do?", "answer": "sleep"},
            {"context": ["One.", "Two."], "question": "How many?", "answer": "two"},
            {"context": "It rained.", "query": "Weather?", "input": "Monday", "answer": "rain"},
        ],
        [("user: When?\n\nIt began on 31 August.", "31 August"),
         ("user: What do cats do?\n\nCats sleep.", "sleep"),
         ("user: How many?\n\nOne.\n\nTwo.", "two"),
         ("user: Weather?\n\nMonday\n\nIt rained.", "rain")],
    ),
    "a context that is no text": Case(
        [{"context": {"title": ["x"]}, "question": "When?", "answer": "now"}],
        [], ["context is not text"],
    ),
    "answers as a list, as SQuAD has them": Case(
        [{"id": "1", "title": "T", "context": "In 1990.", "question": "When?",
          "answers": {"text": ["1990", "in 1990"], "answer_start": [3, 0]}},
         {"context": "Nothing.", "question": "Who?", "answers": {"text": [], "answer_start": []}}],
        [("user: When?\n\nIn 1990.", "1990"), ("user: Who?\n\nNothing.", None)],
        left_out=["id", "title", "answers (others than the first)"],
    ),
    "weights": Case(
        [
            {"messages": [user("a?"), said("b", weight=0), user("c?"), said("d", weight=1)]},
            {"messages": [user("e?"), said("f", weight=0)]},
            {"messages": [user("g?"), said("h", weight=1), user("i?"), said("j", weight=0)]},
            {"conversations": [human("k?"), gpt("l", weight=0)]},
            {"messages": [user("m?"), said("n", train=False)]},
            {"messages": [user("o?"), said("p", refusal=None, name="")]},
        ],
        [("user: a?\nassistant: b\nuser: c?", "d"), ("user: e?", None), ("user: g?", "h"),
         ("user: k?", None), ("user: m?", None), ("user: o?", "p")],
    ),
    "reasoning apart from the answer": Case(
        [
            {"messages": [user("q"), said("a", reasoning_content="think")]},
            {"messages": [user("q2"), said("<think>t</think>a")]},
            {"messages": [user("q3"), said("a3", reasoning_content="")]},
            {"question": "q4", "answer": "a4", "reasoning": "because"},
        ],
        [("user: q2", "<think>t</think>a"), ("user: q3", "a3")],
        ["an answer with its reasoning apart"] * 2,
    ),
    "reasoning dropped": Case(
        [
            {"messages": [user("q"), said("a", reasoning_content="think")]},
            {"messages": [user("q2"), said("<think>t</think>\n\na2")]},
            {"question": "q4", "answer": "a4", "reasoning": "because"},
        ],
        [("user: q", "a"), ("user: q2", "a2"), ("user: q4", "a4")],
        left_out=["messages.reasoning", "reasoning"],
        settings={"options": Options(turns=Turns(reasoning="drop"))},
    ),
    "reasoning set aside": Case(
        [{"messages": [user("q2"), said("<think>t</think>a")]}],
        [], ["an answer with its reasoning apart"],
        settings={"options": Options(turns=Turns(reasoning="set_aside"))},
    ),
    "reasoning as the template writes it": Case(
        [
            {"messages": [user("q"), said("a", reasoning_content="think")]},
            {"question": "q4", "answer": "a4", "reasoning": "because"},
        ],
        [("user: q", "<think>\nthink\n</think>\n\na"),
         ("user: q4", "<think>\nbecause\n</think>\n\na4")],
        settings={"options": Options(reasoning=("<think>\n", "\n</think>\n\n"))},
    ),
    "preference pairs": Case(
        [
            {"conversations": [human("q1")], "chosen": gpt("good"), "rejected": gpt("bad")},
            {"instruction": "q2", "input": "", "chosen": "good", "rejected": "bad"},
            {"chosen": [user("q3"), said("good")], "rejected": [user("q3"), said("bad")],
             "score_chosen": 6.0},
            {"prompt": "q4", "chosen": "good", "rejected": "bad"},
            {"prompt": [user("q5")], "chosen": [said("good")], "rejected": [said("bad")]},
            {"prompt": "q6", "chosen": [user("q6"), said("good")], "rejected": [said("bad")]},
            {"conversations": [human("q7")], "chosen": "good", "rejected": "bad"},
            {"chosen": "\n\nHuman: q8\n\nAssistant: good", "rejected": "\n\nHuman: q8"},
        ],
        [(f"user: q{i}", "good") for i in range(1, 9)],
        left_out=["rejected", "score_chosen"],
    ),
    "answers marked as bad": Case(
        [
            {"prompt": "q", "completion": "Go away.", "label": False},
            {"prompt": "q", "completion": "Hello!", "label": True},
            {"prompt": "q", "completion": "Go away.", "label": "False"},
            {"messages": [user("q"), said("Go away.")], "kto_tag": False},
            {"prompt": [user("q")], "completion": [said("Go away.")], "label": False},
            {"prompt": "q", "completion": "fine", "label": 0},
        ],
        [("user: q", "Hello!"), ("user: q", "fine")],
        ["an answer marked as bad"] * 4,
        ["label"],
    ),
    "calls of tools": Case(
        [
            {"messages": [user("q"), {"role": "assistant", "tool_calls": [CALL]}], "tools": [1]},
            {"messages": [user("q"), said("", tool_calls=[CALL])]},
            {"messages": [user("q"), said("Let me look.", tool_calls=[CALL])]},
            {"messages": [user("q"), said("x", function_call={"name": "f"})]},
            {"messages": [user("q"), {"role": "function", "name": "f", "content": "1"}, said("1")]},
            {"conversations": [human("q"), {"from": "function_call", "value": "{}"}, gpt("1")]},
            {"conversations": [human("q"), {"from": "observation", "value": "{}"}, gpt("1")]},
            {"messages": [user("q"), said("", tool_calls=None, function_call=None)]},
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "1"}]}]},
            {"messages": [user("q2"), said("a2", tool_calls=[])], "tools": [CALL]},
        ],
        [("user: q", None), ("user: q2", "a2")],
        ["calls a tool"] * 8,
        ["tools"],
    ),
    "pictures, sound and video": Case(
        [
            {"messages": [user("<image>What?"), said("A cat.")], "images": ["cat.png"]},
            {"image": "x.jpg", "conversations": [human("What?"), gpt("A cat.")]},
            {"prompt": "What?", "completion": "A song.", "audio": {"path": "x.wav"}},
            {"prompt": "What?", "completion": "A film.", "videos": ["x.mp4"]},
            {"messages": [{"role": "user", "content": [
                {"type": "text", "text": "What?"}, {"type": "image_url", "image_url": "x"}]}]},
            {"prompt": "q", "completion": "a", "image": None, "images": []},
        ],
        [("user: q", "a")],
        ["has images", "has images", "has audio", "has video", "has images"],
    ),
    "pictures left out by name": Case(
        [{"prompt": "q", "completion": "a", "image": "x.png"}],
        [("user: q", "a")], left_out=["image"], settings={"without": ("Image",)},
    ),
    "options of a question": Case(
        [
            {"question": "Which?", "options": ["A) blue", "B) seven"], "answer": "A"},
            {"question": "Which?", "choices": ["blue", "seven"], "answer": "A"},
            {"question": "Which?", "choices": ["blue", "seven"], "answer": "blue"},
            {"question": "Which?", "choices": {"text": ["blue", "seven"], "label": ["1", "2"]},
             "answerKey": "2"},
            {"question": "Which?", "options": {"A": "blue", "B": "seven"}, "answer": "B"},
            {"question": "Which?", "A": "blue", "B": "seven", "answer": "B"},
            {"question": "Which?", "option_a": "blue", "option_b": "seven", "answer": "b"},
            {"instruction": "Choose.", "question": "Which?", "choices": '["blue", "seven"]',
             "output": "A"},
            {"question": "Which?", "choices": [], "answer": "blue"},
        ],
        [("user: Which?\n\nA) blue\nB) seven", "A"),
         ("user: Which?\n\nA. blue\nB. seven", "A"),
         ("user: Which?\n\n- blue\n- seven", "blue"),
         ("user: Which?\n\n1. blue\n2. seven", "2"),
         ("user: Which?\n\nA. blue\nB. seven", "B"),
         ("user: Which?\n\nA. blue\nB. seven", "B"),
         ("user: Which?\n\nA. blue\nB. seven", "b"),
         ("user: Choose.\n\nWhich?\n\nA. blue\nB. seven", "A"),
         ("user: Which?", "blue")],
    ),
    "options by their place, from 0": Case(
        [{"question": "q", "choices": ["x", "y"], "answer": i} for i in (1, 0)],
        [("user: q\n\nA. x\nB. y", "B"), ("user: q\n\nA. x\nB. y", "A")],
    ),
    "options by their place, from 1": Case(
        [{"question": "q", "choices": ["x", "y"], "answer": i} for i in (1, 2)],
        [("user: q\n\nA. x\nB. y", "A"), ("user: q\n\nA. x\nB. y", "B")],
    ),
    "options by their place, from nobody knows where": Case(
        [{"question": "q", "choices": ["x", "y", "z"], "answer": 1}],
        [], ["an answer by its place"],
    ),
    "options that are no texts": Case(
        [{"question": "q", "options": [{"x": 1}], "answer": "A"},
         {"question": "q", "options": "[1, ", "answer": "A"}],
        [], ["options is not a list of texts", "options is not a list"],
    ),
    "a question beside an instruction": Case(
        [
            {"instruction": "Answer with one word.", "question": "Italy's capital?",
             "output": "Rome"},
            {"instruction": "Answer.", "input": "Think of maps.", "question": "Italy's capital?",
             "output": "Rome"},
            {"instruction": "Summarise.", "document": "It rained.", "output": "Rain."},
        ],
        [("user: Answer with one word.\n\nItaly's capital?", "Rome"),
         ("user: Answer.\n\nThink of maps.\n\nItaly's capital?", "Rome"),
         ("user: Summarise.\n\nIt rained.", "Rain.")],
    ),
    "words for no input": Case(
        [
            {"instruction": "Name a colour.", "input": text, "output": "Blue."}
            for text in ("<noinput>", "Noinput", "N/A", "nan", "None", "no input")
        ]
        + [{"instruction": "What is", "input": "None of these", "output": "None"}],
        [("user: Name a colour.", "Blue.")] * 6 + [("user: What is\n\nNone of these", "None")],
    ),
    "missing cells": Case(
        [
            {"instruction": "i1", "input": float("nan"), "output": "o1"},
            {"instruction": "i2", "input": None, "output": float("nan")},
            {"prompt": "i3", "completion": "nan"},
            {"messages": float("nan"), "prompt": "i4", "completion": "o4"},
        ],
        [("user: i1", "o1"), ("user: i2", None), ("user: i3", None), ("user: i4", "o4")],
    ),
    "a problem, its solution and its answer": Case(
        [
            {"problem": "1+1?", "solution": "One and one are 2.", "answer": "2"},
            {"problem": "2+2?", "solution": "Count.", "answer": "4"},
            {"problem": "3+3?", "solution": "", "answer": "6"},
            {"problem": "4+4?", "answer": "8", "source": "a book"},
        ],
        [("user: 1+1?", "One and one are 2."), ("user: 2+2?", "Count.\n\n4"), ("user: 3+3?", "6"),
         ("user: 4+4?", "8")],
        left_out=["source"],
    ),
    "alternating texts": Case(
        [
            {"id": "0", "data": ["a?", "b"]},
            {"id": "1", "data": ["a?", "b", "c?", "d"]},
            {"conversations": ["a?", "b"], "source": "s"},
            {"conversations": ["a?"]},
            {"dialog": ["a?", "b", "c?"]},
        ],
        [("user: a?", "b"), ("user: a?\nassistant: b\nuser: c?", "d"), ("user: a?", "b"),
         ("user: a?", None), ("user: a?\nassistant: b\nuser: c?", None)],
        left_out=["id", "source"],
    ),
    "the user's turns alone": Case(
        [
            {"question_id": 81, "turns": ["Write.", "Rewrite."], "category": "writing"},
            {"turns": ["Write."]},
            {"prompt": ["Write.", "Rewrite."], "prompt_id": 1},
        ],
        [("user: Write.", None)] * 3,
        left_out=["question_id", "category", "turns (after the first)", "prompt_id",
                  "prompt (after the first)"],
    ),
    "questions and answers in pairs": Case(
        [
            {"conversation": [{"input": "a?", "output": "b"}, {"input": "c?", "output": "d"}]},
            {"conversation": [["a?", "b"], ["c?", "d"]]},
            {"conversation": [{"user": "a?", "assistant": "b"}, {"user": "c?", "assistant": "d"}]},
            {"conversation": [{"user": "a?"}, {"assistant": "b"}, {"user": "c?"}, {"bot": "d"}]},
            {"messages": {"role": ["user", "assistant", "user", "assistant"],
                          "content": ["a?", "b", "c?", "d"]}},
            {"conversations": '{"from": ["human", "gpt", "human", "gpt"], '
                              '"value": ["a?", "b", "c?", "d"]}'},
        ],
        [("user: a?\nassistant: b\nuser: c?", "d")] * 6,
    ),
    "lists of turns without a name": Case(
        [[user("q"), said("a")], [human("q2"), gpt("a2")], [1, 2], []],
        [("user: q", "a"), ("user: q2", "a2")],
        ["not an object"] * 2,
    ),
    "the assistant begins": Case(
        [
            {"conversations": [gpt("Hello!"), human("q"), gpt("a")]},
            {"messages": [{"role": "system", "content": "s"}, said("Hello!"), user("q")]},
            {"conversations": [gpt("Hello!")]},
        ],
        [("user: q", "a"), ("system: s\nuser: q", None)],
        ["no user turn"],
        ["conversations (before the first user turn)", "messages (before the first user turn)"],
    ),
    "content in parts": Case(
        [
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]},
            {"messages": [{"role": "user", "content": [{"type": "text", "value": "q"}]}]},
            {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "q"}]}]},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"},
                                                       {"type": "text", "text": "!"}]}]},
        ],
        [("user: q", None)] * 3 + [("user: q!", None)],
    ),
    "names in any case": Case(
        [
            {"Prompt": "q", "Completion": "a"},
            {"INSTRUCTION": "q", "Input": "", "OUTPUT": "a"},
            {" question ": "q", "Answer": "a"},
            {"user": "q", "assistant": "a"},
            {"Human": "q", "GPT": "a"},
        ],
        [("user: q", "a")] * 5,
    ),
    "turn marks in one text": Case(
        [
            {"text": "### Human: q### Assistant: a"},
            {"text": "### Human: q\n### Assistant: a\n### Human: q2\n### Assistant: a2"},
            {"text": "<s>[INST] q [/INST] a </s>"},
            {"text": "<s>[INST] <<SYS>>\ns\n<</SYS>>\n\nq [/INST] a </s><s>[INST] q2 [/INST]"},
            {"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"},
            {"text": "<|user|>\nq</s>\n<|assistant|>\na</s>"},
            {"text": "<start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\na<end_of_turn>"},
            {"text": "Below is an instruction that describes a task.\n\n### Instruction:\nq\n\n"
                     "### Input:\nx\n\n### Response:\na"},
            {"text": "The film is good."},
            {"text": "### Human: q"},
            {"text": "### Assistant: a### Human: q### Assistant: b### Assistant: c"},
        ],
        [("user: q", "a"), ("user: q\nassistant: a\nuser: q2", "a2"), ("user: q", "a"),
         ("system: s\nuser: q\nassistant: a\nuser: q2", None), *[("user: q", "a")] * 3,
         ("user: q\n\nx", "a")],
        ["no known layout"] * 3,
        settings={"control": ("<|im_start|>", "<|im_end|>")},
    ),
    "a tree of messages": Case(
        [
            {"message_id": "b1", "parent_id": "b0", "text": "late", "role": "assistant",
             "rank": 1},
            {"message_id": "a0", "parent_id": None, "text": "q", "role": "prompter"},
            {"message_id": "a1", "parent_id": "a0", "text": "worse", "role": "assistant",
             "rank": 1},
            {"message_id": "a2", "parent_id": "a0", "text": "best", "role": "assistant",
             "rank": 0},
            {"message_id": "a3", "parent_id": "a2", "text": "q2", "role": "prompter"},
            {"message_id": "b0", "parent_id": None, "text": "p", "role": "prompter"},
            {"message_id": "a4", "parent_id": "a3", "text": "a2", "role": "assistant"},
            {"message_id": "c1", "parent_id": "c1", "text": "own", "role": "prompter"},
        ],
        [("user: q\nassistant: best\nuser: q2", "a2"), ("user: p", "late")],
        ["a turn in the chat of another row", "another reply is ranked higher",
         "a turn in the chat of another row", "a turn in the chat of another row",
         "a turn in the chat of another row", "another reply is ranked higher"],
    ),
    "a template": Case(
        [{"id": "1", "dialogue": "Amanda: I baked cookies.", "summary": "Amanda baked."},
         {"id": "2", "dialogue": "", "summary": "Nothing."}],
        [("user: Summarise.\n\nAmanda: I baked cookies.", "Amanda baked.")],
        ["no dialogue"],
        ["id"],
        {"columns": {"completion": "summary"},
         "options": Options(template="Summarise.\n\n{dialogue}")},
    ),
    "a template with more than one column": Case(
        [{"Title": "Rain", "text": "It {rained}.", "score": 3, "answer": "yes"}],
        [("user: Rain: It {rained}. (3) Rain", "yes")],
        settings={"options": Options(template="{Title}: {text} ({score}) {Title}")},
    ),
    "columns beside others of the usual names": Case(
        [{"prompt": "ignored", "q": "asked", "question": "ignored too", "completion": "a"}],
        [("user: asked", "a")],
        left_out=["question"],
        settings={"columns": {"prompt": "q"}},
    ),
}  # fmt: skip


def shown(prompt: list[dict[str, str]]) -> str:
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def parse(rows, folder, **settings):
    columns = settings.pop("columns", {})
    path = write(folder, "x.jsonl", jsonl(rows))
    return parse_file(Job("src", "x.jsonl", path, "auto", columns, None, False, **settings))


@pytest.mark.parametrize("name", CASES)
def test_a_layout(name, tmp_path):
    case = CASES[name]
    part = parse(case.rows, tmp_path, **case.settings)
    records = [(shown(r["prompt"]), r["answer"]) for r in part.records.to_pylist()]
    assert records == case.records
    assert part.rejects["kind"].to_pylist() == case.rejects
    assert [n for n in case.left_out if n not in part.notes.left_out] == []
    if not case.left_out and case.records and not case.rejects:
        assert not part.notes.left_out
    assert part.read == len(part.records) + len(part.rejects)
    assert sum(taken.rows for taken in part.notes.layouts.values()) == len(records)


def test_turns_without_weight_are_noted(tmp_path):
    case = CASES["weights"]
    part = parse(case.rows, tmp_path)
    assert part.records["unsupervised"].to_pylist() == [[1], None, None, None, None, None]


PAIRS = [{"is": "Halló heimur", "en": "Hello world"}, {"is": "Já", "en": "Yes"}]
TEMPLATE = Parallel(templates=["{source}>{target}: {text}"])
FLAGS = [{"id": str(i), "is_correct": "True", "sentence": "A cat."} for i in range(3)]


@pytest.mark.parametrize(
    ("rows", "prompts"),
    [
        (PAIRS, ["Icelandic>English: Halló heimur", "Icelandic>English: Já"]),
        ([{"id": i, **row} for i, row in enumerate(PAIRS)],
         ["Icelandic>English: Halló heimur", "Icelandic>English: Já"]),
        ([{"is_sentence": "Halló", "en_sentence": "Hello", "n": 1}], ["Icelandic>English: Halló"]),
        ([{"text_is": "Halló", "text_en": "Hello"}], ["Icelandic>English: Halló"]),
        ([{"translation": {"is": "Halló", "en": "Hello"}}], ["Icelandic>English: Halló"]),
    ],
)  # fmt: skip
def test_translations_by_names_and_values(rows, prompts, tmp_path):
    part = parse(rows, tmp_path, options=Options(parallel=TEMPLATE))
    assert [r["prompt"][0]["content"] for r in part.records.to_pylist()] == prompts
    assert list(part.notes.guesses) == [
        "translations from Icelandic into English, by the columns' names"
    ]


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (FLAGS, "columns: {prompt: sentence}"),
        ([{"id": "q-1", "no": 4}], "id and no are named like a translation but "
         "id holds no texts (q-1); if they are one set format: parallel"),
        ([{"isl": "isl", "eng": "eng", "Halló": "Bless"}], "set header: false"),
        ([{"source": "wikipedia", "target": "positive", "text": "Good."}], "format: parallel"),
        ([{"src": "Hello", "tgt": "Halló"}], "parallel.source and parallel.target"),
        ([{"is": "label", "no": "label"}] * 3, "both hold the same"),
        ([{"is": "one", "no": f"text {i}"} for i in range(40)], "is holds no texts (one)"),
        ([{"is": "Já", "en": "Yes", "de": "Ja"}], "is, en, de may be languages; say which two"),
    ],
)  # fmt: skip
def test_names_alone_make_no_translation(rows, advice, tmp_path):
    part = parse(rows, tmp_path)
    assert not len(part.records)
    assert advice in part.rejects["reason"][0].as_py()


@pytest.mark.parametrize(
    ("rows", "parallel", "expected"),
    [
        ([{"src": "Hello", "tgt": "Halló"}], {"source": "en", "target": "is"},
         ("English>Icelandic: Hello", "Halló")),
        ([{"source": "Hello", "target": "Halló"}], {"source": "en", "target": "is"},
         ("English>Icelandic: Hello", "Halló")),
        ([{"source_text": "Hello", "target_text": "Halló"}],
         {"source": "en", "target": "is", "reverse": True}, ("Icelandic>English: Halló", "Hello")),
    ],
)  # fmt: skip
def test_translations_that_are_asked_for(rows, parallel, expected, tmp_path):
    settings = Options(parallel=Parallel(templates=TEMPLATE.templates, **parallel))
    for format in ("auto", "parallel"):
        path = write(tmp_path, "x", jsonl(rows))
        part = parse_file(Job("s", "x", path, format, {}, None, False, options=settings))
        [record] = part.records.to_pylist()
        assert (record["prompt"][0]["content"], record["answer"]) == expected


def test_languages_that_nobody_named_are_not_in_the_instruction(tmp_path):
    path = write(tmp_path, "x", jsonl([{"src": f"Hello {i}", "tgt": "Halló"} for i in range(20)]))
    part = parse_file(Job("s", "x", path, "parallel", {}, None, False))
    texts = [r["prompt"][0]["content"] for r in part.records.to_pylist()]
    assert not [t for t in texts if "src" in t or "tgt" in t or "{" in t]
    assert "for instructions that name the languages" in next(iter(part.notes.guesses))


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"id": "1", "dialogue": "Amanda: hi.", "summary": "Amanda greets."},
         "columns id, dialogue, summary; nearest is prompt_completion, with columns: {prompt: "
         "dialogue, completion: summary}, or with an instruction, template: 'What to do with "
         r"it.\n\n{dialogue}' and columns: {completion: summary}"),
        ({"promt": "Say hi.", "x": "y"}, "columns: {prompt: promt, completion: x}"),
        ({"frage": "Wie geht es?", "antwort": "Gut."}, "{prompt: frage, completion: antwort}"),
        ({"input": 0.5, "output": 1}, "the column input holds numbers"),
        ({"text": "Only prose."}, "columns: {prompt: text}"),
    ],
)  # fmt: skip
def test_a_row_of_no_known_layout_says_what_would_read_it(row, advice, tmp_path):
    part = parse([row], tmp_path)
    assert advice in part.rejects["reason"][0].as_py()
    assert part.rejects["kind"].to_pylist() == ["no known layout"]


def test_numbers_are_text_where_all_of_a_column_are(tmp_path):
    rows = [{"question": f"q{i}", "answer": i} for i in range(4)]
    assert parse(rows, tmp_path).records["answer"].to_pylist() == ["0", "1", "2", "3"]
    rows = [{"question": f"q{i}", "answer": i == 1} for i in range(2)]
    assert parse(rows, tmp_path).records["answer"].to_pylist() == ["false", "true"]
    rows = [{"question": f"q{i}", "answer": "words"} for i in range(4)]
    part = parse([*rows, {"question": "q", "answer": 7}], tmp_path)
    assert part.rejects["kind"].to_pylist() == ["answer is not text"]
    rows = [{"question": i, "answer": "words"} for i in range(4)]
    assert parse(rows, tmp_path).rejects["kind"].to_pylist() == ["question is not text"] * 4
