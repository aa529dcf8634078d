"""Completions are kept by content, and only those that are worth keeping."""

from pathlib import Path

import pyarrow as pa
import pytest

from delia_ray.artifacts import open_storage
from delia_ray.errors import DeliaError
from delia_ray.synthesize import cache as module
from delia_ray.synthesize.cache import COMPLETION, Cache, once


def _batch(*keys: str, error: str = "") -> pa.Table:
    return pa.table(
        {
            "key": list(keys),
            "text": [f"text of {k}" for k in keys],
            "finish_reason": ["stop"] * len(keys),
            "prompt_tokens": [1] * len(keys),
            "completion_tokens": [2] * len(keys),
            "seconds": [0.5] * len(keys),
            "error": [error] * len(keys),
        },
        COMPLETION,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(open_storage(str(tmp_path)) / "c", "limits")


def _found(cache: Cache, *keys: str) -> dict[str, str]:
    return {r["key"]: r["text"] for r in cache.read(keys).to_pylist()}


def test_written_batches_come_back(cache: Cache) -> None:
    assert _found(cache, "a") == {}
    assert cache.write(_batch("a", "b")) == _batch("a", "b"), "handed on as it is"
    cache.write(_batch("c"))
    assert _found(cache, "a", "c", "x") == {"a": "text of a", "c": "text of c"}
    assert _found(cache) == {}


def test_failures_are_handed_on_and_not_kept(cache: Cache) -> None:
    both = pa.concat_tables([_batch("a"), _batch("b", error="EngineDeadError: gone")])
    assert cache.write(both)["error"].to_pylist() == ["", "EngineDeadError: gone"]
    assert set(_found(cache, "a", "b")) == {"a"}


def test_refused_requests_are_kept_for_these_limits_only(cache: Cache) -> None:
    """Asking a prompt that is too long again is in vain, unless the limit is another one."""
    cache.write(_batch("a", error="VLLMValidationError: maximum context length is 8"))
    assert cache.read(["a"])["error"][0].as_py().startswith("VLLMValidationError")
    assert len(Cache(cache.folder, "other limits").read(["a"])) == 0


def test_a_half_written_batch_is_not_seen(cache: Cache, tmp_path: Path) -> None:
    cache.write(_batch("a"))
    (tmp_path / "c" / "part-x.parquet.tmp-12345678").write_bytes(b"PAR1...")
    assert set(_found(cache, "a")) == {"a"}


def test_a_key_written_twice_comes_once(cache: Cache) -> None:
    cache.write(_batch("a", "b"))
    cache.write(_batch("b", "c"))
    assert len(cache.read("abc")) == 3
    assert sorted(cache.keys()) == ["a", "b", "b", "c"]
    assert once(pa.concat_tables([_batch("b"), _batch("a", "b")]))["key"].to_pylist() == ["b", "a"]


def test_many_small_files_become_one(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALL", 3)
    for key in "ab":
        cache.write(_batch(key))
    assert cache.compact() == 0, "too few to be worth it"
    cache.write(_batch("a", "c"))
    before = _found(cache, *"abc")
    assert cache.compact() == 3
    assert [n[:4] for n in cache.folder.names()] == ["pack"]
    assert _found(cache, *"abc") == before
    assert cache.compact() == 0


def test_reading_goes_on_while_another_run_packs(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in "abc":
        cache.write(_batch(key))
    listed = module._files
    first = [True]

    def pack_after_listing(folder) -> list[str]:
        names = listed(folder)
        if first and folder.url == cache.folder.url:
            first.clear()
            monkeypatch.setattr(module, "_SMALL", 1)
            cache.compact()
        return names

    monkeypatch.setattr(module, "_files", pack_after_listing)
    assert set(_found(cache, *"abc")) == set("abc")


@pytest.mark.parametrize("column", COMPLETION.names)
def test_a_damaged_file_with_nulls_is_refused(cache: Cache, column: str) -> None:
    cache.write(_batch("a", "b"))
    (name,) = cache.folder.names()
    at = COMPLETION.names.index(column)
    table = _batch("a", "b")
    cache.folder.write_table(
        name, table.set_column(at, column, pa.array([None, None], COMPLETION.field(at).type))
    )
    with pytest.raises(DeliaError, match=f"the column '{column}' has nulls"):
        cache.read(["a"])
