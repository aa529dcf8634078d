"""The short form of ``make chaos``: the queue and a node are lost, the rows stay the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import ENV

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif("DELIA_CHAOS" not in os.environ, reason="minutes long: make chaos"),
]
SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "chaos.py"


def test_nothing_is_lost_and_nothing_made_twice() -> None:
    # On a shared cluster what a killed driver asked Ray Data for counts for 30 s more;
    # test_end_to_end kills one that has a cluster of its own.
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--runs", "2", "--rows", "256", "--engine", "transformers",
         "--kinds", "queue,node", "--seed", "3"],
        capture_output=True, text=True, timeout=400, check=False, env=ENV,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert (figures["runs"], figures["broken"]) == (2, 0)
    assert figures["most_written_twice"] <= figures["in_flight_at_most"]
