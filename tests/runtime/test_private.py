"""Temporary folders that are this user's alone, and what becomes of them."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from delia_ray.errors import UserError
from delia_ray.runtime import private


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="p", dir="/tmp") as folder:
        _use(monkeypatch, Path(folder))
        yield Path(folder)


def _use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_only_this_user_may_enter_and_names_differ(base: Path) -> None:
    before = os.umask(0)
    try:
        made = [private.make() for _ in range(3)]
    finally:
        os.umask(before)
    assert {stat.S_IMODE(f.stat().st_mode) for f in made} == {0o700}
    assert len({f.name for f in made}) == 3
    assert {f.parent for f in made} == {base}
    for folder in made:
        private.remove(folder)
    assert list(base.iterdir()) == []


@pytest.mark.parametrize("name", ["long" * 20, "ünï", "a b", "漢字", "deep/" + "er/" * 12])
def test_a_temporary_folder_that_sockets_do_not_fit_in(
    base: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    there = base / name
    there.mkdir(parents=True)
    _use(monkeypatch, there)
    folder = private.make()
    assert str(folder).isascii()
    assert len(str(folder)) <= private.LONGEST + len("/delia-xxxxxxxx")
    (folder / "r" / "big").write_text("x")
    if name != "a b":
        assert folder.parent == Path("/tmp")
        assert [p.name for p in there.rglob("big")] == ["big"]
        assert stat.S_IMODE((folder / "r").resolve().stat().st_mode) == 0o700
    private.remove(folder)
    assert not folder.exists()
    assert list(there.iterdir()) == []


MAKE = (
    "import sys, time; from delia_ray.runtime import private; print(private.make(), flush=True); "
    "time.sleep(100)"
)


def test_what_a_killed_process_left_is_removed_by_the_next(base: Path) -> None:
    two = [subprocess.Popen([sys.executable, "-c", MAKE], stdout=subprocess.PIPE, text=True)
           for _ in range(2)]  # fmt: skip
    killed, living = (Path(p.stdout.readline().strip()) for p in two)  # type: ignore[union-attr]
    two[0].send_signal(signal.SIGKILL)
    two[0].wait()
    assert killed.exists()
    made = private.make()
    try:
        assert not killed.exists()
        assert living.exists()
    finally:
        two[1].kill()
        two[1].communicate()
        two[0].communicate()
    private.remove(made)


WRITE = """
import os, sys, time
until, n = time.monotonic() + 1.5, 0
while time.monotonic() < until:
    open(f"{sys.argv[1]}/{n}", "w").close()
    n += 1
    print(n, flush=True) if n == 1 else None
"""


def test_a_folder_that_is_still_written_to_goes_too(base: Path) -> None:
    made = private.make()
    place = made / "r" / "session"
    place.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(place)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        private.remove(made)
        writer.wait()
    assert not made.exists()


def test_what_cannot_be_removed_now_is_removed_by_the_next(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = private.make()
    (made / "r" / "session").mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(made / "r" / "session")]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    monkeypatch.setattr(private, "PATIENCE", 2)
    try:
        private.remove(made)
        assert (made / private.OWNER).exists()
    finally:
        subprocess.run(["umount", "-l", str(made / "r" / "session")], check=True)
    assert private.remove_left(base) == [made]
    assert list(base.iterdir()) == []


def test_what_is_not_ours_is_left_alone(base: Path) -> None:
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / private.OWNER).write_text("")
    (base / "delia-planted1").symlink_to(elsewhere)
    (base / "delia-nobody01").mkdir()  # no owner: somebody is about to make it
    made = private.make()
    (made / "r").rmdir()
    (made / "r").symlink_to(elsewhere)  # only a link to a folder of ours is followed
    private.remove(made)
    assert (elsewhere / private.OWNER).exists()
    assert (base / "delia-nobody01").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_what_belongs_to_another_user_is_left_alone(base: Path) -> None:
    theirs = base / "delia-theirs01"
    theirs.mkdir()
    (theirs / private.OWNER).write_text("")
    os.chown(theirs, 12345, 12345)
    private.remove(private.make())
    assert theirs.exists()


def test_without_any_temporary_folder_the_error_names_tmpdir(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")  # as tempfile finds it
    with pytest.raises(UserError, match="TMPDIR"):
        private.make()


@pytest.mark.skipif(os.getuid() != 0, reason="a disk can be mounted by root only")
def test_a_full_disk_is_an_error_that_names_tmpdir(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = base / "d"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4096,nr_inodes=2", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        _use(monkeypatch, disk)
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        (disk / "full").write_text("x")
        with pytest.raises(UserError, match=r"No space left.*set TMPDIR"):
            private.make()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
