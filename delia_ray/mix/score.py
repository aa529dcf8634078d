"""What the base model makes of each sequence: its loss, and a vector for its prompt."""

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from delia_ray.mix.build import STORE, Job, run_parts
from delia_ray.scoring import scorer
from delia_ray.store import Store

SIZE = 64
"""Numbers of a vector: hidden states are projected at random (Johnson-Lindenstrauss)."""


def score_all(job: Job, rows: list[int]) -> Iterator[tuple[int, pa.Table]]:
    """(part, table of ``loss`` and ``vector`` of each sequence in it), as they are done.

    Args:
        rows: sequences in each part of the store.
    """
    work = functools.partial(_score, job=job, rows=rows)
    return run_parts(job, work, model=True)


def _score(part: int, job: Job, rows: list[int]) -> pa.Table:
    model = scorer(job.model, job.special_tokens)
    store, first = Store(job.out, STORE), sum(rows[:part])
    found = store.rows(range(first, first + rows[part]))
    made = model.score([r["input_ids"] for r in found], [r["supervised"] for r in found])
    return pa.table({"loss": made.loss, "vector": list(made.state @ _projection(model.hidden))})


@functools.cache
def _projection(hidden: int) -> npt.NDArray[np.float32]:
    """(hidden, SIZE)"""
    random = np.random.default_rng(0).normal(size=(hidden, SIZE))
    return np.asarray(random / np.sqrt(SIZE), np.float32)
