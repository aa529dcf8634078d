"""What the profiler leaves, and the share of communication."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from delia_ray.finetune.job import Job
from delia_ray.finetune.profiling import covered
from delia_ray.finetune.progress import SUMMARY, TRACE
from tests.finetune.gang import run_gang
from tests.finetune.helpers import changed, prepare


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0.0),
        ([(1, 2)], 1.0),
        ([(1, 2), (3, 5)], 3.0),
        ([(1, 4), (2, 3)], 3.0),  # one inside the other
        ([(2, 5), (1, 3), (5, 6)], 5.0),
    ],
)
def test_overlapping_spans_count_once(spans: list[tuple[float, float]], seconds: float) -> None:
    assert covered(spans) == seconds


def test_a_profile_of_two_workers(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    config, out = prepare(tmp_path, make_model(tmp_path / "base"))
    watched, plain = out / "watched", out / "plain"
    run_gang(
        2,
        [
            (Job(changed(config, profile=9), out / "mix", watched), None),
            (Job(config, out / "mix", plain), None),
        ],
    )
    found = (watched / "delia").read_json(SUMMARY)
    assert 0 < found["communication_seconds"] < found["seconds"]
    assert 0 < found["communication"] < 1
    assert found["steps"] == 3  # of nine: the training has six, and the first three do not count
    trace = json.loads(gzip.decompress((watched / "delia").read_bytes(TRACE)))
    names = {e.get("name", "") for e in trace["traceEvents"]}
    assert any(name.startswith("gloo:") for name in names)
    assert not (plain / "delia").exists(SUMMARY)
    # Looking changes nothing.
    losses = [(f / "delia").read_table("curve.parquet")["loss"].to_pylist() for f in
              (watched, plain)]  # fmt: skip
    assert losses[0] == losses[1]
