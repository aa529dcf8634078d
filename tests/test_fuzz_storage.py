"""A small part of ``benchmarks/fuzz_storage.py``, which tampers with ten thousand files."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray import pipeline
from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig
from delia_ray.errors import DeliaError
from delia_ray.records import (
    ANSWER,
    COMPLETION,
    EXAMPLE,
    GENERATION,
    METRIC_POINT,
    QUERY,
    REJECT,
    REWORDING,
    TIMELINE,
    conform,
)  # fmt: skip
from delia_ray.stage import silent
from tests.report import conftest as told

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TURN = [{"role": "user", "content": "Reverse the words."}]
ORIGIN = {"source": "s", "file": "f", "row": 1}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(
            "fuzz_storage", BENCHMARKS / "fuzz_storage.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["fuzz_storage"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def _ingested(out: Folder) -> None:
    rows = [{"id": f"d{i}", **ORIGIN, "prompt": TURN, "answer": "x"} for i in range(6)]
    pool = [{**row, "id": f"q{i}", "key": float(i)} for i, row in enumerate(rows)]
    out.write_table("downstream.parquet", conform(rows, EXAMPLE))
    out.write_table("suite-words.parquet", conform(rows, EXAMPLE))
    out.write_table("corpus.parquet", conform(pool, QUERY))
    rejects = [{**ORIGIN, "reason": "layout", "excerpt": "?"}] * 3
    out.write_table("rejects.parquet", conform(rejects, REJECT))


def _synthesised(out: Folder) -> None:
    answer = {"source": "s", "prompt": TURN, "answer": "y", "finish_reason": "stop",
              "completion_tokens": 3, "reason": None}  # fmt: skip
    for name, count in (("answers", 24), ("held_out", 2), ("answers_set_aside", 1)):
        rows = [{"id": f"q{i}", **answer} for i in range(count)]
        out.write_table(f"{name}.parquet", conform(rows, ANSWER))
    new = {"id": "d1", "variant": 1, "prompt": TURN, "reason": None, "register": "",
           "placement": "after"}  # fmt: skip
    out.write_table("rewordings.parquet", conform([new], REWORDING))
    out.write_table("rewordings_set_aside.parquet", conform([], REWORDING))
    points = [{"seconds": float(s), "rows": s, "tokens": s} for s in range(4)]
    out.write_table("timeline.parquet", pa.Table.from_pylist(points, TIMELINE))


def _trained(out: Folder) -> None:
    point: dict[str, Any] = dict.fromkeys(METRIC_POINT.names)
    point |= {"loss": 1.0, "lr": 1e-4, "tokens": 12, "supervised_tokens": 9, "seconds": 0.5,
              "supervised_downstream": 3, "memory_gib": 0.5}  # fmt: skip
    for arm in ("common", "delia"):
        rows = [{**point, "step": step} for step in range(1, 13)]
        (out / arm).write_table("curve.parquet", conform(rows, METRIC_POINT))
        (out / arm).write_json("merged/config.json", {"model_type": "llama"}, seal=False)


def _evaluated(out: Folder) -> None:
    rows = [
        {"suite": "words", "arm": arm, "index": i, "prompt": TURN, "reference": "a", "output": "b",
         "finish_reason": "stop", "score": float(i % 2)}
        for arm in told.ARMS for i in range(told.N)
    ]  # fmt: skip
    out.write_table("generations.parquet", conform(rows, GENERATION))
    out.write_json("scores.json", told.scores())
    out.write_json("probes.json", told.probes())


MADE = {"ingest": _ingested, "synthesize": _synthesised, "finetune": _trained,
        "evaluate": _evaluated}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: what Ray would make is written here, the rest is made by its stages."""
    storage = tmp_path_factory.mktemp("runs")
    suite = {"name": "words", "path": "plain", "format": "miniature", "rows": 8}
    config = RunConfig.model_validate(
        {
            "name": "tiny", "storage": str(storage), "mix": {"ratio": 2, "max_length": 256},
            "finetune": {"steps": 12, "batch_size": 4, "workers": 1},
            "evaluate": {"suites": [suite], "summary": ["words"]},
        }
    )  # fmt: skip
    plan = pipeline.plan(config)
    counts = told.counts()
    done = {"steps": 12, "loss": 0.5}
    counts["finetune"] = {"arms": {"common": done, "delia": done}, "workers": 1, "zero": 2}
    counts["synthesize"] |= {"reword": {"asked": 2, "kept": 1, "set_aside": {}},
                             "queries_set_aside": {}}  # fmt: skip
    for stage in pipeline.STAGES:
        if stage.name not in MADE:
            pipeline._run_stage(stage, plan, silent, None, here=False)
            continue
        MADE[stage.name](plan.folder(stage.name))
        plan.folder(stage.name).publish(
            {
                "stage": stage.name, "fingerprint": plan.fingerprint(stage.name),
                "settings": plan.settings[stage.name], "inputs": plan.inputs(stage),
                "counts": counts[stage.name], "summary": "done", "seconds": 1.0,
                "created": "2026-01-02T03:04:05", "versions": {"ray": "2.60.0"},
            }
        )  # fmt: skip
    plan.run.write_json("config.json", config.model_dump(mode="json"))
    plan.run.write_json(
        pipeline.CURRENT, {s.name: plan.fingerprint(s.name) for s in pipeline.STAGES}
    )
    pipeline.report_again(plan.run)
    said = {"key": "k", "text": "t", "finish_reason": "stop", "prompt_tokens": 1,
            "completion_tokens": 1, "seconds": 0.1, "error": ""}  # fmt: skip
    table = pa.Table.from_pylist([said], COMPLETION)
    (open_storage(str(storage)) / "cache/synthesis/m").write_table("part-1.parquet", table)
    return storage / "tiny"


def test_tampered_files_give_errors_of_ours_or_change_nothing(
    script: ModuleType, finished: Path, tmp_path: Path
) -> None:
    outcomes, faults = script.fuzz(300, 1, script.Place(finished, tmp_path))
    assert not faults, faults[0]
    assert outcomes["errors of ours"] > 100
    assert outcomes["unchanged"] > 20


def test_the_fuzz_would_see_what_it_looks_for(
    script: ModuleType, finished: Path, tmp_path: Path
) -> None:
    place = script.Place(finished, tmp_path)
    place.readers = dict.fromkeys(place.readers, lambda run: {}["gone"])
    _, faults = script.fuzz(5, 1, place)
    assert faults and "KeyError" in faults[0]  # noqa: PT018
    place.readers = dict.fromkeys(
        place.readers, lambda run: (place.scratch / "new").write_text("x") and 1 / 0
    )
    _, faults = script.fuzz(5, 1, place)
    assert any("outside the run" in fault for fault in faults)


PLANTED = ("figures", "report", "mix", "queries", "tables", "cache", "parts", "trials", "drill",
           "study")  # fmt: skip
"""All that read tables; a model card and a checkpoint are made of JSON and safetensors."""


@pytest.mark.parametrize("beside", [True, False], ids=["another column", "in place of one"])
def test_no_reader_of_a_run_unpickles_what_stands_in_its_tables(
    beside: bool, script: ModuleType, finished: Path, tmp_path: Path
) -> None:
    """Every table of a finished run at once, with seals and manifests that fit."""
    place = script.Place(finished, tmp_path)
    assert set(place.readers) == {*PLANTED, "card", "checkpoints"}
    planted = [p for p in place.files if p.suffix in (".parquet", ".arrow")]
    assert {place.kind(p) for p in planted} >= {"ingest", "synthesize", "mix", "finetune",
                                                "evaluate", "cache", "parts"}  # fmt: skip
    for path in planted:
        data = pa.BufferReader(place.kept[path])
        parquet = path.suffix == ".parquet"
        table = script.open_parquet(data).read() if parquet else script.open_arrow(data).read_all()
        column = pa.array([place.evil] * len(table), pa.large_binary())
        meta = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object",
                b"ARROW:extension:metadata": b""}  # fmt: skip
        name = "extra" if beside else table.column_names[-1]
        field = pa.field(name, pa.large_binary(), metadata=meta)
        changed = (
            table.append_column(field, column)
            if beside
            else table.set_column(table.num_columns - 1, field, column)
        )
        if parquet:
            pq.write_table(changed, path)
        else:
            with pa.ipc.new_file(str(path), changed.schema) as writer:
                writer.write_table(changed, max_chunksize=1024)
        place._fit_manifest(path, path.read_bytes())
    for name in PLANTED:
        with pytest.raises(DeliaError, match=r"extra|column|type|as it was written"):
            place.readers[name](place.run)
        assert not place.mark.exists(), name
