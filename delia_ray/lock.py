"""One run, one driver: who works in a folder says so there.

``<run>/drivers/00000007.json`` is what the seventh driver of a run said of itself; the last one
counts. A driver takes the folder by creating the next number, which only one can do: locally a
name is linked once, and object stores create an object on condition that there is none (S3 and
GCS do). Since some that speak S3 do not heed the condition, a driver then waits and looks whether
its own word still stands. A number is never given back, so that whoever
read an older state cannot create it again; who leaves writes that it has left.

A holder is dead when its process is gone (same machine: by id and start time), or, seen from
another machine, when it has not written for ``LIMIT`` seconds: clocks must agree within some
seconds for this. One that comes back after that, as of a suspended machine, finds that the lock
was taken, and ends.
"""

import contextlib
import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from delia_ray.artifacts import Folder
from delia_ray.errors import DeliaError, UserError

PLACE = "drivers"
BEAT = 15.0
"""Seconds between two signs of life."""
LIMIT = 90.0
"""Seconds without one, after which a holder on another machine is taken for dead."""
_SETTLE = 1.0
"""Seconds after which all read from an object store what was last written to it."""
_SAME = 5.0
"""Seconds by which the start of one process may seem to differ, as clocks are set."""
_TRIES = 5
_DIGITS = 8


@dataclass(frozen=True)
class Holder:
    """A driver, as it says of itself."""

    host: str
    machine: str
    """Which boot of which machine, and which of its process namespaces: process ids mean
    something within it only."""
    pid: int
    process_started: float
    """Seconds since 1970, of the process."""
    since: float
    """Of the lock."""
    beat: float
    """Of the last sign of life."""
    token: str
    ended: bool = False

    def is_alive(self, now: float) -> bool:
        if self.ended:
            return False
        if self.machine == _machine():
            started = _started(self.pid)
            return started is not None and abs(started - self.process_started) < _SAME
        return now - self.beat < LIMIT

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.pid} on {self.host}, since {since}"


class Lock:
    """Held from ``acquire`` to ``release``."""

    def __init__(self, run: Folder) -> None:
        self.run, self.folder = run, run / PLACE
        self.holder = Holder(
            host=socket.gethostname(), machine=_machine(), pid=os.getpid(),
            process_started=_started(os.getpid()) or 0.0, since=time.time(), beat=time.time(),
            token=uuid.uuid4().hex,
        )  # fmt: skip
        self.number = 0
        self.lost: Holder | None = None
        """Who has taken it meanwhile."""
        self._stop = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="lock", daemon=True)

    def acquire(self) -> None:
        """Take the lock, from a dead holder too.

        Raises:
            UserError: another driver works there.
        """
        for _ in range(_TRIES):
            number, holder = self._last()
            if holder is not None and holder.is_alive(time.time()):
                raise UserError(_taken(self.run, holder))
            self.number = number + 1
            if self._create():
                for name in self.folder.names():
                    if name < _name(self.number):
                        self._forget(name)
                self._beats.start()
                return
        raise UserError(
            f"{self.run}: other commands are taking this run at the same time; start one of them"
        )

    def check(self) -> None:
        """Before something is published.

        Raises:
            DeliaError: another driver has taken the lock.
        """
        if self.lost is not None:
            raise DeliaError(
                f"{self.run} was taken over by another driver ({self.lost}), because this one "
                f"gave no sign of life for {LIMIT:g} s; it ends, and the other goes on"
            )

    def release(self) -> None:
        """Say that this driver has left."""
        self._stop.set()
        if self._beats.is_alive():
            self._beats.join(BEAT)
        with contextlib.suppress(Exception):  # a storage that is gone or full: the pid tells
            self._look()
            if self.lost is None:
                self._write(replace(self.holder, beat=time.time(), ended=True))

    # --- pieces ---------------------------------------------------------------------------

    def _last(self) -> tuple[int, Holder | None]:
        """The number of the last driver, and what it said; 0 where there was none."""
        names = [n for n in self.folder.names() if n.removesuffix(".json").isdecimal()]
        if not names:
            return 0, None
        holder = None
        for _ in range(_TRIES):  # it may be just being written, where it cannot be linked
            if (holder := _read(self.folder, max(names))) is not None:
                break
            time.sleep(0.1)
        return int(max(names).removesuffix(".json")), holder

    def _create(self) -> bool:
        """Create this driver's file; False where another was faster."""
        name, data = _name(self.number), json.dumps(asdict(self.holder)).encode()
        if self.folder.is_local:
            return _link(Path(self.folder.file(name)), data)
        try:
            self.folder.fs.pipe_file(self.folder.file(name), data, mode="create")
        except FileExistsError:
            return False
        except (TypeError, ValueError, NotImplementedError):  # knows no conditions
            if self.folder.exists(name):
                return False
            self.folder.write_bytes(name, data)
        time.sleep(_SETTLE)
        return self._is_ours()

    def _is_ours(self) -> bool:
        found = _read(self.folder, _name(self.number))
        return found is not None and found.token == self.holder.token

    def _look(self) -> None:
        number, holder = self._last()
        if holder is not None and holder.token != self.holder.token and number >= self.number:
            self.lost = holder

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(Exception):  # the next one may get through
                self._look()
                if self.lost is not None:
                    return
                self._write(replace(self.holder, beat=time.time()))

    def _write(self, holder: Holder) -> None:
        self.folder.write_json(_name(self.number), asdict(holder))

    def _forget(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self.folder.remove(name)


_held: dict[str, Lock] = {}
"""By path of the run. A study's or sweep's own lock is that of its runs in the same folder, too."""


@contextlib.contextmanager
def held(run: Folder) -> Iterator[Lock]:
    """The lock of ``run``, this process's own where it holds it already.

    Raises:
        UserError: another driver works there.
    """
    if (own := _held.get(run.path)) is not None:
        yield own
        return
    lock = Lock(run)
    lock.acquire()
    _held[run.path] = lock
    try:
        yield lock
    finally:
        del _held[run.path]
        lock.release()


def _taken(run: Folder, holder: Holder) -> str:
    said = f"{run}: another command works in this run: {holder}. Wait for its end or stop it"
    if holder.machine == _machine():
        return f"{said}; or give this one another name=..."
    age = max(0.0, time.time() - holder.beat)
    return (
        f"{said} (its last sign of life was {age:.0f} s ago; after {LIMIT:g} s without one this "
        "command takes over); or give this one another name=..."
    )


def _name(number: int) -> str:
    return f"{number:0{_DIGITS}d}.json"


def _read(folder: Folder, name: str) -> Holder | None:
    """What a driver said; None where it is no more, or not one's word."""
    try:
        said: Any = json.loads(folder.read_bytes(name))
        return Holder(**{k: kind(said[k]) for k, kind in _FIELDS.items()})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


_FIELDS = {
    "host": str, "machine": str, "pid": int, "process_started": float, "since": float,
    "beat": float, "token": str, "ended": bool,
}  # fmt: skip


def _link(target: Path, data: bytes) -> bool:
    """Create ``target`` with ``data`` in it, in one step; False where there is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f"{target.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        scratch.write_bytes(data)
        try:
            os.link(scratch, target)
        except FileExistsError:
            return False
        except OSError:  # a filesystem without links
            try:
                with open(target, "xb") as stream:
                    stream.write(data)
            except FileExistsError:
                return False
        return True
    finally:
        scratch.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        boot, space = f"{psutil.boot_time():.0f}", ""
    return f"{socket.gethostname()} {boot} {space}"


def _started(pid: int) -> float | None:
    """When the process began; None where there is none, or only what is left of one."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time())
    except psutil.Error:
        return None
