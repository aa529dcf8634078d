"""What each training worker runs; one call trains one arm."""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from delia_ray.artifacts import Folder
from delia_ray.finetune.attention import FLAT, attention
from delia_ray.finetune.batches import Steps
from delia_ray.finetune.checkpoints import Checkpoints
from delia_ray.finetune.cost import Cost, give_back, memory_gib, peak
from delia_ray.finetune.deaths import refused
from delia_ray.finetune.engine import dtype, make_engine
from delia_ray.finetune.job import Job
from delia_ray.finetune.layout import find_layout
from delia_ray.finetune.micro_batch import mark_dead
from delia_ray.finetune.model import attach, load_base
from delia_ray.finetune.objective import Objective, run
from delia_ray.finetune.profiling import Profiler
from delia_ray.finetune.progress import PROGRESS, READY
from delia_ray.finetune.result import merge, save_adapter, save_whole, stored_dtype
from delia_ray.finetune.schedule import rate
from delia_ray.finetune.sizing import agree
from delia_ray.finetune.state import collect, restore_optimizer, restore_values
from delia_ray.finetune.stop import Watched
from delia_ray.finetune.trackers import Tracker, open_trackers
from delia_ray.finetune.watch import Watch
from delia_ray.models import locate
from delia_ray.records import METRIC_POINT, conform, digest
from delia_ray.token_rows import initialise_rows

CURVE = "curve.parquet"
"""Written last for each arm: an arm that has it is done."""
_SECONDS_BETWEEN_PROGRESS = 1.0

Point = dict[str, Any]
"""A row of METRIC_POINT."""


def train(job: Job, checkpoints: Checkpoints) -> None:
    """Train every arm that is not done: ``<arm>/adapter``, ``merged`` and ``curve.parquet``.
    Ends early, after a checkpoint, when it is asked to.

    Every rank of a process group runs it. One group trains all arms, because starting one
    costs as much as some hundred steps of a small model.
    """
    arms = list(job.config.arms)
    for arm in arms:
        if (job.out / arm).exists(CURVE):
            continue
        if dist.get_rank() == 0:
            for done in arms[: arms.index(arm)]:
                checkpoints.forget(done)
        if not train_arm(job, arm, checkpoints):
            return


def prepare(job: Job) -> None:
    """Give this process the threads that the job has CPUs for."""
    torch.set_num_threads(job.config.finetune.cpus_per_worker)


def train_arm(job: Job, arm: str, checkpoints: Checkpoints) -> bool:
    """One of them; False where it was asked to stop before its end."""
    prepare(job)
    first = dist.get_rank() == 0
    with Watched(job.out) if first else contextlib.nullcontext() as stop:
        try:
            return Training(job, arm, checkpoints, stop).run()
        except Exception as error:
            if refused(error):  # workers that are started again take less
                mark_dead(job.out, [arm])
            raise


class Training:
    """One arm on this rank, from its last checkpoint on; ends early when ``stop`` is asked for."""

    def __init__(
        self, job: Job, arm: str, checkpoints: Checkpoints, stop: Watched | None = None
    ) -> None:
        self.checkpoints, self.job, self.arm = checkpoints, job, arm
        self.stop, self.stopped = stop, False
        self.settings, config = job.config.finetune, job.config
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        objective, self.snapshots = config.arms[arm].objective, config.arms[arm].snapshots
        self.path = locate(config.model)
        layout = job.layout or find_layout(self.path, self.settings.attention)
        flat = layout.apart or attention(layout.kernel) in FLAT
        self.steps = Steps(job.mix, arm, flat, whole=objective == "whole_chat")
        last = checkpoints.last(arm)
        chosen = agree(job, arm, self.steps, layout, resumes=last is not None)
        self.packs = chosen.micro_batch_size
        if self.rank == 0:
            print(f"{arm}: {chosen}", flush=True)
        tokens = config.downstream.special_tokens
        torch.manual_seed(config.order_seed)  # the adapter's first values, equal on all ranks
        model, self.tokenizer = load_base(
            self.path,
            tokens,
            dtype(self.settings.precision),
            layout.kernel,
            self.settings.quantize,
        )
        how = self.settings.token_init
        initialise_rows(model, self.path, self.tokenizer, tokens, how, config.order_seed)
        self.cost, self.peak = Cost(model), peak()
        self.model = attach(model, self.tokenizer, tokens, self.settings)
        self.objective = Objective(
            self.model,
            mixup=objective == "mixup",
            apart=layout.apart,
            in_step=self.settings.zero == 3 and self.world > 1,
        )
        passes = self.steps.passes(self.world, self.packs)
        self.start, self.curve = (last.step, last.curve) if last else (0, [])
        if last is not None:
            restore_values(self.objective, last.state)
        self.engine = make_engine(self.objective, self.settings, self.world, passes, self.packs)
        if last is not None:
            restore_optimizer(self.engine, last.state, self.start, self._micros(0))
            if self.rank == 0:
                print(f"{arm}: goes on after step {self.start} on {self.world} workers", flush=True)
        described = {
            self.tokenizer.convert_tokens_to_ids(token): self.tokenizer(
                text, add_special_tokens=False
            )["input_ids"]
            for token, text in tokens.items()
        }
        self.watch = Watch(self.steps, described, self.settings.watch.rows)
        self.at, self.told, self.tokens = self.start, 0.0, 0.0
        self.trackers: list[Tracker] = []
        self.profiler = Profiler(self.settings.profile, None)
        if self.rank == 0:
            out = job.out / arm
            self.trackers = open_trackers(self.settings.trackers, out, config.name, arm)
            self.profiler.out = out

    def run(self) -> bool:
        """All steps that are left, and what they leave; False where it stopped before."""
        self.advance(len(self.steps))
        if self.stopped:
            self.checkpoints.settle()
            return False
        self.finish()
        return True

    def advance(self, until: int) -> None:
        """Make the steps before step ``until``."""
        if self.rank == 0:
            self._place().write_json(READY, {"arm": self.arm})
        for step in range(self.at, min(until, len(self.steps))):
            self._seed(step)
            self.profiler.before(step - self.start)
            point = self._step(step)
            self.profiler.after(step - self.start)
            point |= self._look(step)
            self.curve.append(point)
            self.tokens += point["tokens"]
            for tracker in self.trackers:
                tracker.log(point)
            if self.rank == 0 and time.monotonic() - self.told > _SECONDS_BETWEEN_PROGRESS:
                self._tell(point)
            # Before the checkpoint: a training that goes on from there would not come by again.
            if step + 1 in self.snapshots and step + 1 < len(self.steps):
                self.leave(f"{self.arm}@{step + 1}")
            due = (step + 1) % self.settings.checkpoint_every == 0 and step + 1 < len(self.steps)
            if due or self.stopped:
                began = time.monotonic()
                self.save(step + 1)
                point["checkpoint_seconds"] = time.monotonic() - began
            self.at = step + 1
            if self.stopped:
                if self.rank == 0:
                    print(f"{self.arm}: asked to stop, after step {step + 1}", flush=True)
                return

    def _tell(self, point: Point) -> None:
        self.told = time.monotonic()
        shown = {
            "arm": self.arm, "steps": len(self.steps), "tokens_so_far": self.tokens, **point
        }  # fmt: skip
        self._place().write_json(PROGRESS, shown)

    def _place(self) -> Folder:
        """Where this training says how far it is."""
        together = self.settings.side_by_side == 1
        return self.job.out if together else self.job.out / self.arm

    def _seed(self, step: int) -> None:
        """Dropout and mixup draw the same whenever the step is made."""
        own = [self.job.config.order_seed, self.arm, step, self.rank]
        torch.manual_seed(int(digest(own, 12), 16))

    def _micros(self, step: int) -> list[Any]:
        return self.steps.micros(step, self.rank, self.world, self.packs)

    def _step(self, step: int) -> Point:
        """One optimizer step; its row (the same on all ranks, but for times)."""
        began = time.monotonic()
        engine, learning_rate = self.engine, rate(step, len(self.steps), self.settings)
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate
        own, other = self.steps.supervised_tokens(step)
        total = own + other
        micros = self._micros(step)
        # Of the losses, and whether a rank was asked to stop: so all hear of it at once.
        sums = torch.zeros(4, device=engine.device)
        sums[3] = float(self.stop is not None and self.stop.asked)
        for micro in micros:
            found = run(engine, micro.to(engine.device))
            # DeepSpeed averages over ranks and passes; the step's loss is a sum over tokens
            # divided by the tokens of the whole step.
            engine.backward(found.sum() / total * self.world * len(micros))
            engine.step()
            sums[:3] += found.detach()
        dist.all_reduce(sums)
        self.stopped = bool(sums[3] > 0)
        norm = engine.get_global_grad_norm()
        lengths = self.steps.lengths[self.steps.sequences(step)]
        seconds = time.monotonic() - began
        mfu = self.cost.of(lengths, total) / seconds / self.world / self.peak if self.peak else None
        return {
            "step": step + 1,
            "loss": float(sums[:2].sum()) / total,
            "loss_downstream": float(sums[0]) / own if own else None,
            "loss_diverse": float(sums[1]) / other if other else None,
            "regularisation": float(sums[2]) / total if self.objective.mixup else None,
            "lr": learning_rate,
            "grad_norm": None if norm is None else float(norm),
            "tokens": int(lengths.sum()),
            "supervised_tokens": total,
            "supervised_downstream": own,
            "seconds": seconds,
            "checkpoint_seconds": None,
            "memory_gib": memory_gib(),
            "mfu": mfu,
        }

    def _look(self, step: int) -> Point:
        every = self.settings.watch.every
        if every and (step % every == 0 or step + 1 == len(self.steps)):
            found = self.watch.look(self.objective, self.engine.device)
            # Under ZeRO-3 a backward pass that the engine knows nothing of leaves weights
            # gathered, which could then not be saved.
            self.engine.empty_partition_cache()
            return dict(found)
        return dict.fromkeys(
            ("token_distance", "gradient_cosine", "gradient_norm_downstream",
             "gradient_norm_diverse")
        )  # fmt: skip

    def save(self, step: int) -> None:
        """A checkpoint as of ``step``, from which the training can go on."""
        since = [p["loss"] for p in self.curve[-self.settings.checkpoint_every :]]
        score = sum(since) / len(since)
        self.checkpoints.save(self.arm, step, score, collect(self.engine), self.curve)

    def finish(self) -> None:
        """Leave what was trained, and the curve as the last."""
        self.profiler.close()
        for tracker in self.trackers:
            tracker.close()
        self.checkpoints.settle()
        give_back()  # merging needs room, too
        self.leave(self.arm)
        if self.rank == 0:
            (self.job.out / self.arm).write_table(CURVE, conform(self.curve, METRIC_POINT))
        dist.barrier()  # nobody leaves, and no worker is ended, while rank 0 writes
        self.engine.destroy()

    def leave(self, name: str) -> None:
        """Write ``<name>/adapter`` and ``<name>/merged``."""
        settings, out = self.settings, self.job.out / name
        tokens = self.job.config.downstream.special_tokens
        with tempfile.TemporaryDirectory() as scratch:
            adapter, merged = Path(scratch) / "adapter", Path(scratch) / "merged"
            if settings.method == "full":
                kept = stored_dtype(self.path)
                save_whole(self.model, self.tokenizer, merged, settings.zero, kept)
            else:
                save_adapter(self.model, self.tokenizer, adapter, settings.zero)
            if self.rank == 0:
                if settings.method != "full":
                    merge(self.path, adapter, tokens, merged)
                    out.upload(adapter, "adapter")
                out.upload(merged, "merged")
        dist.barrier()
