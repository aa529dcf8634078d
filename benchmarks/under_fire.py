"""What the scripts that kill things share: a cluster of their own, drivers that are started again
as an operator would, and the table of what came of it."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from delia_ray.drill import strike

Driver = subprocess.Popen[bytes]

TEMP = f"{tempfile.gettempdir()}/chaos-{os.getpid()}"
"""Ray's folder; it names this cluster's processes, and is short because sockets lie in it."""
ENV = os.environ | {
    "RAY_AUTH_MODE": "disabled", "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TMPDIR": TEMP,  # the cluster's address is written below it, not where all look for one
}  # fmt: skip
_STARTS = 3
"""Times that a driver which fails is started again."""


class Place:
    """A local cluster, and the folders that the runs live in.

    Args:
        keep: the folders, in the end.
        cpus: of the head.
    """

    def __init__(self, keep: bool, cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.keep = keep
        self.root = Path(tempfile.mkdtemp(prefix="chaos-"))
        Path(TEMP, "ray").mkdir(parents=True, exist_ok=True)
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": cpus, "include_dashboard": False, "temp_dir": TEMP},
        )
        self.cluster.wait_for_nodes()

    def close(self) -> None:
        self.cluster.shutdown()
        if self.keep:
            print(f"kept: {self.root}")
        else:
            shutil.rmtree(self.root, ignore_errors=True)

    def fresh(self, name: str, prepare: Callable[[Path], list[str]]) -> Path:
        """A storage folder in which the command ``prepare(storage)`` has run, once for all."""
        storage, ready = self.root / name, self.root / "ready"
        if not ready.exists():
            ready.mkdir()
            subprocess.run(prepare(ready), check=True, env=ENV, stdout=subprocess.DEVNULL)
        shutil.copytree(ready, storage)
        return storage


def parser(description: str | None, out: str) -> argparse.ArgumentParser:
    """Options of both; ``out`` names what is written there."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--runs", type=int, default=20)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, help=f"folder for {out}.md and {out}.json")
    made.add_argument("--keep", action="store_true", help="keep the runs' folders")
    return made


def start(command: Sequence[str], storage: Path) -> Driver:
    """A driver, whose output goes to a file in ``storage``."""
    log = open(storage / "driver.txt", "ab")  # noqa: SIM115
    return subprocess.Popen(command, stdout=log, stderr=log, env=ENV)


def finish(
    driver: Driver, again: Callable[[], Driver], storage: Path, began: float, limit: float
) -> int:
    """Wait for the driver; start it again while it fails. How often it was started again.

    Raises:
        SystemExit: it is not done ``limit`` seconds after ``began``, or fails every time.
    """
    for starts in range(_STARTS + 1):
        try:
            code = driver.wait(timeout=max(1.0, limit - (time.monotonic() - began)))
        except subprocess.TimeoutExpired:
            driver.kill()
            sys.exit(f"{storage}: unfinished after {limit:g} s\n{tail(storage)}")
        if code == 0:
            return starts
        if starts < _STARTS:
            driver = again()
    sys.exit(f"{storage}: fails again and again\n{tail(storage)}")


def tail(storage: Path) -> str:
    """The last that the drivers of ``storage`` printed."""
    return (storage / "driver.txt").read_text()[-3000:]


def kill(title: str) -> bool:
    """SIGKILL a process of this cluster that calls itself so; False where there is none."""
    return strike.kill(title, TEMP)


def report(
    out: Path, title: str, said: str, columns: Sequence[str], figures: Mapping[str, Any],
    results: Sequence[Any],
) -> None:  # fmt: skip
    """Write a table of the results (dataclasses), and figures and results as JSON."""
    out.mkdir(parents=True, exist_ok=True)
    name, rows = figures["benchmark"], [asdict(r) for r in results]
    (out / f"{name}.json").write_text(json.dumps({**figures, "results": rows}, indent=1) + "\n")
    lines = [
        f"# {title}", "", f"{figures['date']}, {figures['device']}{said}", "",
        "| " + " | ".join(columns) + " |",
        "|" + " --- |" * len(columns),
        *("| " + " | ".join(map(str, row.values())) + " |" for row in rows),
    ]  # fmt: skip
    (out / f"{name}.md").write_text("\n".join(lines) + "\n")
