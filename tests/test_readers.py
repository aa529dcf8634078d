"""Nothing but `delia_ray.tables` opens parquet or Arrow, and nothing unpickles."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    p for part in ("delia_ray", "jobs", "benchmarks") for p in (ROOT / part).rglob("*.py")
)
THE_READER = ROOT / "delia_ray" / "tables.py"

READERS = (
    "pyarrow.parquet.read_", "pyarrow.parquet.ParquetFile", "pyarrow.parquet.ParquetDataset",
    "pyarrow.parquet.ParquetReader", "pyarrow.parquet.core",
    "pyarrow.ipc.open_", "pyarrow.ipc.read_", "pyarrow.ipc.RecordBatch", "pyarrow.ipc.Message",
    "pyarrow.ipc_", "pyarrow.dataset", "pyarrow.feather", "pyarrow.orc", "pyarrow.deserialize",
    "pyarrow.lib", "pyarrow._", "pyarrow.RecordBatchFileReader", "pyarrow.RecordBatchStreamReader",
    "ray.data.read_", "pandas.read_", "polars.read_", "polars.scan_",
    "datasets.load_from_disk", "datasets.Dataset", "datasets.load_dataset",
    "datasets.arrow_", "datasets.table",
)  # fmt: skip
"""Beginnings of what opens a file of columns."""
PICKLES = (
    "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "ray.cloudpickle",
    "torch.load", "torch.jit.load", "numpy.load", "pandas.read_pickle",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader", "yaml.UnsafeLoader",
    "yaml.FullLoader", "ray.tune.Tuner.restore", "ray.tune.ExperimentAnalysis",
)  # fmt: skip
"""Beginnings of what makes objects of bytes."""
ALLOWED = {
    ("benchmarks/ingest.py", "datasets.load_dataset"),
    ("benchmarks/trl_mix.py", "datasets.load_dataset"),
    ("benchmarks/trl_mix.py", "datasets.Dataset"),
    ("benchmarks/trl_finetune.py", "datasets.Dataset.from_parquet"),
    ("benchmarks/trl_finetune.py", "datasets.Dataset"),
    ("benchmarks/fuzz_storage.py", "pickle"),
    ("benchmarks/fuzz_storage.py", "pickle.dumps"),
    ("delia_ray/ingest/hub.py", "datasets.load_dataset_builder"),
}
"""What benchmarks measure against, on files of their own; pickles that are made to be refused; and
a builder, which only lists."""


def _used(source: str) -> Iterator[str]:
    """Dotted names that a file imports or reaches into, by where they come from."""
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
                known[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            path, at = [], node
            while isinstance(at, ast.Attribute):
                path.append(at.attr)
                at = at.value
            if isinstance(at, ast.Name) and at.id in known:
                yield ".".join([known[at.id], *reversed(path)])
        # trainable.get_pickled_error() and the like, whatever the object is called
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield f"call.{node.func.attr}"


def _wrong(source: str, starts: tuple[str, ...]) -> set[str]:
    return {name for name in _used(source) if name.startswith(starts)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_opened_and_unpickled_nowhere_else(path: Path) -> None:
    own, source = str(path.relative_to(ROOT)), path.read_text()
    found = _wrong(source, PICKLES) | _wrong(source, ("call.get_pickled_error",))
    if path != THE_READER:
        found |= _wrong(source, READERS)
    assert not {name for name in found if (own, name) not in ALLOWED}


@pytest.mark.parametrize(
    "source",
    [
        "import pyarrow.parquet as pq\ndef f(x): return pq.read_table(x)",
        "from pyarrow import parquet\nparquet.ParquetFile('x')",
        "from pyarrow.parquet import ParquetFile as P",
        "import pyarrow as pa\npa.ipc.open_stream(b'')",
        "import pyarrow as pa\nread = pa.ipc.open_file",
        "import pyarrow.dataset as pads",
        "import ray\nray.data.read_parquet('x')",
        "import pyarrow\nx = pyarrow.parquet.core.ParquetFile",
        "from datasets import load_from_disk",
    ],
)
def test_another_reader_would_be_seen(source: str) -> None:
    assert _wrong(source, READERS)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(b'')",
        "import torch\ntorch.load('x')",
        "from numpy import load",
        "import yaml\nyaml.load('x', yaml.Loader)",
        "from ray import cloudpickle",
        "from ray import tune\ntune.Tuner.restore('x')",
    ],
)
def test_unpickling_would_be_seen(source: str) -> None:
    assert _wrong(source, PICKLES)
