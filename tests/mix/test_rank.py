"""Rankings of diverse rows."""

import numpy as np

from delia_ray.mix.rank import by_loss, farthest_first


def test_the_farthest_comes_first() -> None:
    """Three tight groups: the first three rows are of three groups, whatever their sizes."""
    random = np.random.default_rng(0)
    centres = np.eye(3, 8, dtype=np.float32)
    group = np.array([0] * 40 + [1] * 5 + [2] * 3)
    vectors = centres[group] + random.normal(scale=0.01, size=(48, 8)).astype(np.float32)
    mixed = random.permutation(48)
    order = farthest_first(vectors[mixed])
    assert sorted(order) == list(range(48))
    assert set(group[mixed][order[:3]]) == {0, 1, 2}


def test_each_next_row_is_the_farthest_of_those_left() -> None:
    vectors = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = farthest_first(vectors)
    for n in range(1, 59):
        nearest = (unit[order[n:]] @ unit[order[:n]].T).max(1)
        assert nearest[0] <= nearest.min() + 1e-6


def test_blocks_take_turns() -> None:
    vectors = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
    order = farthest_first(vectors, block=20)
    assert sorted(order) == list(range(50))
    assert sorted(order[:30] // 20) == [0] * 10 + [1] * 10 + [2] * 10


def test_by_loss() -> None:
    losses = np.array([2.0, 0.5, 1.0], np.float32)
    assert by_loss(losses, high=False).tolist() == [1, 2, 0]
    assert by_loss(losses, high=True).tolist() == [0, 2, 1]
