import pytest

from .helpers import DOWNSTREAM, QUERIES, array, jsonl, parquet, write


@pytest.fixture
def base(tmp_path):
    """A config tree over small files: downstream, two corpus sources and one suite."""
    write(tmp_path, "in/down.jsonl", jsonl(DOWNSTREAM))
    write(tmp_path, "in/c/one.json", array(QUERIES[:20]))
    write(tmp_path, "in/c/two.jsonl.gz", jsonl(QUERIES[10:]) + b"oops\n", "gz")
    write(tmp_path, "in/more.parquet", parquet([{"prompt": "query 3"}, {"prompt": "query 3"}]))
    write(tmp_path, "in/suite.jsonl", jsonl(DOWNSTREAM[:2]))
    return {
        "downstream": {"path": f"{tmp_path}/in/down.jsonl", "format": "auto", "rows": None},
        "corpus": [
            {"path": f"{tmp_path}/in/c"},
            {"path": f"{tmp_path}/in/more.parquet", "weight": 2},
        ],
        "evaluate": {
            "suites": [{"name": "held_out", "path": f"{tmp_path}/in/suite.jsonl"}],
            "summary": [],
        },
    }
