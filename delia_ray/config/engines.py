"""What generates text."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from delia_ray.config.data import Settings
from delia_ray.config.paths import WorkerPath


class AutoEngine(Settings):
    """vLLM where it is installed, else transformers, with the defaults of each."""

    type: Literal["auto"] = "auto"
    """auto, vllm or transformers."""


class VllmEngine(Settings):
    """vLLM through ``ray.data.llm``, one engine per actor."""

    type: Literal["vllm"] = "vllm"
    """auto, vllm or transformers."""
    replicas: Annotated[int, Field(ge=1)] | tuple[int, int] = 1
    """Engines that run side by side; ``[2, 8]`` starts with 2 and adds up to 8 while work
    waits and the cluster has room."""
    batch_size: int = Field(128, ge=1)
    """Rows handed to an engine at a time, and kept together: what a death repeats."""
    max_concurrent_batches: int = Field(8, ge=1)
    """Batches inside an engine at once; times ``batch_size`` it should be more than vLLM's
    ``max_num_seqs``, or the engine idles."""
    max_restarts: int = Field(3, ge=0)
    """Restarts of a dying engine, and of a pass in which nothing got done, before the stage
    fails; a resumed run starts counting anew."""
    max_model_len: Annotated[int, Field(ge=16)] | Literal["auto"] | None = "auto"
    """Longest prompt plus answer in tokens; ``auto`` is the longest of what is asked, counted
    before the engine starts, None the model's own limit."""
    cpus: int | None = Field(None, ge=1)
    """Cores that compute for an engine where there is no GPU; None shares out all there are."""
    adapters: list[WorkerPath] = []
    """Folders of LoRA adapters of the model, which answer the diverse queries in turn: as
    many teachers as adapters in one engine. Empty: the model itself answers."""
    kwargs: dict[str, Any] = {}
    """Passed to the vLLM engine as they are (``tensor_parallel_size``,
    ``pipeline_parallel_size``, ``dtype``, ``max_num_seqs`` ...)."""

    @property
    def replica_range(self) -> tuple[int, int]:
        """(fewest, most) engines."""
        return (self.replicas,) * 2 if isinstance(self.replicas, int) else self.replicas

    @model_validator(mode="after")
    def _range_fits(self) -> "VllmEngine":
        least, most = self.replica_range
        if not 1 <= least <= most:
            raise ValueError(f"replicas=[{least}, {most}]: give [fewest, most], at least 1")
        return self


class TransformersEngine(Settings):
    """Plain ``transformers`` generation in Ray actors, for small models and machines."""

    type: Literal["transformers"] = "transformers"
    """auto, vllm or transformers."""
    replicas: int = Field(1, ge=1)
    """Copies of the model that run side by side, one CPU (or GPU) each."""
    batch_size: int = Field(64, ge=1)
    """Prompts generated together."""
    max_restarts: int = Field(3, ge=0)
    """Restarts of a dying copy, and of a pass in which nothing got done, before the stage
    fails."""


Engine = Annotated[AutoEngine | VllmEngine | TransformersEngine, Field(discriminator="type")]
