"""``delia submit``: hand in, follow, stop."""

import sys
import tempfile
import uuid
from pathlib import Path

from delia_ray.config import RunConfig
from delia_ray.errors import DeliaError
from delia_ray.submit.client import Cluster
from delia_ray.submit.follow import ENDED, ConnectionLost, exit_code, follow
from delia_ray.submit.package import pack

GRACE = 60
"""Seconds that a job gets to end after it was asked to."""


def hand_in(
    cluster: Cluster, config: RunConfig, secrets: dict[str, str], python: str, verb: str
) -> str:
    """Start ``config`` as a job; returns its id.

    Raises:
        UserError: a file is missing or there is too much of them.
        DeliaError: the cluster refused the job.
    """
    job = f"{config.name}-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="delia-") as scratch:
        package = pack(config, Path(scratch))
        listed = ", ".join(package.files[:5]) + (", ..." if len(package.files) > 5 else "")
        tell(f"job {job}: {len(package.files)} files, {package.bytes / 2**20:.1f} MiB ({listed})")
        cluster.submit(job, package, secrets, python, verb)
    return job


def watch(cluster: Cluster, job: str, address: str) -> int:
    """Print the log of ``job`` until it ends; returns the exit code of the command.

    Ctrl-C asks whether to stop the job; without a terminal it stops it.

    Raises:
        DeliaError: the connection is gone for good.
    """
    again = f"delia submit --follow {job} --address {address}"
    try:
        state = follow(cluster, job, _write, tell)
    except KeyboardInterrupt:
        if not _wants_to_stop():
            tell(f"the job goes on; `{again}` follows it")
            return 130
        return stop(cluster, job)
    _write("")
    if state.status != "SUCCEEDED":
        tell(f"job {job} {state.status.lower()}: {state.message}")
    return exit_code(state)


def stop(cluster: Cluster, job: str) -> int:
    """Ask ``job`` to end and wait for it; returns the exit code of the command.

    Raises:
        DeliaError: it does not end, or the connection is gone.
    """
    import time

    try:
        asked = cluster.stop(job)
        for _ in range(GRACE):
            state = cluster.state(job)
            if state.status in ENDED:
                tell(f"job {job} {state.status.lower()}" + ("" if asked else ", before this"))
                return 130 if state.status == "STOPPED" else exit_code(state)
            time.sleep(1)
    except ConnectionLost as lost:
        raise DeliaError(f"job {job} may still run: {lost}; try again") from None
    raise DeliaError(f"job {job} did not end within {GRACE} s of being asked to")


def tell(text: str) -> None:
    """Say something of our own, apart from the job's log."""
    print(text, file=sys.stderr, flush=True)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _wants_to_stop() -> bool:
    if not sys.stdin.isatty():
        return True
    try:
        return input("\nstop the job too? [y/N] ").strip().lower() in ("y", "yes")
    except (KeyboardInterrupt, EOFError):
        return False
