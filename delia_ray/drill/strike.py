"""Doing it: kill one process of a kind, a raylet, or take the storage away."""

import subprocess
import time
from pathlib import Path

import psutil

from delia_ray.drill.place import Place, deny, fill

TITLES = {
    "engine": ("VLLM::EngineCore", "ray::MapWorker"),
    "queue": ("ray::_Queue",),
    "worker": ("ray::RayTrainWorker",),
    "controller": ("ray::TrainController",),
}
"""How the processes of a kind call themselves, the likeliest first."""
SECONDS = 4.0
"""How long storage is denied or a disk full."""

PATIENCE = 30.0
"""How long a process of a kind is waited for."""


def strike(
    place: Place, kind: str, driver: "subprocess.Popen[bytes]", storage: Path
) -> str:  # fmt: skip
    """Strike once; says what was struck, which is the driver where nothing of ``kind`` came up."""
    if kind == "node":
        place.replace_node()
    elif kind == "storage":
        deny(storage, SECONDS)
    elif kind == "disk":
        fill(storage, SECONDS)
    elif kind == "driver":
        driver.kill()
    elif not _kill_soon(kind, place.temp, driver):
        driver.kill()
        return f"driver (no {kind} came up)"
    return kind


def _kill_soon(kind: str, temp: str, driver: "subprocess.Popen[bytes]") -> bool:
    """Kill the first process of ``kind`` that comes up: a stage begins with some seconds in which
    there is none. False where none came."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and driver.poll() is None:
        if any(kill(title, temp) for title in TITLES[kind]):
            return True
        time.sleep(0.1)
    return False


def kill(title: str, temp: str) -> bool:
    """SIGKILL one process that calls itself ``title``, of the cluster whose folder is ``temp``;
    False where there is none."""
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if line.startswith(title) and _is_ours(process, temp):
            process.kill()
            return True
    return False


def _is_ours(process: psutil.Process, temp: str) -> bool:
    try:
        return any(temp in " ".join(p.cmdline()) for p in process.parents())
    except psutil.Error:
        return False
