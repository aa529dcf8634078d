"""The scripts of ``jobs/`` start what they say, from any folder."""

import subprocess
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("run.py", ["mix.ratoi=3"], "did you mean mix.ratio?"),
        ("stage.py", ["ingest", "mix.ratoi=3"], "did you mean mix.ratio?"),
        ("stage.py", ["frobnicate"], "usage: python jobs/stage.py run|ingest"),
        ("study.py", ["sedes=3"], "did you mean seeds?"),
    ],
)
def test_entry_points(script: str, arguments: list[str], message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(JOBS / script), *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
