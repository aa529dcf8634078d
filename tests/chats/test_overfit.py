"""What is trained is what is generated and scored: a model that knows its rows by heart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from delia_ray.chats.encode import Encoded, encode
from delia_ray.config import Suite, TransformersEngine
from delia_ray.engines import Request, make_engine
from delia_ray.evaluate.scoring import score_suite
from delia_ray.models import end_ids, load_tokenizer, thoughts_of
from tests.chats.styles import ALL
from tests.mix.templates import make_tokenizer

COLOURS = ("Blue", "Red", "\nGreen")
"""The last begins with a line break, as the prompt ends with one."""
ROWS = [
    ([{"role": "user", "content": f"Name colour {i % 3}. ({i})"}], COLOURS[i % 3]) for i in range(9)
]


def _saved(style: str, folder: Path) -> str:
    tokenizer, (end, *_) = make_tokenizer(ALL[style], merges_lines=True)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=128, eos_token_id=end, pad_token_id=0,
            bos_token_id=None, tie_word_embeddings=True,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _by_heart(path: str) -> None:
    """Train the model in ``path`` on the rows, each with its mask, and save it there."""
    tokenizer = load_tokenizer(path)
    rows = encode(tokenizer, ROWS, end_ids(path))
    assert all(isinstance(row, Encoded) for row in rows)
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows])
    counts = [np.pad(row.supervised, (0, width - len(row.ids))) for row in rows]
    labels = torch.where(torch.tensor(np.array(counts)), ids, -100)
    model = LlamaForCausalLM.from_pretrained(path)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss: Any = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Of matrices as small as these, threads mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("style", ["thinks", "next marker", "chatml"])
def test_rows_known_by_heart_score_one(style: str, tmp_path: Path) -> None:
    path = _saved(style, tmp_path / "m")
    _by_heart(path)
    generate = make_engine(TransformersEngine(), path).load()
    done = generate([Request(str(i), prompt, 16) for i, (prompt, _) in enumerate(ROWS)])
    assert {c.finish_reason for c in done} == {"stop"}
    found = score_suite(
        Suite(name="held", path="x"), [c.text for c in done], [answer for _, answer in ROWS],
        [False] * len(ROWS), thoughts=thoughts_of(path), resamples=100, confidence=0.9, seed=0,
    )  # fmt: skip
    assert found.metrics["exact_match"]["value"] == 1
    # Exactly what was trained: one style takes line breaks off an answer, with another the model
    # itself writes the one behind the header.
    written = {"thinks": str.strip, "next marker": "\n{}".format, "chatml": str}[style]
    assert [c.text for c in done] == [written(answer) for _, answer in ROWS]
