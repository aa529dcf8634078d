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
from datetime import UTC, datetime

from observed import Observed


def main() -> int:
    with Observed() as seen:
        done = subprocess.run(sys.argv[1:], check=False)
    print(
        json.dumps(
            {
                "benchmark": "peak_memory",
                "date": datetime.now(UTC).date().isoformat(),
                "device": f"CPU, {os.cpu_count()} cores",
                "command": sys.argv[1:],
                "exit_code": done.returncode,
                "seconds": round(seen.seconds, 1),
                "peak_gib": seen.peak_gib,
            }
        )
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
