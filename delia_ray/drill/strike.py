"""Doing it: kill one process of a kind, a raylet, or take the storage away."""

import subprocess
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


def strike(
    place: Place, kind: str, driver: "subprocess.Popen[bytes]", storage: Path
) -> str:  # fmt: skip
    """Strike once; says what was struck, which is the driver where nothing of ``kind`` is up."""
    if kind == "node":
        place.replace_node()
    elif kind == "storage":
        deny(storage, SECONDS)
    elif kind == "disk":
        fill(storage, SECONDS)
    elif kind == "driver":
        driver.kill()
    elif not any(_kill(title, place.temp) for title in TITLES[kind]):
        driver.kill()
        return f"driver (no {kind} was up)"
    return kind


def _kill(title: str, temp: str) -> bool:
    """Kill one process of this cluster that calls itself ``title``."""
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
