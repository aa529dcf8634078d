"""Several instructions in one example."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from delia_ray.mix.mosaic import mosaic


def _rows(sources: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"id": str(i), "source": s, "row": i, "prompt": [{"role": "user", "content": f"ask {i}"}],
         "answer": f"say {i}"}
        for i, s in enumerate(sources)
    ]  # fmt: skip


def _asked(row: dict[str, Any]) -> list[str]:
    parts = row["prompt"][0]["content"].split("\n\n")
    return [part.rpartition(". ")[2] for part in parts]


def test_requests_are_numbered_and_answered_in_order() -> None:
    (one, two) = mosaic(_rows("aaa"), 2)
    assert one["prompt"] == [
        {
            "role": "user",
            "content": "Answer each of these 2 requests, in this order, under its number."
            "\n\n1. ask 0\n\n2. ask 1",
        }
    ]
    assert one["answer"] == "1. say 0\n\n2. say 1"
    assert (one["id"], one["row"]) == ("0", 0)
    assert two == _rows("aaa")[2], "one alone needs no number"


def test_conversations_stay_as_they_are() -> None:
    rows = _rows("aaa")
    rows[1]["prompt"].insert(0, {"role": "system", "content": "s"})
    found = list(mosaic(rows, 2))
    assert found[0] == rows[1]
    assert found[1]["answer"] == "1. say 0\n\n2. say 2"


@given(st.text("abc", max_size=30), st.integers(1, 5))
def test_no_row_is_lost_and_sources_stay_apart(sources: str, size: int) -> None:
    found = list(mosaic(_rows(sources), size))
    for number, source in enumerate(sources):
        holders = [f["source"] for f in found if f"ask {number}" in _asked(f)]
        assert holders == [source]
    full = sum(sources.count(s) // size for s in "abc")
    rest = sum(sources.count(s) % size > 0 for s in "abc")
    assert len(found) == full + rest
