import os

import pytest

from delia_ray.errors import UserError
from delia_ray.ingest import hub
from delia_ray.ingest.files import digest_file, find, pair

from .helpers import jsonl, write

ROW = jsonl([{"prompt": "hi"}])


def names(path):
    return [file.name for file in find(str(path), "corpus[0].path").files]


@pytest.fixture
def tree(tmp_path):
    data = ["b.jsonl", "a.JSON.gz", "sub/c.parquet", "sub/d.csv"]
    other = ["README.md", ".hidden.jsonl", "_SUCCESS.json", ".git/x.json", "dataset_infos.json"]
    for name in data + other:
        write(tmp_path, name, ROW)
    return tmp_path


def test_file_folder_and_glob(tree):
    assert names(tree / "b.jsonl") == ["b.jsonl"]
    assert names(tree / "README.md") == ["README.md"]
    assert names(tree) == ["a.JSON.gz", "b.jsonl", "sub/c.parquet", "sub/d.csv"]
    assert names(f"{tree}/") == names(tree)
    assert names(tree / "*.jsonl")[-1] == "b.jsonl"
    assert names(tree / "sub/*") == ["c.parquet", "d.csv"]
    assert names(tree / "*/*.csv") == ["sub/d.csv"]
    assert names(f"file://{tree}/sub") == ["c.parquet", "d.csv"]


def test_what_datasets_saved(tmp_path, monkeypatch):
    import datasets

    rows = datasets.Dataset.from_list([{"prompt": "hi"}])
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "both")
    write(tmp_path, "one/cache-1234.arrow", b"left by a function")
    assert names(tmp_path / "one") == ["data-00000-of-00001.arrow"]
    assert names(tmp_path / "both") == ["data-00000-of-00001.arrow"]
    with pytest.raises(UserError, match=r"has the splits \['train', 'test'\]; set .*\.split"):
        find(str(tmp_path / "both"), "corpus[0]", "validation")
    write(tmp_path, "hub/data/train-1.jsonl", ROW)
    write(tmp_path, "hub/data/test-1.jsonl", ROW)
    [file] = hub.resolve(str(tmp_path / "hub"), None, "test")
    assert file.endswith("data/test-1.jsonl")
    with pytest.raises(ValueError, match="not 'dev'"):
        hub.resolve(str(tmp_path / "hub"), None, "dev")


def test_a_data_set_of_the_hub_is_named_by_its_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.names_dataset("hf://datasets/tatsu-lab/alpaca")
    assert not hub.names_dataset("hf://datasets/tatsu-lab/alpaca/data/x.parquet")
    with pytest.raises(UserError, match="write hf://datasets/tatsu-lab/alpaca"):
        find("tatsu-lab/alpaca", "corpus[0].path")


def test_aligned_files_need_partners(tmp_path):
    one = find(write(tmp_path, "a.is", b"x"), "corpus[0].path").files
    assert pair(one, one, "corpus[0]")[0].aligned == one[0]
    with pytest.raises(UserError, match=r"corpus\[0\]\.parallel\.path names 0 files"):
        pair(one, [], "corpus[0]")


def test_relative_paths_become_absolute(tree, monkeypatch):
    monkeypatch.chdir(tree)
    [file] = find("sub/d.csv", "downstream.path").files
    assert os.path.isabs(file.url)
    assert file.local
    assert file.name == "d.csv"


def test_wildcards_in_a_real_name(tmp_path):
    path = write(tmp_path, "x[1].jsonl", ROW)
    assert names(path) == ["x[1].jsonl"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no/such.jsonl", "no such file or folder"),
        ("no/*.jsonl", "no file matches"),
        ("empty", "no file in this folder can be read by its name; it holds notes.txt"),
        ("nonsense://bucket/x", "cannot be read .*nonsense"),
    ],
)
def test_nothing_there(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "empty/notes.txt", b"")
    with pytest.raises(UserError, match=rf"^corpus\[0\]\.path={path.replace('*', '.')}: {message}"):
        find(path, "corpus[0].path")


def test_digest_follows_the_content(tmp_path):
    path = write(tmp_path, "x.jsonl", ROW)
    [file] = find(path, "downstream.path").files
    before = digest_file(file, "downstream.path")
    os.utime(path, ns=(1, 1))
    assert digest_file(file, "downstream.path") == before
    write(tmp_path, "x.jsonl", ROW.replace(b"hi", b"ho"))
    assert digest_file(file, "downstream.path") != before
    os.remove(path)
    with pytest.raises(UserError, match=r"downstream\.path=.*cannot be read"):
        digest_file(file, "downstream.path")


def test_remote_files_have_digests():
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/ingest/a.jsonl", ROW)
    [file] = find("memory://ingest", "corpus[0].path").files
    assert file.url == "memory:///ingest/a.jsonl"
    assert not file.local
    first = digest_file(file, "corpus[0].path")
    assert digest_file(file, "corpus[0].path") == first
    fs.pipe_file("/ingest/a.jsonl", ROW * 2)
    assert digest_file(file, "corpus[0].path") != first
