"""What was seen of a cluster, as data."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """One node of the cluster, as a task on it saw it."""

    name: str
    """Its address within the cluster."""
    cpus: float
    """Logical CPUs that Ray gives out; 0 on a head that does no work."""
    gpus: float
    memory: int
    """Bytes that the machine or container has."""
    disk: int
    """Bytes free where Ray keeps its files and models are cached."""
    gpu_memory: int = 0
    """Bytes of the smallest GPU; 0 without one."""
    labels: dict[str, str] = field(default_factory=dict)
    """Ray's labels of the node."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of Python and of the packages that decide results."""
    broken: dict[str, str] = field(default_factory=dict)
    """Package -> why it cannot be imported, for those that cannot."""
    storage: str = ""
    """Why the storage could not be written; empty where it could."""
    sees: frozenset[str] | None = None
    """Nodes whose probe it read back from the storage; None where it was not asked."""
    silent: str = ""
    """Why the node did not answer; all else is then unknown but its resources."""


@dataclass(frozen=True)
class Step:
    """What a training step takes of each worker, as far as it is known before there are rows."""

    packs: int
    """That a worker computes at once: as set, or one, the least that ``auto`` takes."""
    tokens: int
    """Of a pack, at most."""
    bytes: int
    """At the height of a pass."""
    more: int
    """Bytes of each further pack."""


@dataclass(frozen=True)
class Facts:
    """A cluster."""

    nodes: tuple[Node, ...]
    model_bytes: int = 0
    """Bytes of the base model's weights; 0 where they are not known yet."""
    teacher_bytes: int = 0
    """Bytes of ``synthesize.model``, likewise; 0 where the base model answers itself."""
    step: Step | None = None
    """None where nothing is trained, or the model cannot be looked at."""
