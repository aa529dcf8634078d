"""The whole configuration as one pydantic tree; imports no ray, torch or vllm.

People write YAML; files compose left to right and ``dotted.key=value`` overrides come
last. Unknown keys fail with the nearest valid name. The text under each field is its
documentation: ``delia show`` prints it.
"""

from delia_ray.config.curate import Curate, Diversity, Leaks, NearDuplicates
from delia_ray.config.data import (
    Downstream,
    Limits,
    Name,
    Parallel,
    Settings,
    Source,
    Storage,
    Turns,
)
from delia_ray.config.engines import AutoEngine, Engine, TransformersEngine, VllmEngine
from delia_ray.config.evaluate import Evaluate, Metric, Suite
from delia_ray.config.finetune import BASELINES, Arm, Finetune, Lora, Watch
from delia_ray.config.kubernetes import Kubernetes, Pods, Redis, SynthesisPods
from delia_ray.config.mix import Mix, RatioPhase
from delia_ray.config.reading import (
    changed,
    checked,
    compose,
    describe,
    load_config,
    load_settings,
    parted,
)
from delia_ray.config.sweep import Sweep
from delia_ray.config.synthesize import Queries, Reword, Rules, Sampling, Synthesize
from delia_ray.config.tree import Cluster, RunConfig

__all__ = [
    "BASELINES",
    "Arm",
    "AutoEngine",
    "Cluster",
    "Curate",
    "Diversity",
    "Downstream",
    "Engine",
    "Evaluate",
    "Finetune",
    "Kubernetes",
    "Leaks",
    "Limits",
    "Lora",
    "Metric",
    "Mix",
    "Name",
    "NearDuplicates",
    "Parallel",
    "Pods",
    "Queries",
    "RatioPhase",
    "Redis",
    "Reword",
    "Rules",
    "RunConfig",
    "Sampling",
    "Settings",
    "Source",
    "Storage",
    "Suite",
    "Sweep",
    "SynthesisPods",
    "Synthesize",
    "TransformersEngine",
    "Turns",
    "VllmEngine",
    "Watch",
    "changed",
    "checked",
    "compose",
    "describe",
    "load_config",
    "load_settings",
    "parted",
]
