"""What of a process's environment would break a run, mended or refused before anything starts."""

import atexit
import getpass
import io
import locale
import logging
import os
import sys
from pathlib import Path

from delia_ray.errors import UserError
from delia_ray.runtime import private

_log = logging.getLogger("delia_ray")


def settle() -> None:
    """Make this process and those it starts independent of who and where they are.

    A folder for HOME where there is none that can be written, a name for the user where passwd
    has none, and no module from the working folder in place of Python's. What was replaced is
    told.

    Raises:
        UserError: the working folder is gone, or no temporary folder can be written.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    _check_folder()
    _check_temporary()
    _settle_user()
    _settle_home()
    # In the temporary folder its name could be guessed, and what lies there is run.
    cache = Path.home() / ".cache" / "torchinductor"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))


def speak_utf8() -> None:
    """Start this command again in Python's UTF-8 mode where the locale has another encoding: it
    would be that of file names, and of what is read and written without saying which. What a
    stream cannot show it shows as an escape."""
    if locale.getpreferredencoding(False).lower().replace("-", "") != "utf8":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def keep_private() -> None:
    """Let nobody else read what this process, and those it starts, write from now on."""
    os.umask(os.umask(0o077) | 0o077)


def _check_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the working folder cannot be used ({error.strerror}): it was removed, or may not be "
            "entered; change to another with cd"
        ) from None


def _check_temporary() -> None:
    wanted = os.environ.get("TMPDIR")
    found = private.temporary()
    if wanted and Path(os.path.abspath(wanted)) != found:
        _log.warning("TMPDIR=%s cannot be written; temporary files lie in %s", wanted, found)
        os.environ["TMPDIR"] = str(found)  # not everybody looks whether it can


def _settle_user() -> None:
    try:
        getpass.getuser()
    except (KeyError, OSError):  # PyTorch asks, and does not catch it
        os.environ["USER"] = f"user-{os.getuid()}"


def _settle_home() -> None:
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and no entry in passwd
        home = Path()
    if home.is_absolute() and home.is_dir() and os.access(home, os.W_OK | os.X_OK):
        return
    folder = private.make()
    atexit.register(private.remove, folder)
    cache = home / ".cache" / "huggingface"
    if home.is_absolute() and os.access(cache, os.R_OK | os.X_OK):
        os.environ.setdefault("HF_HOME", str(cache))  # models that are there can be read
    said = f"HOME={home} cannot be written" if home.is_absolute() else "there is no HOME"
    _log.warning(
        "%s; what libraries keep there, such as models of the hub, is lost at "
        "the end of this run. Set HOME to keep it", said,
    )  # fmt: skip
    os.environ["HOME"] = str(folder / "r")
