"""How the answering is cut into tasks, and that what is answered is not asked again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from delia_ray.artifacts import open_storage
from delia_ray.config import TransformersEngine, VllmEngine
from delia_ray.engines import Request
from delia_ray.evaluate.answering import Share, answer, cut, lanes
from delia_ray.evaluate.fan_out import beside_others


@pytest.mark.parametrize(
    ("tasks", "cpus", "at_once"),
    [
        (1, 2, 1), (2, 2, 2),
        (3, 2, 3),  # all three at once, and both CPUs are busy to the end
        (4, 2, 2), (6, 4, 6), (5, 2, 3), (13, 2, 2), (1, 16, 1), (17, 16, 17), (0, 2, 1),
    ],
)  # fmt: skip
def test_lanes(tasks: int, cpus: int, at_once: int) -> None:
    assert lanes(tasks, cpus) == at_once


def _requests(count: int) -> list[Request]:
    return [
        Request(f"s/{i}", [{"role": "user", "content": "x" * (i % 7)}], 4) for i in range(count)
    ]


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 50])
def test_batches_do_not_depend_on_the_number_of_tasks(tasks: int) -> None:
    requests = _requests(45)
    (whole,), mine = cut(requests, 1, 8), cut(requests, tasks, 8)
    assert len(mine) <= tasks
    batches = [part[i : i + 8] for part in mine for i in range(0, len(part), 8)]
    assert batches == [whole[i : i + 8] for i in range(0, 45, 8)]
    assert sorted(r.key for r in whole) == sorted(r.key for r in requests)


def test_only_missing_chunks_are_answered(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    base = make_model(tmp_path / "base")
    share = Share("base-0", str(base), None, _requests(10), 4)
    engine, whole, other = TransformersEngine(batch_size=4), tmp_path / "a", tmp_path / "b"
    first = answer(engine, share, open_storage(str(whole)))
    assert first.prompts == 10
    names = sorted(p.name for p in whole.iterdir())
    assert names == [f"base-0-{n:05d}.parquet" for n in range(3)]
    before = {p.name: p.read_bytes() for p in whole.iterdir()}
    # One chunk is there: its file is not touched, and the others come out the same.
    other.mkdir()
    (other / names[1]).write_bytes(b"what was done before")
    again = answer(engine, share, open_storage(str(other)))
    assert again.prompts == 6
    assert (other / names[1]).read_bytes() == b"what was done before"
    kept = open_storage(str(whole)), open_storage(str(other))
    for name in (names[0], names[2]):
        tables = [f.read_table(name).drop_columns("seconds") for f in kept]
        assert tables[0].equals(tables[1])
    nothing = answer(engine, share, open_storage(str(whole)))
    assert (nothing.prompts, nothing.loading) == (0, 0.0)
    assert {p.name: p.read_bytes() for p in whole.iterdir()} == before


@pytest.mark.ray
def test_engines_that_answer_at_once_share_cores_and_memory(ray_local: None) -> None:
    vllm, plain = VllmEngine(), TransformersEngine()
    assert beside_others(vllm, 1) is vllm
    assert beside_others(plain, 3) is plain
    shared = beside_others(vllm, 3)  # of two CPUs
    assert (shared.cpus, shared.replicas) == (1, 3)
    assert beside_others(VllmEngine(cpus=2), 3).cpus == 2
