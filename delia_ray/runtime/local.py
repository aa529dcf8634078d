"""A cluster of this machine for this process alone: private folder, own token, loopback only."""

import contextlib
import importlib
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delia_ray import shared_memory
from delia_ray.errors import DeliaError
from delia_ray.runtime import private

if TYPE_CHECKING:
    import psutil

LOOPBACK = "127.0.0.1"
FOLDER = "DELIA_PRIVATE_FOLDER"
"""Variable that tells a cluster's processes of their folder."""
WITHOUT = (
    "RAY_AUTH_TOKEN", "RAY_REDIS_ADDRESS", "RAY_GCS_SERVER_PORT", "RAY_ADDRESS",
)  # fmt: skip
"""Variables that are about other clusters."""
_KILL = 3.0
"""Seconds within which killed processes must be gone."""
TRIES = 2
"""Starts: on a machine that is busy a node may be late."""


@dataclass(frozen=True)
class Own:
    """What has to be undone when the cluster ends."""

    folder: Path
    before: Mapping[str, str | None]
    """Variables of the environment, as they were."""


def start(cpus: int, environment: Mapping[str, str]) -> Own:
    """Start a cluster with ``cpus`` logical CPUs and connect to it.

    Args:
        environment: of its workers, where this process has no value of its own.

    Raises:
        UserError: no temporary folder can be written.
        DeliaError: Ray does not start.
    """
    import ray

    for left in reversed(range(TRIES)):
        own = prepare(environment)
        try:
            with as_told("ENABLE_RAY_CLUSTER", "RAY_ENABLE_UV_RUN_RUNTIME_ENV"), _private_files():
                ray.init(**options(own.folder, cpus), job_config=job())
            return own
        except Exception as error:
            told = last_words(own.folder)
            print(f"Ray did not start: {error}\n{told}", file=sys.stderr, flush=True)
            end(own)
            if left and not isinstance(error, (OSError, ValueError, TypeError)):
                continue
            raise DeliaError(f"Ray did not start here: {_first_line(error)}") from error
        except BaseException:
            end(own)
            raise
    raise AssertionError  # the loop returns or raises


def options(folder: Path, cpus: int) -> dict[str, Any]:
    """For ``ray.init``."""
    return {
        "address": "local",
        "num_cpus": cpus,
        "include_dashboard": False,
        # Nobody scrapes it, and the page of metrics is shown without a token.
        "_system_config": {"enable_metrics_collection": False},
        # Ray makes it writable for all; it lies in a folder that only this user may enter.
        "_temp_dir": str(folder / "r"),
        "_node_ip_address": LOOPBACK,
        "_skip_env_hook": True,
        "logging_level": "warning",
    }


def prepare(environment: Mapping[str, str]) -> Own:
    """A private folder with a token in it, and the environment that leads a cluster there."""
    folder = private.make()
    token = folder / "token"
    with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secrets.token_hex(32))
    temporary = folder / "r" / "tmp"
    temporary.mkdir(mode=0o700)
    wanted: dict[str, str | None] = {
        **{name: os.environ.get(name, value) for name, value in environment.items()},
        **dict.fromkeys(WITHOUT),
        FOLDER: str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "TMPDIR": str(temporary),  # of the workers: vLLM's and PyTorch's sockets lie there
        "VLLM_HOST_IP": LOOPBACK,
        **dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), _loopback_name()),
    }
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    read_token()
    return Own(folder, before)


def end(own: Own) -> None:
    """Undo ``prepare``; whatever still runs for the cluster is killed."""
    end_processes(own.folder)
    _set(own.before)
    read_token()
    private.remove(own.folder)


def end_processes(folder: Path) -> None:
    """Kill this user's processes that were started for the cluster in ``folder``: by their
    environment, which a process that calls itself something else loses, or their command line."""
    import psutil

    found = processes(folder)
    shared_memory.note(one.pid for one in found)
    for one in found:
        with contextlib.suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(found, timeout=_KILL)
    shared_memory.remove_noted()


def processes(folder: Path) -> "list[psutil.Process]":
    """Those that ``end_processes`` kills."""
    import psutil

    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if one.pid == os.getpid() or one.uids().real != os.getuid():
                continue
            if str(folder) in " ".join(one.cmdline()) or one.environ().get(FOLDER) == str(folder):
                found.append(one)
    return found


def read_token() -> None:
    """Have Ray read mode and token again, which it keeps from when it was loaded."""
    raylet: Any = importlib.import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def as_told(*names: str) -> Iterator[None]:
    """Have some of Ray's constants false for a while.

    ``ENABLE_RAY_CLUSTER``: loopback is resolved to the machine's address in the network.
    ``RAY_ENABLE_UV_RUN_RUNTIME_ENV``: under ``uv run`` the working folder, runs and all, is
    uploaded to the workers.
    """
    from ray._private import ray_constants

    before = {name: getattr(ray_constants, name) for name in names}
    for name in names:
        setattr(ray_constants, name, False)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(ray_constants, name, value)


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """What the processes that are started here write is for this user alone."""
    before = os.umask(0o077)
    os.umask(before | 0o077)
    try:
        yield
    finally:
        os.umask(before)


class _NoPaths(list[str]):
    def extend(self, _: Any) -> None:
        """Ray puts the driver's working folder and its script's before all else in the workers'
        ``sys.path``: a ``statistics.py`` that lies there would be taken for Python's."""


def job() -> Any:
    """A job whose workers import nothing from the folder that its driver was started in."""
    from ray.job_config import JobConfig

    made = JobConfig()
    made._py_driver_sys_path = _NoPaths()
    return made


def last_words(folder: Path) -> str:
    """The ends of what the processes of a cluster that did not start wrote."""
    said = []
    for file in sorted((folder / "r").glob("session_2*/logs/*")):
        if file.suffix in (".err", ".out", ".log") and file.is_file():
            with contextlib.suppress(OSError):
                lines = file.read_text(errors="replace").splitlines()[-3:]
                said += [f"{file.name}: {line}" for line in lines]
    return "\n".join(said)


def _loopback_name() -> str:
    import psutil

    interfaces = psutil.net_if_addrs().items()
    return next((n for n, every in interfaces if any(a.address == LOOPBACK for a in every)), "lo")


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
