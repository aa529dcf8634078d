"""The user's screen: our lines and bars there, everybody else's chatter in the run's log.

Ray, vLLM and DeepSpeed write to the process's standard output and error from C++ and from
child processes, so redirecting ``sys.stdout`` is not enough: the file descriptors
themselves are pointed at the log, and the console keeps a duplicate of the old ones.
"""

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from delia_ray.redaction import redact, redact_message

INSIDE_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the processes of a job."""
_SECONDS_BETWEEN_LINES = 15.0
"""Where nobody watches a terminal, progress is a line now and then."""


class Screen:
    """Where the user looks."""

    def __init__(self, stream: TextIO | None = None, run: str = "") -> None:
        """Lines begin with ``run`` inside a Ray job, whose log stands among those of others."""
        self.console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self.run = f"{run} " if run and INSIDE_A_JOB in os.environ else ""

    def line(self, text: str) -> None:
        for one in text.split("\n"):
            self.console.print(f"{self.run}{redact(one)}", markup=False)

    @contextmanager
    def stage(self, label: str) -> Iterator["Bar"]:
        """A progress display for one stage; vanishes when the stage ends."""
        if not self.console.is_terminal:
            yield Bar(self, label, None)
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield Bar(self, label, progress)


class Bar:
    """The progress of one stage; see ``stage.Progress``."""

    def __init__(self, screen: Screen, label: str, progress: Progress | None) -> None:
        self.screen, self.label, self.progress = screen, label, progress
        self.told = time.monotonic()
        if progress is not None:
            self.task = progress.add_task(label, total=None, note="")

    def __call__(self, done: float, total: float, note: str = "") -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=done, total=total, note=note)
        elif time.monotonic() - self.told > _SECONDS_BETWEEN_LINES:
            self.told = time.monotonic()
            self.screen.line(f"{self.label} {done / max(total, 1e-9):4.0%}  {note}")


class _Notes(logging.Handler):
    """What the package's logger ``delia_ray`` warns of is a line on the screen."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self.screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self.screen.line(f"   note: {record.getMessage()}")


@contextmanager
def chatter_to(log: Path, run: str = "") -> Iterator[Screen]:
    """Point descriptors 1 and 2 at ``log`` (appending) and yield a screen on the old ones, for
    the run of that name."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with (
        open(log, "ab", buffering=0) as sink,
        os.fdopen(
            os.dup(saved[0]), "w", 1, encoding=sys.stdout.encoding, errors="backslashreplace"
        ) as out,
    ):
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        screen = Screen(out, run)
        told = _Notes(screen)
        logging.getLogger("delia_ray").addHandler(told)
        try:
            with _python_to(1, "stdout"), _python_to(2, "stderr"):
                yield screen
        finally:
            logging.getLogger("delia_ray").removeHandler(told)
            for old, fd in zip(saved, (1, 2), strict=True):
                os.dup2(old, fd)
                os.close(old)


@contextmanager
def _python_to(descriptor: int, name: str) -> Iterator[None]:
    """Give Python a stream of its own for the log, which never fails: on a full disk chatter is
    lost, but no error of what chatters, nor one of saying an error."""
    before = getattr(sys, name)
    stream = io.TextIOWrapper(
        io.BufferedWriter(_Lenient(descriptor)), "utf-8", "backslashreplace", line_buffering=True
    )
    setattr(sys, name, stream)
    try:
        yield
    finally:
        stream.flush()
        setattr(sys, name, before)


class _Lenient(io.RawIOBase):
    """A file descriptor that takes everything."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        with contextlib.suppress(OSError):
            written = 0
            while written < len(view):
                written += os.write(self.descriptor, view[written:])
        return len(view)


def clock(seconds: float) -> str:
    """``125`` -> ``2:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def clean(log: Path) -> None:
    """Cut credentials out of what other software wrote to ``log``."""
    try:
        kept = log.read_text(errors="surrogateescape")
        if (cut := redact_message(kept)) != kept:
            log.write_text(cut, errors="surrogateescape")
    except OSError:  # no log, or a disk that is full
        return
