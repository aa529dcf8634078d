"""The log of a job, to its end, through lost connections."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from delia_ray.errors import DeliaError

PATIENCE = 900.0
"""Seconds without a connection after which nobody waits any longer."""
ENDED = {"SUCCEEDED", "FAILED", "STOPPED"}


class ConnectionLost(Exception):
    """The cluster could not be reached; it may be again."""


@dataclass(frozen=True)
class State:
    """How a job is."""

    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    exit_code: int | None
    """Of the job's own process, where it ended by itself."""
    message: str


class Jobs(Protocol):
    """What following needs of a cluster. All raise ``ConnectionLost``."""

    def state(self, job: str) -> State: ...

    def tail(self, job: str) -> Iterator[str]:
        """The log from its beginning, in pieces, for as long as the connection holds."""

    def log(self, job: str) -> str:
        """The whole log up to now."""


def follow(
    jobs: Jobs, job: str, write: Callable[[str], None], tell: Callable[[str], None],
    patience: float = PATIENCE, pause: Callable[[float], None] = time.sleep,
) -> State:  # fmt: skip
    """Hand every character of the log to ``write`` once, until the job has ended.

    Args:
        tell: is told of lost connections.
        patience: seconds without a connection before this gives up.
        pause: waits so many seconds.

    Raises:
        DeliaError: no connection for longer than ``patience``; the job may go on.
    """
    told, away = _Once(write), 0.0
    while True:
        try:
            told.all_of(jobs.tail(job))
            state = jobs.state(job)
            if state.status in ENDED:
                told.all_of([jobs.log(job)])
                return state
            away = 0.0
            pause(1.0)
        except ConnectionLost as lost:
            if told.grew():
                away = 0.0
            if away == 0:
                tell(f"connection lost ({lost}); the job goes on, trying again")
            if away >= patience:
                raise DeliaError(
                    f"no connection for {away:g} s ({lost}). The job may still run; follow it "
                    f"with `delia submit --follow {job}`, stop it with `delia submit --stop {job}`"
                ) from None
            wait = min(30.0, max(1.0, away))
            pause(wait)
            away += wait


class _Once:
    """Writes what was not written yet of a text that is told again from its beginning."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write, self.written, self.before = write, 0, 0

    def all_of(self, pieces: Iterator[str] | list[str]) -> None:
        at = 0
        for piece in pieces:
            at += len(piece)
            new = at - self.written
            if new > 0:
                self.write(piece[-new:])
                self.written = at

    def grew(self) -> bool:
        """Whether anything was written since the last call."""
        grew, self.before = self.written > self.before, self.written
        return grew


def exit_code(state: State) -> int:
    """What the command ends with: the job's own code, 130 for a stopped one."""
    if state.status == "SUCCEEDED":
        return 0
    if state.status == "STOPPED":
        return 130
    return state.exit_code if state.exit_code is not None and state.exit_code > 0 else 1
