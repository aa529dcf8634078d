"""The settings of stage 4, and the models that are compared."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from delia_ray.config.data import Settings
from delia_ray.config.paths import WorkerPath


class Lora(Settings):
    """Low-rank adapters, as in the paper's code."""

    r: int = Field(16, ge=1)
    """Rank."""
    alpha: float = Field(16, gt=0)
    """Scale; the update is multiplied by alpha / r."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """On the adapters' input."""
    target_modules: Literal["auto"] | Annotated[list[str], Field(min_length=1)] = "auto"
    """Layers that get an adapter, by the ends of their names. ``auto`` finds the projections of
    attention (``q_proj``, ``k_proj``, ``v_proj``, ``o_proj`` as in the paper's code, or what they
    are called in the model's family) and of what stands in its place, never in a vision tower.
    A name that the model lacks is an error."""


class Watch(Settings):
    """What is looked at while training, on the same few rows all the time."""

    every: int = Field(50, ge=0)
    """Optimizer steps between looks; 0 never looks."""
    rows: int = Field(16, ge=1)
    """Downstream rows, and as many diverse ones, of which the gradients are compared, and
    prompts whose states are."""


class RatePhase(Settings):
    """A stretch of the training with a peak rate of its own."""

    from_step: int = Field(ge=0)
    """Its first optimizer step, from 0."""
    lr: float = Field(gt=0)
    """Peak learning rate from there on."""


class Finetune(Settings):
    """Stage 4: Ray Train with DeepSpeed and PEFT."""

    workers: int = Field(2, ge=1)
    """Data-parallel training processes. May change when an interrupted run goes on."""
    min_workers: int | None = Field(None, ge=1)
    """Go on with as few as this where nodes are missing, and with up to ``workers`` once they
    are back (elastic training); None waits for all."""
    side_by_side: int = Field(1, ge=1)
    """Arms that are trained at the same time, each by one process of its own (``workers: 1``);
    the processes go on with the next arm, so that many small trainings start fast."""
    cpus_per_worker: int = Field(1, ge=1)
    """Logical CPUs and threads of each worker."""
    gpus_per_worker: float | None = Field(None, ge=0)
    """None gives each worker one GPU where the cluster has any."""
    zero: Literal[1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """Keep the optimizer's state in the memory of the CPU; ``all`` (ZeRO-3) keeps the frozen
    weights there too."""
    method: Literal["lora", "dora", "full"] = "lora"
    """What is trained beside the special tokens' rows: LoRA, LoRA with a magnitude of its own
    (DoRA, arXiv 2402.09353), or every weight."""
    quantize: Literal["none", "8bit", "4bit"] = "none"
    """Hold the frozen base weights quantised by bitsandbytes (4bit is QLoRA, arXiv
    2305.14314); needs the package ``bitsandbytes``, LoRA and ZeRO 1 or 2."""
    lora: Lora = Lora()
    """The adapter."""
    adapter: WorkerPath | None = None
    """Folder or URL of a PEFT LoRA adapter to go on from; its rank, scale and layers replace
    ``lora``."""
    token_init: Literal["random", "mean", "description", "description_noise"] = "random"
    """First value of a new token's row: random like the existing rows (the paper's way),
    their mean, the mean over the tokens of its description, or that with noise of a tenth
    of the rows' spread."""
    lr: float = Field(2e-4, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """The rate after the warm-up: the peak (the paper's way), or down to zero at the end."""
    phases: list[RatePhase] = []
    """Peak rates that change on the way, after a first stretch with ``lr``:
    ``[{from_step: 100, lr: 1e-3}]``. A sweep with ``scheduler: pbt`` finds them."""
    warmup_steps: int = Field(25, ge=0)
    """Optimizer steps over which the rate rises linearly from zero."""
    weight_decay: float = Field(0.01, ge=0)
    """Of AdamW."""
    batch_size: int = Field(64, ge=1)
    """Rows in one optimizer step, over all workers."""
    micro_batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Packs of rows (``mix.pack_length``) that a worker computes at once; the rest of its
    share accumulates. ``auto`` takes as many as fit in the memory that is free for the worker.
    May change when an interrupted run goes on."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps of every arm; None gives the DELIA arm one epoch, and every other
    arm as many steps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto`` is bf16 on a GPU and on processors that multiply it (AMX, AVX512-BF16), else
    fp32. What is trained and its optimizer's state are held in fp32 either way."""
    attention: Literal["auto", "varlen", "sdpa", "flash_attention_2", "flex_attention", "eager"] = (
        "auto"
    )
    """The attention kernel. ``varlen`` computes each document of a pack by itself, which sdpa
    and eager do by a mask over the whole pack. ``auto`` is flash_attention_2 where a GPU and
    the package flash_attn are, else varlen."""
    deepspeed: dict[str, Any] = {}
    """Merged into DeepSpeed's configuration; what stands here wins over our own."""
    gradient_checkpointing: bool = False
    """Trade compute for memory."""
    compile: bool = False
    """Compile the model with torch.compile; needs a compiler on the workers, and pays off in
    long runs only."""
    checkpoint_every: int = Field(200, ge=1)
    """Optimizer steps between checkpoints; at most this much work is lost."""
    keep_checkpoints: int = Field(1, ge=1)
    """The newest ones that are kept; the one of the lowest loss is, besides."""
    grace: float = Field(5.0, ge=0)
    """Seconds that a stop (Ctrl-C, SIGTERM) waits for a checkpoint at the next step; else the
    training resumes at the one before. Whoever sends SIGTERM should wait some seconds longer
    than this before SIGKILL: Kubernetes by ``terminationGracePeriodSeconds``, Slurm by
    ``KillWait``."""
    max_failures: int = Field(2, ge=0)
    """Worker-group restarts before the run fails."""
    watch: Watch = Watch()
    """Distance of a token's state to its description's, and the angle between the gradients
    of downstream and diverse rows."""
    profile: int = Field(0, ge=0)
    """Optimizer steps, after the first three, that torch.profiler watches; leaves a trace and
    the share of time in communication in the arm's folder ``profile``."""
    trackers: list[Literal["tensorboard", "mlflow", "wandb"]] = ["tensorboard"]
    """Where the curves go beside the run's folder. mlflow and wandb need their packages and
    take their address from their usual environment variables."""

    @model_validator(mode="after")
    def _fits(self) -> "Finetune":
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers={self.min_workers} is more than workers={self.workers}")
        if self.side_by_side > 1 and self.workers > 1:
            raise ValueError(
                f"side_by_side={self.side_by_side} trains each arm in one process, and "
                f"workers={self.workers} asks for several; set one of the two to 1"
            )
        starts = [p.from_step for p in self.phases]
        if sorted(set(starts)) != starts:
            raise ValueError(f"phases: from_step must rise, got {starts}")
        if self.offload == "all" and self.zero != 3:
            raise ValueError(f"offload=all needs zero=3, not {self.zero}; or use offload=optimizer")
        if self.quantize != "none" and (self.method != "lora" or self.zero == 3):
            raise ValueError(
                f"quantize={self.quantize} needs method=lora and zero=1 or 2, not "
                f"method={self.method}, zero={self.zero}"
            )
        if self.adapter is not None and self.method != "lora":
            raise ValueError(f"adapter= goes on from a LoRA adapter; method={self.method} has none")
        return self


class Arm(Settings):
    """One fine-tuned model of the comparison."""

    ratio: float | None = Field(None, ge=0)
    """Diverse rows per downstream row; None takes ``mix.ratio``."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps; None takes ``finetune.steps``."""
    snapshots: list[Annotated[int, Field(ge=1)]] = []
    """Steps as of which the model is kept too, as ``<arm>@<step>``; it is evaluated like the arm
    itself. With a constant rate, that is what a training of so many steps gives."""
    reworded: bool = True
    """Use the reworded instructions beside the original ones."""
    answers: Literal["self_sampled", "reference"] = "self_sampled"
    """Of the diverse rows: the model's own, or, to the same queries, those of the corpus
    (replay). Queries without a reference answer are left out and counted."""
    objective: Literal["answers", "whole_chat", "mixup"] = "answers"
    """What the loss counts: the answers (see ``mix.turns``); every token of the chat, so the
    instructions too (arXiv 2405.14394); or the answers and, beside them, mixtures of examples
    (SFTMix, arXiv 2410.05248)."""


BASELINES: dict[str, Arm] = {
    "common": Arm(ratio=0, reworded=False),
    "rewording_only": Arm(ratio=0),
    "self_sampling_only": Arm(reworded=False),
    "replay": Arm(reworded=False, answers="reference"),
    "mixup": Arm(ratio=0, reworded=False, objective="mixup"),
    "whole_chat": Arm(ratio=0, reworded=False, objective="whole_chat"),
    "delia": Arm(),
}
"""Arms that go by a name: common instruction tuning and what else DELIA is held against, each
with the same number of steps, and DELIA itself."""


def named_arms(arms: Any) -> Any:
    """The setting ``arms`` with every name of ``BASELINES`` written out: a list of names, or
    names where a mapping has its values. What else may be wrong is left to validation.

    Raises:
        ValueError: a name is not in the table, comes twice, or is the untrained model's.
    """
    if isinstance(arms, list):
        if wrong := [a for a in arms if not isinstance(a, str)]:
            raise ValueError(f"arms: a list holds names, got {wrong[0]!r}; use `name: settings`")
        if len(set(arms)) < len(arms):
            raise ValueError(f"arms: names must differ, got {arms}")
        arms = {name: name for name in arms}
    if not isinstance(arms, Mapping):
        return arms
    if "base" in arms:
        raise ValueError(
            "arms: 'base' is the untrained model's name, which always stands beside the arms; "
            "leave it out or choose another"
        )
    return {name: _baseline(arm) if isinstance(arm, str) else arm for name, arm in arms.items()}


def _baseline(name: str) -> dict[str, Any]:
    if name not in BASELINES:
        near = difflib.get_close_matches(name, BASELINES, n=1, cutoff=0.6)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"arms: {name!r} is not one of {', '.join(BASELINES)}{hint}")
    return BASELINES[name].model_dump(exclude_defaults=True)
