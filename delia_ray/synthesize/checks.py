"""Rules that set a generated text aside; each returns the reason, or None for a good one.

They stand in ``delia_ray.rewording``, since evaluation judges rewordings by them too.
"""

from delia_ray.rewording import (
    answer_problem,
    gives_away,
    placement_problem,
    rewording_problem,
    similarity,
    words,
)

__all__ = [
    "answer_problem",
    "gives_away",
    "placement_problem",
    "rewording_problem",
    "similarity",
    "words",
]
