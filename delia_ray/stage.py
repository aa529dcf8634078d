"""What a stage is: a function from finished folders to one more finished folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig


class Progress(Protocol):
    """Shows how far a stage is; cheap enough to call for every batch."""

    def __call__(self, done: float, total: float, note: str = "") -> None: ...


def silent(done: float, total: float, note: str = "") -> None:
    """The progress of a stage nobody watches."""


@dataclass(frozen=True)
class StageRun:
    """What a stage gets to work with."""

    config: RunConfig
    run: Folder
    """The run's folder; stages read others' results only through ``inputs``."""
    out: Folder
    """Where this stage writes; published by the pipeline when the stage returns."""
    inputs: Mapping[str, Folder]
    """Finished folders of the stages named in ``Stage.needs``."""
    progress: Progress = silent
    here: bool = False
    """Do all work in this process, which is a task or an actor that has its CPUs and GPUs
    already: waiting for others could wait forever on a small cluster."""


@dataclass(frozen=True)
class Outcome:
    """What a stage reports; goes to the manifest, the terminal and the report page."""

    counts: dict[str, Any] = field(default_factory=dict)
    """JSON values: rows in, kept, set aside by reason, tokens ..."""
    summary: str = ""
    """One line for the terminal."""
    notes: list[str] = field(default_factory=list)
    """Further lines: what was guessed, and what was left out."""


@dataclass(frozen=True)
class Stage:
    """One box of the pipeline."""

    name: str
    version: int
    """Raised when the code changes what comes out of unchanged inputs."""
    needs: Mapping[str, tuple[str, ...]]
    """Stages whose folders it reads, and which tables of them; no tables means the whole
    stage. Named tables enter the fingerprint by their content, so that what changes another
    table of that stage (a suite added, say) leaves this one done."""
    settings: Callable[[RunConfig], Any]
    """Everything outside ``needs`` that the result depends on, as JSON: the part of the
    config, digests of the user's files and of the model. Raises UserError where one is
    missing, so a run fails before its first stage starts."""
    run: Callable[[StageRun], Outcome]
