"""Copies of protected texts in a corpus are found, whatever their case, punctuation and space."""

import random
import re

import pytest

from delia_ray.config import Leaks
from delia_ray.ingest.curate.leaks import find_leaks, index_of
from delia_ray.ingest.curate.text import bare
from delia_ray.ingest.parse import Job, parse_file

DEFAULT = Leaks()
PROTECTED = [
    f"Translate the following Icelandic text into English.\n\n{text}"
    for text in (
        "The prime minister opened the new bridge over the river on Tuesday morning.",
        "Nobody had expected so much snow in the valley before the end of October.",
        "Short one.",
        *(f"Sentence number {i} of many that need the same instruction {i * 31}" for i in range(9)),
    )
]


def leaks(*rows, protected=PROTECTED, settings=DEFAULT):
    index = index_of(protected, settings)
    return [(leak.row, leak.text) for leak in find_leaks([[row] for row in rows], index)]


def test_equal_but_for_case_punctuation_and_space():
    row = re.sub(r"[.,]", "", PROTECTED[0]).upper().replace(" ", "  ")
    assert leaks("something else entirely, of no importance", row) == [(1, 0)]


def test_a_text_within_a_row_and_a_row_within_a_text():
    inside = "Read this. " + PROTECTED[1].split("\n\n")[1] + " Then " + "say what you think. " * 9
    assert leaks(inside) == [(0, 1)]
    assert leaks("Nobody had expected so much snow in the valley before") == [(0, 1)]


def test_a_shared_instruction_is_no_leak():
    other = "Translate the following Icelandic text into English.\n\nA cat sat on a warm wall."
    assert leaks(other) == []


def test_short_texts_count_where_they_are_equal():
    assert leaks(PROTECTED[2].upper()) == [(0, 2)]
    assert leaks("Yes, it is.", protected=["Yes, it is!"]) == []
    assert leaks("Why is the sky blue?", protected=["why is the SKY blue"]) == [(0, 0)]


def test_nothing_protected_and_nothing_to_search():
    assert leaks("a row", protected=[]) == []
    assert leaks() == []
    assert leaks("", "?") == []


def reworded(text, rng):
    """Lightly: another case, other punctuation, other spacing."""
    text = rng.choice([str.upper, str.lower, str.title, str])(text)
    text = re.sub(r"[.,;:!?\"'()-]", lambda m: rng.choice(["", m[0], "!", " -"]), text)
    return re.sub(r"\s+", lambda m: rng.choice([" ", "  ", "\n", "\t "]), text)


def test_wmt_and_halueval_in_fifty_thousand_rows(data):
    def records(name):
        path = str(data / "messages" / name)
        table = parse_file(Job(name, name, path, "auto", {}, None, False)).records
        return [(r["prompt"][-1]["content"], r["answer"] or "") for r in table.to_pylist()]

    news = records("wmt21_newstest2021.is-en.first_half.jsonl")
    halueval = records("halueval_general.public.sep_label.jsonl.gz")
    protected = [text for row in news + halueval for text in row]
    # Nearly all queries of HaluEval are Alpaca's own: those rows are leaks indeed, not planted.
    own = re.compile(r"[^\n]+")
    queries = {bare(line) for prompt, _ in halueval for line in own.findall(prompt)}
    seen = "\n".join(bare(prompt) for prompt, _ in halueval)
    pool = []
    for prompt, answer in records("alpaca_52k.jsonl.gz"):
        if bare(prompt) not in queries and bare(prompt) not in seen:
            pool.append([prompt, answer])
    rng = random.Random(0)
    planted = [rng.choice(news + halueval) for _ in range(1000)]
    copies = [list(row) for row in planted[:400]]
    copies += [[reworded(text, rng) for text in row] for row in planted[400:]]
    while len(pool) + len(copies) < 50_000:
        words = [rng.choice(rng.choice(pool)[0].split()) for _ in range(12)]
        pool.append([" ".join(words), ""])
    rows = pool[: 50_000 - len(copies)] + copies
    order = rng.sample(range(len(rows)), len(rows))
    index, found = index_of(protected, DEFAULT), set()
    for start in range(0, len(order), 8192):
        batch = order[start : start + 8192]
        found |= {batch[leak.row] for leak in find_leaks([rows[i] for i in batch], index)}
    real = set(range(len(rows) - len(copies), len(rows)))
    hits = len(found & real)
    assert hits / len(real) >= 0.99
    assert hits / len(found) >= 0.99, [rows[i] for i in list(found - real)[:20]]


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_the_share_decides(share):
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    half = text[:50] + " and then it goes on about something else, with many other words"
    assert bool(leaks(half, protected=[text], settings=Leaks(share=share))) == (share < 0.5)
