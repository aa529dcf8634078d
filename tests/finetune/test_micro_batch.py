"""How many packs are computed at once: from what is counted, what is free and what was before."""

from pathlib import Path
from typing import Any

import pytest
import torch

from delia_ray.artifacts import open_storage
from delia_ray.causal_models import config_of, load_causal
from delia_ray.config import Finetune
from delia_ray.finetune import loop, micro_batch
from delia_ray.finetune.batches import Micro
from delia_ray.finetune.checkpoints import Checkpoints
from delia_ray.finetune.footprint import PROCESS, Footprint, footprint
from delia_ray.finetune.job import Job
from delia_ray.finetune.layout import find_layout
from delia_ray.finetune.micro_batch import GIB, Choice, choose
from delia_ray.finetune.model import attach
from delia_ray.finetune.objective import Objective, run
from tests.families.models import make_family
from tests.finetune.gang import run_gang, start_gang
from tests.finetune.helpers import changed, prepare


def _gib(packs: int) -> int:
    """A GiB, and one more for each pack."""
    return (1 + packs) * GIB


def _size(packs: int, free_gib: float, tokens: int = 100, **more: Any) -> tuple[int, str]:
    found = choose("auto", packs, tokens, int(free_gib * GIB), _gib, **more)
    return found.micro_batch_size, found.why


@pytest.mark.parametrize(
    ("packs", "free", "expected"),
    [
        (4, 100, 4),  # never more than there are
        (8, 6.3, 4),  # a fifth of what is free is left alone
        (8, 6.2, 3),  # as 3, 3 and 2
        (7, 6.3, 4),  # as 4 and 3
        (6, 5.1, 3),
        (9, 8.8, 5),  # as 5 and 4, not 6 and 3
        (8, 2.5, 1),
        (8, 0.1, 1),  # what does not fit at all is tried, and said
    ],
)
def test_as_many_as_fit_evenly(packs: int, free: float, expected: int) -> None:
    assert _size(packs, free)[0] == expected


def test_it_says_what_bounds_it() -> None:
    assert _size(4, 100)[1] == "all there are"
    assert _size(8, 6.3)[1] == "what fits in memory"
    assert _size(32, 100, tokens=1024) == (8, "a pass of 8,192 tokens is as fast as any")
    assert _size(32, 100, tokens=1024, enough=None)[0] == 32
    said = str(choose("auto", 8, 1024, int(6.3 * GIB), _gib))
    assert said == (
        "micro_batch_size=4 (auto: what fits in memory) of a worker's 8 packs of up to 1,024 "
        "tokens; needs about 5.0 of 6.3 GiB free for it"
    )


def test_a_training_goes_on_as_it_began_where_that_still_fits() -> None:
    assert _size(8, 100, before=2) == (2, "as it began")
    assert _size(8, 3.8, before=2) == (2, "as it began")
    assert _size(8, 3.7, before=2)[0] == 1
    assert _size(8, 100, before=4, most=3) == (3, "more ran out of memory before")
    assert _size(8, 100, before=1, most=0) == (1, "as it began")


def test_a_number_is_taken_and_said_to_be_too_large() -> None:
    found = choose(16, 8, 1024, 4 * GIB, _gib, before=2, most=1)
    assert (found.micro_batch_size, found.needs_gib, found.short) == (16, 9.0, True)
    assert "as set" in str(found)


def test_without_a_count_one_pack_at_a_time() -> None:
    found = choose("auto", 8, 1024, 100 * GIB, None)
    assert (found.micro_batch_size, found.needs_gib) == (1, 0)
    assert "could not be told" in str(found)


def test_a_choice_is_read_back_and_a_death_remembered(tmp_path: Path) -> None:
    out = open_storage(str(tmp_path))
    choice = choose("auto", 8, 1024, 6 * GIB, _gib)
    micro_batch.write(out / "a", choice)
    assert micro_batch.read(out / "a") == choice
    assert micro_batch.died_with(out / "a") is None
    micro_batch.mark_dead(out, ["a", "b"])
    assert micro_batch.died_with(out / "a") == choice.micro_batch_size
    assert micro_batch.read(out / "a") == choice
    assert micro_batch.read(out / "b") is None


@pytest.mark.parametrize(
    "change",
    [{"micro_batch_size": 0}, {"packs": True}, {"why": 1}, {"tokens": 2**50}, {"free_gib": "x"}],
)
def test_what_others_wrote_there_is_not_believed(tmp_path: Path, change: dict[str, Any]) -> None:
    out = open_storage(str(tmp_path))
    right = vars(choose("auto", 8, 1024, 6 * GIB, _gib))
    out.write_json(micro_batch.FILE, right | {"died": "2"})
    assert micro_batch.read(out) == Choice(**right)
    assert micro_batch.died_with(out) is None
    out.write_json(micro_batch.FILE, right | change)
    assert micro_batch.read(out) is None
    for text in ("{", "[]", "{}"):
        out.write_bytes(micro_batch.FILE, text.encode())
        assert micro_batch.read(out) is None


@pytest.mark.parametrize("family", ["Llama", "Gemma 3", "Qwen3.5", "gpt-oss"])
@pytest.mark.parametrize("more", [{}, {"gradient_checkpointing": True}, {"attention": "eager"}])
def test_what_is_counted_is_what_a_pass_keeps(
    tmp_path: Path, family: str, more: dict[str, Any]
) -> None:
    """Of the whole model on other lengths, though a copy of its first layers was looked at."""
    path = str(make_family(family, tmp_path / "base"))
    settings = Finetune(precision="fp32", **more)
    layout = find_layout(path, settings.attention)
    counted = footprint(path, settings, {}, layout, 1)
    model = load_causal(path, dtype=torch.float32, attn_implementation=_kernel(layout.kernel))
    objective = Objective(attach(model, None, {}, settings), apart=layout.apart).train()
    objective.plain = True
    length, documents = 96, 3
    kept = _kept(objective, length, documents, flat=layout.apart or layout.kernel != "eager")
    squares = 1 if layout.kernel == "eager" and not layout.apart else 1 / documents
    tokens = length * documents
    expected = tokens * (counted.per_token + tokens * squares * counted.per_square)
    assert kept == pytest.approx(expected, rel=0.15)  # some families compute whole chunks of 64


def _kernel(kernel: str) -> str:
    return "varlen" if kernel == "auto" else kernel


def _kept(objective: Objective, length: int, documents: int, flat: bool) -> int:
    ids = torch.full((1, length * documents), 5)
    places = torch.arange(length).repeat(documents)[None]
    labels = torch.where(places == length - 1, ids, -100)
    borders = torch.arange(0, length * documents + 1, length, dtype=torch.int32) if flat else None
    micro = Micro(ids, places, labels, torch.ones_like(ids, dtype=torch.bool), borders)
    own = {t.untyped_storage().data_ptr() for t in (*objective.parameters(), *objective.buffers())}
    found: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = run(objective, micro)
    del loss
    return sum(storage.nbytes() for storage in found.values())


def test_the_arithmetic_of_a_step(make_model, tmp_path: Path) -> None:
    own = Footprint(fixed=10, per_token=4.0, per_square=1.0, logits=800, per_supervised=48)
    assert own.of(2, 8) == 10 + int(1.4 * 2 * 8 * (4 + 8)) + 48 * 2 * 8
    assert own.of(4, 8) == 10 + int(1.4 * 4 * 8 * (4 + 8)) + 800
    path = str(make_model(tmp_path / "base", hidden=64))
    layout = find_layout(path, "auto")
    numbers = sum(p.numel() for p in load_causal(path).parameters())

    def fixed(workers: int = 1, **more: Any) -> int:
        settings = Finetune(precision="fp32", **more)
        return int(footprint(path, settings, {}, layout, workers).fixed - PROCESS)

    assert fixed(method="full") == numbers * (4 + 8 + 12)
    assert fixed(workers=3, method="full") == numbers * (4 + 8 + 4)
    lora = 2 * 4 * 2 * 16 * 64  # layers x projections x two matrices
    assert fixed() == pytest.approx(4 * numbers + lora * (8 + 12), rel=0.01)
    assert config_of(path).num_hidden_layers == 2


def test_trained_alike_whatever_is_chosen(tmp_path: Path, make_model) -> None:
    """``auto`` is a training like one with a number, and goes on with less after a death."""
    plain = {"lora": {"r": 4, "dropout": 0.0}, "workers": 1, "watch": {"every": 0}}
    config, out = prepare(tmp_path, make_model(tmp_path / "base"), finetune=plain)
    jobs = {
        size: Job(changed(config, micro_batch_size=size), out / "mix", out / f"m-{size}")
        for size in ("auto", 1)
    }
    smaller = Job(jobs["auto"].config, out / "mix", out / "m-smaller")
    run_gang(1, [(jobs["auto"], None), (jobs[1], None)])
    chosen = micro_batch.read(jobs["auto"].out / "delia")
    assert chosen.auto
    assert chosen.micro_batch_size == chosen.packs > 1
    assert 0 < chosen.needs_gib < chosen.free_gib
    assert micro_batch.read(jobs[1].out / "delia").micro_batch_size == 1
    start_gang(1, _dies_at_step_5, smaller)
    assert micro_batch.read(smaller.out / "delia").micro_batch_size < chosen.micro_batch_size
    losses = [_losses(job) for job in (jobs["auto"], jobs[1], smaller)]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def _dies_at_step_5(job: Job) -> None:
    """A step after the checkpoint of step 4 gets no memory; another training goes on there."""
    own, made = loop.run, []

    def refuses(engine: Any, micro: Micro) -> torch.Tensor:
        made.append(micro)
        if len(made) > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return own(engine, micro)

    loop.run = refuses
    with pytest.raises(RuntimeError):
        loop.train(job, Checkpoints(job.out / "checkpoints", 1))
    loop.run = own
    loop.train(job, Checkpoints(job.out / "checkpoints", 1))


def _losses(job: Job) -> list[float]:
    found: list[float] = (job.out / "delia").read_table("curve.parquet")["loss"].to_pylist()
    return found
