"""Peak memory of a command over all the processes that exist because of it.

    python benchmarks/peak_memory.py delia synthesize recipe.yaml

Ray's daemons and workers are not all children of the driver, so every process that started
after the command counts. Memory that several share (mapped files, the object store) counts
once (PSS). The command's output passes through; the last line is JSON.
"""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime

import psutil

EVERY = 1.0
"""Seconds between two looks."""


def main() -> int:
    before = {(p.pid, p.create_time()) for p in psutil.process_iter()}
    began, most = time.monotonic(), 0
    command = subprocess.Popen(sys.argv[1:])
    while command.poll() is None:
        most = max(most, sum(_pss(p) for p in psutil.process_iter() if _key(p) not in before))
        time.sleep(EVERY)
    print(
        json.dumps(
            {
                "benchmark": "peak_memory",
                "date": datetime.now(UTC).date().isoformat(),
                "device": f"CPU, {os.cpu_count()} cores",
                "command": sys.argv[1:],
                "exit_code": command.returncode,
                "seconds": round(time.monotonic() - began, 1),
                "peak_gib": round(most / 2**30, 2),
            }
        )
    )
    return command.returncode


def _key(process: psutil.Process) -> tuple[int, float]:
    try:
        return process.pid, process.create_time()
    except psutil.NoSuchProcess:
        return process.pid, 0.0


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    sys.exit(main())
