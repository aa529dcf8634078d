"""The study of the paper's claims, as a Ray job; killed, the same command goes on:

ray job submit --working-dir . -- python jobs/study.py storage=s3://bucket/studies seeds=8
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from delia_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["study", "claims", *sys.argv[1:]]))
