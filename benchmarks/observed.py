"""CPU time and memory of every process that starts while something runs."""

import threading
import time

import psutil

EVERY = 1.0
"""Seconds between two looks."""
Key = tuple[int, float]


class Observed:
    """Of every process that starts within the block: those of Ray are not all children of this
    one. Memory that several share counts once (PSS)."""

    def __enter__(self) -> "Observed":
        self.before = {key_of(p) for p in psutil.process_iter()}
        self.cpu: dict[Key, float] = {}
        self.seen: list[tuple[float, float]] = []  # seconds, CPU seconds until then
        self.peak, self.began = 0, time.monotonic()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.seconds = time.monotonic() - self.began

    def _watch(self) -> None:
        while not self.over.wait(EVERY):
            held = 0
            for process in psutil.process_iter():
                if key_of(process) in self.before:
                    continue
                try:
                    times = process.cpu_times()
                    self.cpu[key_of(process)] = times.user + times.system
                    held += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, held)
            self.seen.append((time.monotonic() - self.began, sum(self.cpu.values())))

    def busy(self, seconds: float) -> float:
        """CPU seconds per second in the busiest stretch of so many seconds."""
        found = 0.0
        for at, used in self.seen:
            past = [one for one in self.seen if at - one[0] >= seconds]
            if past:
                since, before = past[-1]
                found = max(found, (used - before) / (at - since))
        return round(found, 2)

    @property
    def peak_gib(self) -> float:
        """The most memory that the processes held together."""
        return round(self.peak / 2**30, 2)


def key_of(process: psutil.Process) -> Key:
    """Tells a process from a later one with its number."""
    try:
        return process.pid, process.create_time()
    except psutil.NoSuchProcess:
        return process.pid, 0.0
