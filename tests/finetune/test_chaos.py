"""The short form of ``make chaos``: a worker, then the controller is lost; the adapter is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "chaos_finetune.py"


def test_the_adapter_is_the_same_to_the_bit() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--runs", "1", "--shapes", "1", "--steps", "60",
         "--kinds", "worker+controller", "--dropout"],
        capture_output=True, text=True, timeout=600, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert (figures["runs"], figures["broken"], figures["equal_to_the_bit"]) == (1, 0, 1)
    assert figures["most_steps_lost"] <= figures["checkpoint_every"]
