"""Steps as tensors: whoever computes them, however they are packed, a step means the same."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from delia_ray.artifacts import Folder, open_storage
from delia_ray.finetune.batches import IGNORED, Steps
from delia_ray.finetune.objective import Objective, run
from delia_ray.records import SEQUENCE, STEP, TOKENS, conform
from delia_ray.store import Store, lists, write_file, write_index

ROWS, BATCH, PACKS = 40, 10, 4
WORLDS = [1, 2, 3, 8]


def write_mix(folder: Folder, vocabulary: int = 200) -> None:
    """A finished mix: 40 rows of random tokens, 4 steps of 10 rows in 4 packs."""
    random = np.random.default_rng(0)
    ids: list[Any] = []
    masks: list[Any] = []
    rows = []
    for i in range(ROWS):
        length = int(random.integers(4, 20))
        answer = int(random.integers(1, length - 1))
        ids.append(random.integers(1, vocabulary, length))
        masks.append(np.arange(length) >= length - answer)
        rows.append(
            {
                "id": str(i), "source": "s", "row": i, "variant": 0, "piece": 0,
                "kind": "downstream" if i < 8 else "diverse",
                "tokens": length, "supervised_tokens": answer,
            }
        )  # fmt: skip
    kinds = [TOKENS.field(n).type.value_type for n in ("input_ids", "supervised")]
    columns = {"input_ids": lists(ids, kinds[0]), "supervised": lists(masks, kinds[1])}
    write_index(folder, "sequences", [write_file(folder, "sequences", 0, columns)])
    folder.write_table("sequences.parquet", conform(rows, SEQUENCE))
    steps = np.split(random.permutation(ROWS), ROWS // BATCH)
    packs = [random.integers(0, PACKS, BATCH) for _ in steps]
    kinds = [STEP.field(n).type.value_type for n in ("sequence", "pack")]
    columns = {"sequence": lists(steps, kinds[0]), "pack": lists(packs, kinds[1])}
    rows_ = [write_file(folder, "steps-delia", 0, columns)]
    write_index(folder, "steps-delia", rows_, packs=PACKS)


@pytest.fixture(scope="module")
def mix(tmp_path_factory) -> Folder:
    folder = open_storage(str(tmp_path_factory.mktemp("mix")))
    write_mix(folder)
    return folder


@pytest.fixture(scope="module")
def steps(mix: Folder) -> Steps:
    return Steps(mix, "delia")


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_model):
    from transformers import AutoModelForCausalLM

    path = make_model(Path(tmp_path_factory.mktemp("m")))
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def _documents(micro: Any) -> list[tuple[list[int], list[bool]]]:
    """(tokens, whether each is supervised) of every document of a pass, without padding."""
    found = []
    for ids, positions, labels in zip(
        micro.input_ids, micro.position_ids, micro.labels, strict=True
    ):
        starts = [*torch.nonzero(positions == 0).flatten().tolist(), len(ids)]
        for start, end in itertools.pairwise(starts):
            if end - start > 1:  # padding tokens are documents of one
                found.append((ids[start:end].tolist(), (labels[start:end] != IGNORED).tolist()))
    return found


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("size", [1, 4])
def test_every_row_is_computed_once(mix: Folder, world: int, size: int, flat: bool) -> None:
    steps, store = Steps(mix, "delia", flat), Store(mix, "sequences")
    for step in range(len(steps)):
        ranks = [steps.micros(step, rank, world, size) for rank in range(world)]
        assert {len(r) for r in ranks} == {steps.passes(world, size)}, "collective operations"
        micros = [m for rank in ranks for m in rank]
        assert all(len(m.input_ids) <= (1 if flat else size) for m in micros)
        counted = sum(int((m.labels != IGNORED).sum()) for m in micros)
        assert counted == sum(steps.supervised_tokens(step))
        seen = [d for m in micros if (m.labels != IGNORED).any() for d in _documents(m)]
        expected = [
            (r["input_ids"].tolist(), r["supervised"].tolist())
            for r in store.rows(steps.sequences(step))
        ]
        assert sorted(seen) == sorted(expected)
        assert not flat or all((m.position_ids.sum() or 1) and m.input_ids.all() for m in micros)


def _loss_alone(model, steps: Steps, step: int) -> torch.Tensor:
    """Sum of transformers' own loss over the rows of a step, one unpadded row at a time."""
    total = torch.zeros(())
    for sequence, row in zip(
        steps.sequences(step), steps.store.rows(steps.sequences(step)), strict=True
    ):
        ids = torch.tensor(row["input_ids"][None].astype(np.int64))
        labels = torch.where(torch.tensor(row["supervised"][None].copy()), ids, IGNORED)
        total = total + model(input_ids=ids, labels=labels).loss * int(steps.supervised[sequence])
    return total


def test_the_loss_is_the_mean_over_supervised_tokens(steps: Steps, model) -> None:
    with torch.no_grad():
        expected = float(_loss_alone(model, steps, 0))
    for world, size in ((1, 10), (2, 3), (3, 2)):
        micros = [m for r in range(world) for m in steps.micros(0, r, world, size)]
        with torch.no_grad():
            sums = [run(Objective(model), m).sum() for m in micros]
        assert float(sum(sums)) == pytest.approx(expected, rel=1e-5)


def test_gradients_are_those_of_the_unpacked_rows(mix: Folder, steps: Steps, model) -> None:
    """For any number of workers, packs in a pass, and layout."""

    def gradient(loss: torch.Tensor) -> None:
        (loss / sum(steps.supervised_tokens(1))).backward()

    def collected() -> torch.Tensor:
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    model.zero_grad()
    gradient(_loss_alone(model, steps, 1))
    alone = collected()
    for world, size, flat in (
        (1, 10, False),
        (1, 2, False),
        (2, 5, False),
        (4, 1, False),
        (2, 2, True),
    ):
        model.zero_grad()
        packed = Steps(mix, "delia", flat)
        for rank in range(world):
            for micro in packed.micros(1, rank, world, size):
                gradient(run(Objective(model), micro).sum())
        torch.testing.assert_close(collected(), alone, rtol=1e-4, atol=1e-6)


def test_kinds_are_told_apart(steps: Steps, model) -> None:
    for step in range(len(steps)):
        micros = steps.micros(step, 0, 1, 1)
        with torch.no_grad():
            sums = torch.stack([run(Objective(model), m) for m in micros]).sum(0)
        own, other = steps.supervised_tokens(step)
        assert (float(sums[0]) > 0) == (own > 0)
        assert (float(sums[1]) > 0) == (other > 0)
