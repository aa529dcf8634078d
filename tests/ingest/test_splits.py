"""Folders of several splits, laid out as `datasets` understands them; what is not read is named."""

import pytest

from delia_ray.errors import UserError
from delia_ray.ingest.files import find

from .helpers import jsonl, write

ROW = jsonl([{"prompt": "q"}])
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: one.jsonl
  - split: held_out
    path: ["two/*.jsonl"]
- config_name: small
  data_dir: small
  data_files: a.jsonl
---
# About
"""


def tree(folder, *names, card=""):
    for name in names:
        write(folder, name, ROW)
    if card:
        write(folder, "README.md", card.encode())
    return str(folder)


def names(path, split="train", subset=None):
    return [file.name for file in find(path, "corpus[0].path", split, subset).files]


@pytest.mark.parametrize(
    ("files", "train", "test"),
    [
        (("train.jsonl", "test.jsonl"), ["train.jsonl"], ["test.jsonl"]),
        (("data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"),
         ["data/train-00000-of-00001.jsonl"], ["data/test-00000-of-00001.jsonl"]),
        (("train/a.csv", "train/b.csv", "eval/a.csv"), ["train/a.csv", "train/b.csv"],
         ["eval/a.csv"]),
        (("my_train_data.json", "my-test.json"), None, ["my-test.json"]),
        (("training.jsonl.gz", "testing.jsonl.gz"), ["training.jsonl.gz"], ["testing.jsonl.gz"]),
    ],
)  # fmt: skip
def test_splits_by_the_names_of_files_and_folders(files, train, test, tmp_path):
    path = tree(tmp_path, *files)
    assert names(path, "test") == test
    if train is not None:
        assert names(path) == train
        not_read = find(path, "corpus[0].path").not_read
        assert not_read == dict.fromkeys(test, "split test")


def test_the_readme_says_which_files_are_of_which_split(tmp_path):
    path = tree(tmp_path, "one.jsonl", "two/x.jsonl", "three.jsonl", "small/a.jsonl", card=CARD)
    assert names(path) == ["one.jsonl"]
    assert names(path, "held_out") == ["two/x.jsonl"]
    assert names(path, "train", "small") == ["small/a.jsonl"]
    assert find(path, "corpus[0].path").not_read == {
        "two/x.jsonl": "split held_out", "three.jsonl": "of no split",
        "small/a.jsonl": "of no split",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("split", "subset", "message"),
    [
        ("dev", None, r"has the splits \['held_out', 'train'\].*set corpus\[0\]\.split"),
        ("train", "large", r"configurations \['default', 'small'\]; set corpus\[0\]\.subset"),
    ],
)
def test_what_is_not_there_is_an_error_that_lists_what_is(split, subset, message, tmp_path):
    path = tree(tmp_path, "one.jsonl", "two/x.jsonl", "small/a.jsonl", card=CARD)
    with pytest.raises(UserError, match=message):
        find(path, "corpus[0].path", split, subset)


def test_a_folder_of_another_split_alone_is_not_taken_for_training(tmp_path):
    path = tree(tmp_path, "test-1.jsonl", "test-2.jsonl")
    with pytest.raises(UserError, match=r"has the splits \['test'\]"):
        find(path, "downstream.path")


@pytest.mark.parametrize("target", ["../outside.jsonl", "/etc/passwd"])
def test_a_readme_names_nothing_outside_its_folder(target, tmp_path):
    write(tmp_path, "outside.jsonl", ROW)
    card = CARD.replace("path: one.jsonl", f"path: {target}")
    path = tree(tmp_path / "in", "two/x.jsonl", card=card)
    with pytest.raises(UserError, match="README names"):
        find(path, "corpus[0].path")


def test_files_of_a_folder_that_are_not_read_are_listed(tmp_path):
    path = tree(tmp_path, "a.jsonl", "b.jsonl.bz2", "c.zip", "d.tar.gz", "e.xlsx", "notes.txt",
                "part-00000", "LICENSE", ".hidden", card="# About\n")  # fmt: skip
    found = find(path, "corpus[0].path")
    assert [file.name for file in found.files] == [
        "a.jsonl", "b.jsonl.bz2", "c.zip", "d.tar.gz", "e.xlsx",
    ]  # fmt: skip
    assert set(found.not_read) == {"notes.txt", "part-00000"}


def test_no_split_is_seen_where_there_is_none(tmp_path):
    path = tree(tmp_path, "contest.jsonl", "trainer.jsonl", "latest/x.jsonl")
    assert len(names(path)) == 3
