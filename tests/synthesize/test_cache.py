"""Completions are kept by content, and failed ones are asked again."""

from pathlib import Path

import pyarrow as pa

from delia_ray.artifacts import open_storage
from delia_ray.synthesize.cache import COMPLETION, Cache


def _batch(*keys: str, error: str = "") -> pa.Table:
    return pa.table(
        {
            "key": list(keys),
            "text": [f"text of {k}" for k in keys],
            "finish_reason": ["stop"] * len(keys),
            "prompt_tokens": [1] * len(keys),
            "completion_tokens": [2] * len(keys),
            "error": [error] * len(keys),
        }
    )


def test_written_batches_come_back(tmp_path: Path) -> None:
    cache = Cache(open_storage(str(tmp_path)) / "c")
    assert cache.read({"a"}) == {}
    counted = cache.write(_batch("a", "b"))
    assert counted.to_pylist() == [{"rows": 2, "tokens": 4, "failed": 0, "error": ""}]
    cache.write(_batch("c"))
    assert set(cache.read({"a", "c", "x"})) == {"a", "c"}
    assert cache.read({"a"})["a"]["text"] == "text of a"


def test_failures_are_counted_and_not_kept(tmp_path: Path) -> None:
    cache = Cache(open_storage(str(tmp_path)) / "c")
    both = pa.concat_tables([_batch("a"), _batch("b", error="ValueError: too long")])
    assert cache.write(both.cast(COMPLETION))["error"].to_pylist() == ["ValueError: too long"]
    assert set(cache.read({"a", "b"})) == {"a"}


def test_a_half_written_batch_is_not_seen(tmp_path: Path) -> None:
    cache = Cache(open_storage(str(tmp_path)) / "c")
    cache.write(_batch("a"))
    (tmp_path / "c" / "part-x.parquet.tmp-12345678").write_bytes(b"PAR1...")
    assert set(cache.read({"a"})) == {"a"}
