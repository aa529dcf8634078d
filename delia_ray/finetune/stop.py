"""How a running training is asked for a checkpoint and its end.

The driver writes a file in the stage's folder, which all that train can reach. Rank 0 looks for
it beside the steps; the others hear of it with the sums of the next step, so all ranks save the
same step, and asking costs no step anything.
"""

import contextlib
import threading

from delia_ray.artifacts import Folder

STOP = "stop.json"
"""In the stage's folder."""
POLL = 0.5
"""Seconds between two looks."""


class Watched:
    """Looks for the request in a thread of its own, from ``with`` to the end of it."""

    def __init__(self, out: Folder) -> None:
        self._out, self._asked, self._end = out, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look, name="stop", daemon=True)

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._end.set()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def _look(self) -> None:
        while not self._asked.is_set():
            with contextlib.suppress(OSError):  # a storage that does not answer is asked again
                if self._out.exists(STOP):
                    self._asked.set()
            if self._end.wait(POLL):
                return
