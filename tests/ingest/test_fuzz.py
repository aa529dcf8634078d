"""A small part of ``benchmarks/fuzz_ingest.py``, which mutates ten thousand files."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_ingest.py"


def test_mutated_files_give_records_rejects_or_errors_of_ours(tmp_path):
    spec = importlib.util.spec_from_file_location("fuzz_ingest", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    outcomes, faults = script.fuzz(300, 1, tmp_path)
    assert not faults, faults[0]
    assert outcomes["records"] > 40
    assert outcomes["rejects"] > 40
    assert outcomes["damaged"] > 40
