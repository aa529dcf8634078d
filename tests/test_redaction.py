import time
from pathlib import Path
from typing import Any

import pytest

from delia_ray import pipeline
from delia_ray.artifacts import open_storage
from delia_ray.chat import model_of
from delia_ray.config import RunConfig, Source
from delia_ray.errors import UserError
from delia_ray.ingest.sources import feeds
from delia_ray.redaction import (
    CUT,
    identity,
    is_redacted,
    redact,
    redact_message,
    redacted,
    restored,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pa%40ss@host/x.jsonl", "https://***@host/x.jsonl"),
        ("https://ghp_0123456789@host/x", "https://***@host/x"),
        ("ftp://me:secret@host:21/x", "ftp://***@host:21/x"),
        ("simplecache::sftp://me:p@ss@host/x", "simplecache::sftp://***@host/x"),
        ("https://b.s3.amazonaws.com/x?X-Amz-Signature=ab12&X-Amz-Expires=60&part=2",
         "https://b.s3.amazonaws.com/x?X-Amz-Signature=***&X-Amz-Expires=***&part=2"),
        ("https://a.blob.core.windows.net/c/x?sv=2024&sig=a%2Fb&sr=b",
         "https://a.blob.core.windows.net/c/x?sv=***&sig=***&sr=***"),
        ("https://h/x?access_token=abc#row", "https://h/x?access_token=***#row"),
        ("abfs://container@account.dfs.core.windows.net/x", None),
        ("s3://bucket/key", None),
        ("hf://datasets/owner/name@main", None),
        ("https://h/x?page=2&split=train", None),
        ("mail me@host.org; a = b; is it 3 > 2?x", None),
    ],
)  # fmt: skip
def test_credentials_go_and_the_rest_stays(text: str, shown: str | None) -> None:
    assert redact(text) == (text if shown is None else shown)
    assert redact(redact(text)) == redact(text)


def test_settings_that_call_themselves_secret() -> None:
    tree = {
        "kwargs": {"hf_token": "abc", "api_key": "k", "max_tokens": 512, "token": ""},
        "storage_options": {"aws_secret_access_key": "s", "client_secret": "c", "anon": False},
        "special_tokens": {"<sep>": "json"}, "token_init": "random", "pull_secret": "name-of-it",
        "path": "https://u:p@h/x", "several": ["https://u:p@h/x"],
    }  # fmt: skip
    cut = redacted(tree)
    assert cut["kwargs"] == {"hf_token": CUT, "api_key": CUT, "max_tokens": 512, "token": ""}
    assert cut["storage_options"] == {
        "aws_secret_access_key": CUT, "client_secret": CUT, "anon": False,
    }  # fmt: skip
    assert {k: cut[k] for k in ("special_tokens", "token_init", "pull_secret")} == {
        k: tree[k] for k in ("special_tokens", "token_init", "pull_secret")
    }
    assert cut["path"] == "https://***@h/x"
    assert is_redacted(cut)
    assert not is_redacted({"a": ["s3://bucket/x", 3, None]})
    assert restored(cut, tree) == tree


def test_messages_hide_settings_too() -> None:
    said = redact_message("kwargs={'hf_token': 'abcdef', 'dtype': 'auto'}: api_key=xyz123 failed")
    assert "abcdef" not in said
    assert "xyz123" not in said
    assert "'dtype': 'auto'" in said


def test_a_source_is_told_from_another_by_all_of_its_url() -> None:
    one, two = (identity(f"https://u:{p}@h/x") for p in ("p", "q"))
    assert one != two
    assert one.startswith("https://***@h/x (")
    assert identity("data/x.jsonl") == "data/x.jsonl"


@pytest.mark.parametrize(
    "piece", ["://", "?a=", "&token=", "://a:", "http://", "token: ", "@", "x"]
)
def test_time_is_linear(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    began = time.perf_counter()
    redact_message(text)
    assert time.perf_counter() - began < 5


def test_nothing_of_a_url_reaches_tables_and_counts(tmp_path: Path) -> None:
    url = f"file://user:hunter2@/{tmp_path}/x.jsonl"
    source = Source(path=url)
    assert "hunter2" not in source.label
    config = RunConfig(corpus=[source])
    (feed,) = [f for f in feeds(config) if f.group == "corpus"]
    assert "hunter2" not in feed.label


def test_a_storage_with_credentials_is_refused() -> None:
    with pytest.raises(ValueError, match=r"https://\*\*\*@host/x holds credentials") as error:
        RunConfig(storage="https://user:hunter2@host/x")
    assert "hunter2" not in str(error.value).split("[type=")[0].split("input")[0]


def test_the_saved_recipe_can_be_read_again_without_them(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "model": "https://user:hunter2@host/model",
        "corpus": [{"path": "https://h/x?sig=hunter2"}],
        "synthesize": {"engine": {"type": "vllm", "kwargs": {"hf_token": "hunter2"}}},
    }
    config = RunConfig.model_validate(tree)
    run = open_storage(str(tmp_path))
    run.write_json("config.json", redacted(config.model_dump(mode="json")))
    assert "hunter2" not in (tmp_path / "config.json").read_text()
    read, folders = pipeline.finished(run)
    assert not folders
    with pytest.raises(UserError, match="credentials are not kept"):
        model_of(read, None, "base")
    again = restored(read.model_dump(mode="json"), config.model_dump(mode="json"))
    assert RunConfig.model_validate(again) == config
