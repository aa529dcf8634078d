"""One run in surroundings in which everything that is known to go wrong goes wrong at once."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.test_surroundings import NEEDS_ROOT, STRANGER

pytestmark = [pytest.mark.ray, NEEDS_ROOT]
NAMES = ("statistics", "random", "logging", "queue", "socket", "tempfile", "site", "ray", "numpy")
"""Modules of Python and of others that a user's folder may hold a file of the name of."""
VARIABLES = {
    "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "of-another-cluster", "RAY_ADDRESS": "  ",
    "RAY_REDIS_ADDRESS": "127.0.0.1:1", "RAY_RUNTIME_ENV_HOOK": "nowhere.hook",
    "RAY_GCS_SERVER_PORT": "1", "LC_ALL": "C", "http_proxy": "http://127.0.0.1:1",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A working folder that everybody may write to, with runs too large to upload."""
    with tempfile.TemporaryDirectory(prefix="odd", dir="/tmp") as name:
        made = Path(name)
        (made / "runs").mkdir()
        (made / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0"\n')
        with open(made / "runs" / "weights.bin", "wb") as stream:
            stream.truncate(620 * 10**6)
        for module in NAMES:
            (made / f"{module}.py").write_text(
                f"open({str(made)!r} + '/imported-{module}', 'w').close()\nraise SystemExit(1)\n"
            )
        (made / ("t" * 60 + "-ünï")).mkdir()
        for one in (made, *made.iterdir()):
            os.chmod(one, 0o777)
        yield made


@pytest.fixture(scope="module")
def done(folder: Path) -> "subprocess.CompletedProcess[str]":
    """`uv run delia ingest`, as far as Ray can tell, by a user without a name or a home."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    temporary = next(p for p in folder.iterdir() if p.name.startswith("ttt"))
    (folder / "run").write_text('"$@"\nexit $?\n')  # Ray looks at its parents' command lines
    return subprocess.run(
        [*STRANGER, "bash", "-c", 'exec -a uv bash run "$@"', "bash", sys.executable, "-P", "-m",
         "delia_ray.cli", "ingest", "downstream.rows=8", "mix.ratio=1", "cluster.num_cpus=1",
         "corpus=[{path: corpus, format: miniature, rows: 20}]",
         "finetune.workers=1"],
        env={**kept, **VARIABLES, "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=400, cwd=folder,
    )  # fmt: skip


def test_it_comes_to_its_end(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 downstream" in done.stdout


def test_nothing_of_the_working_folder_was_imported(
    done: "subprocess.CompletedProcess[str]", folder: Path
) -> None:
    assert list(folder.glob("imported-*")) == []


def test_what_was_replaced_is_said(done: "subprocess.CompletedProcess[str]") -> None:
    assert "there is no HOME" in done.stderr


def test_the_temporary_folder_is_empty_again(
    done: "subprocess.CompletedProcess[str]", folder: Path
) -> None:
    temporary = next(p for p in folder.iterdir() if p.name.startswith("ttt"))
    assert list(temporary.iterdir()) == []
