"""What a training's error says of memory, as one paragraph with the settings to lower."""

from collections.abc import Iterator, Mapping, Sequence

from delia_ray.artifacts import Folder
from delia_ray.config import Finetune
from delia_ray.errors import DeliaError
from delia_ray.finetune.micro_batch import Choice
from delia_ray.finetune.progress import told
from delia_ray.machine_memory import kills, memory

GIB = 2**30

_REFUSED = (
    "can't allocate memory",  # PyTorch's DefaultCPUAllocator
    "std::bad_alloc",
    "cannot allocate memory",  # the system's ENOMEM
    "out of memory",  # CUDA's and Ray's
    "outofmemoryerror",
    "memoryerror",
    "memory pressure",
    "low on memory",
)
_VANISHED = ("sigkill", "oom killer", "connection error code 2")
"""What Ray says of a process that was ended from outside; the kernel ends those that way of which
memory is short, and so does anybody's ``kill -9``."""


def memory_death(
    error: BaseException,
    settings: Finetune,
    places: Sequence[Folder],
    before: int,
    chosen: Mapping[str, Choice | None],
) -> DeliaError | None:
    """The paragraph where ``error``, which ended a training, is about memory; else None.

    Args:
        settings: of the training.
        places: folders in which a rank 0 told how far it was and what it held.
        before: ``machine_memory.kills`` as of the training's start: a process that vanished while
            the kernel ended none for memory was ended by something else.
        chosen: the micro-batch of each arm, as far as it is known.
    """
    for who, one in _all(error):
        vanished = any(mark in _said(one) for mark in _VANISHED)
        if (own := refused(one)) or (vanished and kills() > before):
            return DeliaError(_paragraph(who, own, settings, places, chosen))
    return None


def refused(error: BaseException) -> bool:
    """Whether memory was asked for and not given."""
    return isinstance(error, MemoryError) or any(mark in _said(error) for mark in _REFUSED)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".lower()


def _all(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """(who failed, its error), of the workers first, and what they come from."""
    failures = getattr(error, "worker_failures", None)
    for rank, own in failures.items() if isinstance(failures, dict) else ():
        yield f"training worker {rank}", own
    seen: BaseException | None = error
    while seen is not None:
        yield "a training worker", seen
        seen = getattr(seen, "cause", None) or seen.__cause__


def _paragraph(
    who: str,
    was_refused: bool,
    settings: Finetune,
    places: Sequence[Folder],
    chosen: Mapping[str, Choice | None],
) -> str:
    point = next(filter(None, map(told, places)), {})
    held = point.get("memory_gib")
    had = f"it had held {held:.1f} GiB at most" if isinstance(held, int | float) else (
        "it had made no step yet"
    )  # fmt: skip
    when = f" at step {point['step']} of {point['arm']}" if point else ""
    how = "ran out of memory" if was_refused else "was killed, and the system ran out of memory"
    lower = []
    arm = chosen.get(point.get("arm", ""), next(iter(chosen.values()), None))
    size = settings.micro_batch_size if arm is None else arm.micro_batch_size
    if size != 1:
        auto = "auto, " if arm is not None and arm.auto else ""
        lower.append(f"finetune.micro_batch_size ({auto}now {size})")
    if settings.workers > 1:
        lower.append(f"finetune.workers (now {settings.workers})")
    if settings.side_by_side > 1:
        lower.append(f"finetune.side_by_side (now {settings.side_by_side})")
    wanted = f"lower {' or '.join(lower)}, or " if lower else ""
    if not settings.gradient_checkpointing:
        wanted += "set finetune.gradient_checkpointing=true, or "
    here = memory()
    place = "container" if here.container else "machine"
    return (
        f"{who} {how}{when}: {had}, and the {place} of this command has {here.limit / GIB:.1f} "
        f"GiB, of which {here.free / GIB:.1f} are free now. To go on from the last checkpoint, "
        f"{wanted}give it more memory; a smaller mix.pack_length helps too, and begins the "
        "training anew"
    )
