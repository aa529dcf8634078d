"""The command in environments that are odd: what can be mended is, the rest is said."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SHOW = """
import os, pathlib, stat, sys
from delia_ray.runtime import surroundings
surroundings.settle()
import getpass, subprocess
home = pathlib.Path.home()
print(home)
print(getpass.getuser())
print(oct(stat.S_IMODE(home.stat().st_mode)), os.access(home, os.W_OK), os.environ.get("HF_HOME"))
print(subprocess.check_output([sys.executable, "-c", "import sys; print(sys.path[0])"], text=True))
"""
STRANGER = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups",
            "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]  # fmt: skip
"""A user that passwd does not know; reads everything, for Python's sake, and writes nothing."""
NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


def settle(
    variables: dict[str, str], stranger: bool = False, folder: str | None = None
) -> "subprocess.CompletedProcess[str]":
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [*(STRANGER if stranger else ()), sys.executable, "-P", "-c", SHOW],
        env={**kept, "PYTHONDONTWRITEBYTECODE": "1", **variables},
        capture_output=True, text=True, timeout=60, cwd=folder,
    )  # fmt: skip


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that everybody may write to, as /tmp."""
    with tempfile.TemporaryDirectory(prefix="o", dir="/tmp") as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "there is no HOME"),
        ({"HOME": "/"}, "HOME=/ cannot be written"),
        ({"HOME": "/nowhere"}, "HOME=/nowhere cannot be written"),
        ({"HOME": "relative"}, "there is no HOME"),
        ({"HOME": ""}, "HOME=/ cannot be written"),
        ({"HOME": "/etc/passwd"}, "HOME=/etc/passwd cannot be written"),
    ],
)
def test_a_user_without_a_home_gets_one(
    open_folder: Path, variables: dict[str, str], said: str
) -> None:
    done = settle({"TMPDIR": str(open_folder), **variables}, stranger=True)
    assert done.returncode == 0, done.stderr
    home, user, *_ = done.stdout.splitlines()
    assert said in done.stderr
    assert "Set HOME to keep it" in done.stderr
    assert Path(home).parent.parent == open_folder
    assert "0o700 True" in done.stdout
    assert user == "user-12345"
    assert list(open_folder.iterdir()) == []  # it is gone with the process


@NEEDS_ROOT
def test_models_in_a_home_that_cannot_be_written_are_found(
    open_folder: Path,
) -> None:
    home = open_folder / "home"
    cache = home / ".cache" / "huggingface"
    cache.mkdir(parents=True)
    done = settle({"TMPDIR": str(open_folder), "HOME": str(home)}, stranger=True)
    assert str(cache) in done.stdout


def test_a_home_that_can_be_written_stays(tmp_path: Path) -> None:
    done = settle({"HOME": str(tmp_path), "USER": "me", "TMPDIR": "/tmp"})
    assert done.stdout.splitlines()[:2] == [str(tmp_path), "me"]
    assert done.stderr == ""


def test_nothing_is_imported_from_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text("")
    done = settle({"HOME": str(tmp_path)}, folder=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[3] != ""


@pytest.mark.parametrize("temporary", ["/nowhere", "/dev/null", "relative", "/proc"])
def test_a_temporary_folder_that_cannot_be_written_is_replaced_and_said(
    tmp_path: Path, temporary: str
) -> None:
    done = settle({"HOME": str(tmp_path), "TMPDIR": temporary}, folder=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"TMPDIR={temporary} cannot be written; temporary files lie in /tmp" in done.stderr


# --- the command ----------------------------------------------------------------------


def delia(
    *arguments: str, folder: Path | str | None = None, **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "delia_ray.cli", *arguments], cwd=folder, text=True,
        capture_output=True, timeout=120, env={**os.environ, **variables},
    )  # fmt: skip


def test_an_address_of_a_dashboard_ends_the_command(tmp_path: Path) -> None:
    done = delia("ingest", f"storage={tmp_path}", RAY_ADDRESS="http://127.0.0.1:8265")
    assert done.returncode == 2
    assert "error: RAY_ADDRESS=http://127.0.0.1:8265: this is the address of a dash" in done.stderr
    assert "host:port of its GCS" in done.stderr


def test_a_working_folder_that_is_gone_ends_the_command(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from delia_ray.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-P", "-c", code, "show"], cwd=gone, text=True,
                          capture_output=True, timeout=120)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "working folder cannot be used" in done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_a_locale_that_cannot_write_a_name_does_not_end_the_command(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: /nowhere/Þröstur\n", encoding="utf-8")
    done = delia("show", str(recipe), **variables)
    assert done.returncode == 0, done.stderr
    assert "Þröstur" in done.stdout or "\\xde" in done.stdout
