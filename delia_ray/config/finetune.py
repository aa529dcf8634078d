"""The settings of stage 4, and the models that are compared."""

from typing import Literal

from pydantic import Field

from delia_ray.config.data import Settings


class Lora(Settings):
    """Low-rank adapters, as in the paper's code."""

    r: int = Field(16, ge=1)
    """Rank."""
    alpha: float = Field(16, gt=0)
    """Scale; the update is multiplied by alpha / r."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """On the adapters' input."""
    target_modules: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj"]
    """Layers that get an adapter."""


class Finetune(Settings):
    """Stage 4: Ray Train with DeepSpeed and PEFT."""

    workers: int = Field(2, ge=1)
    """Data-parallel training processes."""
    cpus_per_worker: int = Field(1, ge=1)
    """Logical CPUs and threads of each worker."""
    gpus_per_worker: float | None = Field(None, ge=0)
    """None gives each worker one GPU where the cluster has any."""
    zero: Literal[1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    lora: Lora = Lora()
    """The adapter."""
    token_init: Literal["random", "mean", "description"] = "random"
    """First value of a new token's row: random like the existing rows (the paper's way),
    their mean, or the mean over the tokens of its description."""
    lr: float = Field(2e-4, gt=0)
    """Peak learning rate of AdamW; constant after the warm-up."""
    warmup_steps: int = Field(25, ge=0)
    """Optimizer steps over which the rate rises linearly from zero."""
    weight_decay: float = Field(0.01, ge=0)
    """Of AdamW."""
    batch_size: int = Field(64, ge=1)
    """Rows in one optimizer step, over all workers."""
    micro_batch_size: int = Field(4, ge=1)
    """Packs of rows (``mix.pack_length``) that a worker computes at once; the rest of its
    share accumulates."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps of every arm; None gives the DELIA arm one epoch, and every other
    arm as many steps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto`` is bf16 on a GPU and fp32 on a CPU."""
    attention: Literal["auto", "sdpa", "flash_attention_2", "flex_attention", "eager"] = "auto"
    """The attention kernel. ``auto`` is flash_attention_2 where a GPU and the package
    flash_attn are, else sdpa; sdpa and eager are tested to keep within documents."""
    gradient_checkpointing: bool = False
    """Trade compute for memory."""
    checkpoint_every: int = Field(200, ge=1)
    """Optimizer steps between checkpoints; at most this much work is lost."""
    max_failures: int = Field(2, ge=0)
    """Worker-group restarts before the run fails."""


class Arm(Settings):
    """One fine-tuned model of the comparison."""

    ratio: float | None = Field(None, ge=0)
    """Diverse rows per downstream row; None takes ``mix.ratio``."""
    reworded: bool = True
    """Use the reworded instructions beside the original ones."""
