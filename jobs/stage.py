"""One stage and what it needs, as a Ray job; what is done already is skipped:

ray job submit --working-dir . -- python jobs/stage.py synthesize mine.yaml mix.ratio=135
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from delia_ray.cli import STAGE_VERBS, main

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in STAGE_VERBS:
        sys.exit(f"usage: python jobs/stage.py {'|'.join(STAGE_VERBS)} RECIPE.yaml [key=value ...]")
    sys.exit(main(sys.argv[1:]))
