"""Folders on any filesystem, and what counts as finished."""

import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from delia_ray.artifacts import Folder, open_storage
from delia_ray.errors import DeliaError
from delia_ray.records import ANSWER, conform, content_id, uniform

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})


@pytest.fixture(params=["plain", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """The same contract on a path, a file URL, and a store that knows no rename."""
    urls = {"plain": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{tmp_path}"}
    return open_storage(urls[request.param]) / "run"


def test_files_come_back(folder: Folder) -> None:
    folder.write_table("t.parquet", TABLE)
    folder.write_json("deep/down.json", {"ä": 1})
    assert folder.read_table("t.parquet").equals(TABLE)
    assert folder.read_table("t.parquet", ["a"]).column_names == ["a"]
    assert folder.read_json("deep/down.json") == {"ä": 1}
    assert folder.names() == ["deep", "t.parquet"]
    assert (folder / "nowhere").names() == []


def test_only_publishing_makes_it_finished(folder: Folder) -> None:
    folder.write_table("t.parquet", TABLE)
    assert folder.manifest() is None
    folder.publish({"stage": "x"})
    manifest = folder.manifest()
    assert manifest is not None
    assert manifest["stage"] == "x"
    assert len(manifest["files"]["t.parquet"]["sha256"]) == 64


def test_the_digest_follows_the_content(folder: Folder) -> None:
    digests = []
    for table in (TABLE, TABLE.slice(0, 2), TABLE):
        folder.write_table("t.parquet", table)
        folder.publish({})
        digests.append((folder.manifest() or {})["files"]["t.parquet"]["sha256"])
    assert digests[0] == digests[2] != digests[1]


def test_whole_folders_travel(folder: Folder, tmp_path: Path) -> None:
    local = tmp_path / "model"
    (local / "sub").mkdir(parents=True)
    (local / "sub" / "w.bin").write_bytes(b"123")
    folder.upload(local, "model")
    folder.upload(local, "model")  # again: a retried worker writes the same place
    assert Path(folder.download("model"), "sub", "w.bin").read_bytes() == b"123"
    folder.remove("model")
    assert not folder.exists("model")


def test_folders_travel_to_workers(folder: Folder) -> None:
    folder.write_text("a", "b")
    again = pickle.loads(pickle.dumps(folder))
    assert again.read_bytes("a") == b"b"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = open_storage(str(tmp_path))
    folder.write_text("a", "old")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        folder.write_text("a", "new")
    assert folder.read_bytes("a") == b"old"
    assert folder.names() == ["a"]


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_storage(str(tmp_path / "out"))
    local = tmp_path / "local"
    local.mkdir()
    (local / "a").write_text("b")
    monkeypatch.setattr("os.replace", _interrupted)
    table = conform([], ANSWER)
    for write in (
        lambda: folder.write_text("steps/a", "b"),
        lambda: folder.write_tables("t.parquet", ANSWER, [table]),
        lambda: folder.upload(local, "copy"),
    ):
        with pytest.raises(KeyboardInterrupt):
            write()
    assert [p for p in (tmp_path / "out").rglob("*") if not p.is_dir()] == []


def test_what_a_killed_writer_left_is_not_published(tmp_path: Path) -> None:
    folder = open_storage(str(tmp_path))
    (folder / "steps").write_text("part-00000", "b")
    (tmp_path / "steps" / "part-00000.tmp-0123abcd").write_text("half")
    (tmp_path / "merged.tmp-0123abcd").mkdir()
    (tmp_path / "merged.tmp-0123abcd" / "model").write_text("half")
    (tmp_path / "steps" / "of.tmp-others").write_text("whole")
    folder.publish({"stage": "mix", "version": 1, "fingerprint": "0" * 12})
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert found == ["manifest.json", "steps/of.tmp-others", "steps/part-00000"]
    assert set(folder.read_json("manifest.json")["digests"]) == set(found[1:])


def test_rows_must_fit_their_schema() -> None:
    row = dict.fromkeys(ANSWER.names)
    with pytest.raises(ValueError, match="must not be null"):
        conform([row], ANSWER)
    with pytest.raises(ValueError, match="row has keys"):
        conform([{"id": "x"}], ANSWER)
    assert conform([], ANSWER).schema.equals(ANSWER)


def test_content_ids_and_uniform_numbers() -> None:
    turn = [{"role": "user", "content": "a"}]
    assert content_id(turn, None) != content_id(turn, "")
    assert content_id(turn, "b") == content_id([dict(turn[0])], "b")
    values = [uniform(0, i) for i in range(2000)]
    assert all(0 < v < 1 for v in values)
    assert abs(sum(values) / 2000 - 0.5) < 0.02


def test_what_a_finished_stage_left_is_not_simply_absent(tmp_path: Path) -> None:
    folder = open_storage(str(tmp_path))
    folder.write_text("a.parquet", "b")
    folder.publish({"stage": "mix", "version": 1, "fingerprint": "0" * 16})
    (tmp_path / "a.parquet").unlink()
    assert not folder.exists("a.parquet"), "nobody said that it was to be there"
    done = replace(folder, digests=folder.read_json("manifest.json")["digests"])
    assert not done.exists("other.parquet")
    with pytest.raises(DeliaError, match="the stage left it, and it is gone"):
        done.exists("a.parquet")
