"""Rows of tokens by position."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from delia_ray.artifacts import Folder, open_storage
from delia_ray.errors import DeliaError
from delia_ray.store import BATCH, Store, lists, write_file, write_index

SIZES = [BATCH + 7, 0, 3, 2 * BATCH]


def _fill(folder: Folder) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    rows = [random.integers(0, 1000, random.integers(0, 9)) for _ in range(sum(SIZES))]
    at = 0
    for number, size in enumerate(SIZES):
        own = rows[at : at + size]
        columns = {
            "ids": lists(own, pa.int32()),
            "even": lists([r % 2 == 0 for r in own], pa.bool_()),
        }
        assert write_file(folder, "s", number, columns) == size
        at += size
    write_index(folder, "s", SIZES, packs=3)
    return rows


@pytest.mark.parametrize("where", ["local", "memory"])
def test_every_row_comes_back(tmp_path: Path, where: str) -> None:
    folder = open_storage(str(tmp_path / "x") if where == "local" else "memory://store-test")
    rows = _fill(folder)
    store = pickle.loads(pickle.dumps(Store(folder, "s")))
    assert len(store) == len(rows)
    assert store.facts == {"packs": 3}
    for position in np.random.default_rng(1).permutation(len(rows)):
        found = store.row(int(position))
        assert found["ids"].tolist() == rows[position].tolist()
        assert found["even"].tolist() == (rows[position] % 2 == 0).tolist()


def test_there_is_no_row_beyond_the_last(tmp_path: Path) -> None:
    _fill(folder := open_storage(str(tmp_path)))
    for position in (-1, sum(SIZES)):
        with pytest.raises(IndexError, match=f"position {position}"):
            Store(folder, "s").row(position)


def test_an_unfinished_store_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Store(open_storage(str(tmp_path)), "s")


def test_an_index_of_more_rows_than_there_can_be_is_refused(tmp_path: Path) -> None:
    _fill(folder := open_storage(str(tmp_path)))
    index = folder.read_json("s.json")
    folder.write_json("s.json", index | {"rows": [*index["rows"], 2**63]})
    with pytest.raises(DeliaError, match="more than any store holds"):
        Store(folder, "s")
