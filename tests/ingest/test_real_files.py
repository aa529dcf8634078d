"""Published files as people have them, read without a word about how they are laid out; skipped
where the folder beside the tree is missing."""

import re
from collections import Counter
from pathlib import Path

import pytest

from delia_ray.config import Parallel
from delia_ray.ingest.layouts import Options
from delia_ray.ingest.parse import Job, parse_file

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")
LARGE = ("alpaca_52k", "alpaca_data.json.gz", "alpaca.parquet")

TABLE = [
    # file, rows in, records, rejects by reason
    ("native/delia/train_dataset.jsonl", 100, 100, {}),
    ("native/delia/eval_dataset.jsonl", 11, 11, {}),
    ("native/delia/train_dataset.parquet", 100, 100, {}),
    ("native/alpaca/alpaca_data.json.gz", 52002, 52002, {}),
    ("native/alpaca/alpaca_data_first500.json", 500, 500, {}),
    ("native/alpaca/alpaca.parquet", 52002, 52002, {}),
    ("native/alpaca/alpaca_tiny_with_text.json", 100, 100, {}),
    ("native/self_instruct/seed_tasks.jsonl", 175, 175, {}),
    ("native/p3_prompt_completion/commonsense_qa_question_answering.jsonl", 200, 200, {}),
    ("native/p3_prompt_completion/common_gen_Put_together.jsonl", 200, 200, {}),
    ("native/p3_prompt_completion/dbpedia_14_pick_one_category_for_the_following_text.jsonl",
     200, 200, {}),
    ("native/halueval/general_data.public.json", 3000, 3000, {}),
    ("native/halueval/general_data.public.parquet", 3000, 3000, {}),
    ("native/wmt21/newstest2021.is-en.first_half.src.is", 512, 512, {}),
    ("native/wmt21/newstest2021.is-en.first_half.ref.A.en", 512, 512, {}),
    ("native/wmt21/newstest2021.en-is.first_half.src.en", 501, 501, {}),
    ("native/wmt21/newstest2021.en-is.first_half.ref.A.is", 501, 501, {}),
    ("native/wmt21/system-outputs/newstest2021.is-en.first_half.hyp.Facebook-AI.en", 512, 512, {}),
    ("native/wmt21/system-outputs/newstest2021.is-en.first_half.hyp.Online-G.en", 512, 512, {}),
    ("native/wmt21/system-outputs/newstest2021.en-is.first_half.hyp.Mideind.is", 501, 501, {}),
    ("native/wmt21/newsdev2021.is-en.isl", 2004, 2004, {}),
    ("native/wmt21/newsdev2021.is-en.eng", 2004, 2004, {}),
    ("native/wmt21/newsdev2021.is-en.parquet", 2004, 2004, {}),
    ("native/wmt21/newsdev2021.is-en.csv", 2004, 2004, {}),
    ("native/tatoeba/tatoeba-test-v2021-08-07.eng", 2503, 2503, {}),
    ("native/tatoeba/tatoeba-test-v2021-08-07.isl", 2503, 2503, {}),
    ("native/ntrex/newstest2019-src.eng.first.txt", 1501, 1501, {}),
    ("native/ntrex/newstest2019-ref.isl.first.txt", 1501, 1501, {}),
    ("native/ifeval/input_data.public.jsonl", 300, 300, {}),
    ("native/instruction_wild/user_1.jsonl", 429, 429, {}),
    ("native/instruction_wild/user_2.jsonl", 248, 246, {"not valid JSON": 2}),
    ("native/instruction_wild/seed_prompts_ch.jsonl", 429, 429, {}),
    ("native/awesome_prompts/prompts.csv", 211, 210, {"text behind a closing quote": 1}),
    ("native/sharegpt/dummy_conversation.json", 500, 500, {}),
    ("native/sharegpt/glaive_toolcall_en_demo.json", 300, 147, {"calls a tool": 153}),
    ("native/alpaca_zh/alpaca_zh_demo.json", 1000, 1000, {}),
    ("native/alpaca_zh/alpaca_data-0-3252-zh.json", 3247, 3247, {}),
    ("native/gsm8k/train_first1000.jsonl", 1000, 1000, {}),
    ("messages/delia_official.train.jsonl", 100, 100, {}),
    ("messages/delia_official.eval.jsonl", 11, 11, {}),
    ("messages/alpaca_52k.jsonl.gz", 52002, 52002, {}),
    ("messages/self_instruct_seeds.jsonl", 175, 175, {}),
    ("messages/p3_sample.jsonl", 600, 600, {}),
    ("messages/halueval_general.public.sep_label.jsonl.gz", 2889, 2889, {}),
    ("messages/halueval_general.public.sep_spans.jsonl.gz", 2889, 2889, {}),
    ("messages/wmt21_newstest2021.is-en.first_half.jsonl", 512, 512, {}),
    ("messages/wmt21_newstest2021.en-is.first_half.jsonl", 501, 501, {}),
    ("messages/wmt21_newsdev2021.is-en.jsonl.gz", 2004, 2004, {}),
    ("messages/wmt21_newsdev2021.en-is.jsonl.gz", 2004, 2004, {}),
    ("messages/tatoeba.is-en.jsonl.gz", 2503, 2503, {}),
    ("messages/ntrex.en-is.first.jsonl.gz", 1501, 1501, {}),
    ("messages/ifeval_prompts.public.jsonl", 300, 300, {}),
    ("messages/instruction_wild.public.jsonl", 1104, 1104, {}),
    ("messages/awesome_prompts.jsonl", 210, 210, {}),
    ("messages/fastchat_dummy_sharegpt.jsonl", 500, 500, {}),
    ("messages/alpaca_zh_demo.jsonl.gz", 1000, 1000, {}),
    ("messages/alpaca_zh_0_3252.jsonl.gz", 3247, 3247, {}),
    ("messages/gsm8k_train.jsonl.gz", 7473, 7473, {}),
]  # fmt: skip


def parse(name, columns=None, answers=False, **more):
    return parse_file(
        Job(name, name, str(DATA / name), "auto", columns or {}, None, answers, **more)
    )


def test_the_table_is_whole_and_says_what_the_data_says_of_itself():
    text = (DATA / "PROVENANCE.md").read_text()
    found = re.findall(r"^\| ((?:native|messages)/[^|]+?) \| (\d+) \|", text, re.MULTILINE)
    assert [(name, int(rows)) for name, rows in found] == [row[:2] for row in TABLE]


@pytest.mark.parametrize(("name", "read", "records", "rejects"), TABLE)
def test_every_file(name, read, records, rejects):
    if any(part in name for part in LARGE):
        pytest.skip("below, all three at once")
    part = parse(name)
    kinds = Counter(part.rejects["kind"].to_pylist())
    assert (part.read, len(part.records), kinds) == (read, records, rejects)


def test_alpaca_is_the_same_in_every_layout_and_container():
    names = ["native/alpaca/alpaca_data.json.gz", "native/alpaca/alpaca.parquet",
             "messages/alpaca_52k.jsonl.gz"]  # fmt: skip
    parts = [parse(name) for name in names]
    for part in parts:
        assert part.read == len(part.records) == 52_002
        assert part.records["answer"].null_count == 28
        assert part.records["answer"].equals(parts[0].records["answer"])
    assert parts[1].records["id"].equals(parts[0].records["id"])
    # The uniform file has the words for "no input" in the prompt.
    [said] = parts[0].notes.blanks.values()
    ids = [part.records["id"].to_pylist() for part in (parts[0], parts[2])]
    assert sum(one != two for one, two in zip(*ids, strict=True)) == said.rows == 510


@pytest.mark.parametrize(
    ("native", "uniform", "answers"),
    [
        ("native/self_instruct/seed_tasks.jsonl", "messages/self_instruct_seeds.jsonl", 175),
        ("native/sharegpt/dummy_conversation.json", "messages/fastchat_dummy_sharegpt.jsonl", 500),
        ("native/alpaca_zh/alpaca_zh_demo.json", "messages/alpaca_zh_demo.jsonl.gz", 1000),
        ("native/delia/eval_dataset.jsonl", "messages/delia_official.eval.jsonl", 11),
    ],
)
def test_native_and_uniform_files_give_the_same_answers(native, uniform, answers):
    one, two = parse(native).records["answer"], parse(uniform).records["answer"]
    assert one.equals(two)
    assert len(one) - one.null_count <= answers


@pytest.mark.parametrize(
    ("first", "second", "uniform"),
    [
        ("native/wmt21/newsdev2021.is-en.isl", "native/wmt21/newsdev2021.is-en.eng",
         "messages/wmt21_newsdev2021.is-en.jsonl.gz"),
        ("native/wmt21/newstest2021.en-is.first_half.src.en",
         "native/wmt21/newstest2021.en-is.first_half.ref.A.is",
         "messages/wmt21_newstest2021.en-is.first_half.jsonl"),
        ("native/tatoeba/tatoeba-test-v2021-08-07.isl",
         "native/tatoeba/tatoeba-test-v2021-08-07.eng",
         "messages/tatoeba.is-en.jsonl.gz"),
        ("native/wmt21/newsdev2021.is-en.csv", None, "messages/wmt21_newsdev2021.is-en.jsonl.gz"),
        ("native/wmt21/newsdev2021.is-en.parquet", None,
         "messages/wmt21_newsdev2021.is-en.jsonl.gz"),
    ],
)  # fmt: skip
def test_parallel_text_asked_for_as_the_uniform_files_ask(first, second, uniform):
    template = "Translate the following {source} text into {target}.\n\n{text}"
    options = Options(parallel=Parallel(templates=[template]))
    part = parse(first, options=options, aligned=second and str(DATA / second))
    other = parse(uniform)
    assert not len(part.rejects)
    assert part.records["prompt"].to_pylist() == other.records["prompt"].to_pylist()
    assert part.records["answer"].equals(other.records["answer"])


def test_a_query_without_an_answer_is_no_downstream_row():
    part = parse("native/ifeval/input_data.public.jsonl", answers=True)
    assert not len(part.records)
    assert set(part.rejects["kind"].to_pylist()) == {"no answer"}


def test_constraints_of_ifeval():
    name = "native/ifeval/input_data.public.jsonl"
    part = parse_file(Job(name, name, str(DATA / name), "ifeval", {}, None, True))
    assert len(part.records) == 286
    assert part.rejects["kind"].to_pylist() == [
        "unsupported instruction language:response_language"
    ] * 14  # fmt: skip
