"""A whole run, as a Ray job:

ray job submit --working-dir . -- python jobs/run.py jobs/recipes/miniature.yaml storage=s3://bucket/runs

The uploaded folder's code runs, on the driver and on the workers. `delia submit` does the same
with the code that the cluster has, uploads less and ends with the job's exit code.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from delia_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
