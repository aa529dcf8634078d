"""Temporary folders that nobody else on the machine can look into, replace or guess.

A folder lives as long as the process that made it: that process holds a lock on a file in it, and
the next process that makes one removes those whose lock is free, which a killed process left.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from delia_ray.errors import UserError

PREFIX = "delia-"
OWNER = "owner"
"""File in the folder; its process holds a lock on it."""
LONGEST = 24
"""Characters that the folder's own folder may have: a socket's path has 107 at most, and Ray's
``/delia-xxxxxxxx/r/session_<date, time, pid>/sockets/plasma_store.1`` are 83."""
PATIENCE = 30
"""Times that removing a folder is tried, a tenth of a second apart."""
SHORT = ("/tmp", "/var/tmp")

_locks: dict[Path, int] = {}
"""Folder -> descriptor of its lock, which ends with the process."""


def make() -> Path:
    """A new folder of mode 0700 with a short ASCII path, below the temporary folder.

    Where the temporary folder's path is too long for sockets, or not ASCII, the path leads
    through ``/tmp``: ``r`` in the folder is a link to a folder as private in the temporary one,
    so that what is large lies where the user wants it.

    Raises:
        UserError: no temporary folder can be written.
    """
    there = temporary()
    here = there if _is_fit(there) else _short(there)
    for base in {here, there}:
        remove_left(base)
    folder = _locked(here)
    if here != there:
        os.symlink(_locked(there), folder / "r")
    else:
        os.mkdir(folder / "r", 0o700)
    return folder


def temporary() -> Path:
    """The folder for temporary files, as ``tempfile`` finds it.

    Raises:
        UserError: there is none.
    """
    try:
        return Path(tempfile.gettempdir()).absolute()
    except FileNotFoundError as error:
        named = f"TMPDIR={os.environ['TMPDIR']}" if os.environ.get("TMPDIR") else "TMPDIR"
        raise UserError(
            f"{named}: no temporary folder can be written ({error.strerror}); set TMPDIR to a "
            "folder that can be, on a disk with room"
        ) from None


def remove(folder: Path) -> None:
    """Remove a folder of ``make`` and what its link leads to."""
    linked = folder / "r"
    if linked.is_symlink() and _is_ours(target := Path(os.readlink(linked))):
        _remove_one(target)
    _remove_one(folder)


def remove_left(base: Path) -> list[Path]:
    """Remove what dead processes of this user left in ``base``; returns what that was."""
    gone = []
    for folder in base.glob(f"{PREFIX}*"):
        if _is_ours(folder) and _is_left(folder):
            remove(folder)
            gone.append(folder)
    return gone


def _locked(base: Path) -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        lock = os.open(folder / f"{OWNER}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: it stays for good
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Under its name only now: what has the name and no lock was left.
            os.rename(folder / f"{OWNER}.new", folder / OWNER)
    except OSError as error:
        raise UserError(
            f"{base}: no temporary folder can be made there ({error.strerror}); set TMPDIR to a "
            "folder that can be written, on a disk with room"
        ) from None
    _locks[folder] = lock
    return folder


def _remove_one(folder: Path) -> None:
    for _ in range(PATIENCE):
        # Its owner last: while it is there, the next process can tell what was left.
        with contextlib.suppress(OSError):
            for one in folder.iterdir():
                if one.name == OWNER:
                    continue
                if one.is_dir() and not one.is_symlink():
                    shutil.rmtree(one, ignore_errors=True)
                else:
                    one.unlink()
            if {one.name for one in folder.iterdir()} <= {OWNER}:
                shutil.rmtree(folder)
        if not folder.exists():
            break
        time.sleep(0.1)  # what was killed may still have been writing
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)


def _is_left(folder: Path) -> bool:
    if folder in _locks:
        return False
    try:
        lock = os.open(folder / OWNER, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _is_ours(folder: Path) -> bool:
    try:
        facts = os.lstat(folder)
    except OSError:
        return False
    return (
        folder.name.startswith(PREFIX)
        and stat.S_ISDIR(facts.st_mode)
        and facts.st_uid == os.getuid()
    )


def _is_fit(base: Path) -> bool:
    return str(base).isascii() and len(str(base)) <= LONGEST


def _short(there: Path) -> Path:
    for name in SHORT:
        if os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    raise UserError(
        f"TMPDIR={there}: Ray's sockets need a folder whose path has at most {LONGEST} characters, "
        f"all ASCII, and neither of {', '.join(SHORT)} can be written; set TMPDIR to another"
    )
