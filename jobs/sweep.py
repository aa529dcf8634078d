"""A sweep as a Ray job; its exit code is the job's.

ray job submit --address http://HEAD:8265 --working-dir . -- \
    python jobs/sweep.py jobs/sweeps/mix.yaml storage=/shared/runs

The same command goes on where an earlier job was broken off. ``storage`` must be reached by all
nodes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from delia_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
