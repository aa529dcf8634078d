"""A look at every node of the connected cluster, the head's included."""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig
from delia_ray.doctor.facts import Facts, Node, Step
from delia_ray.errors import UserError
from delia_ray.machine_memory import memory

PATIENCE = 300.0
"""Seconds that a node gets to answer; importing vLLM alone may take one minute."""
PROBES = ".doctor"
"""Folder below the storage that the nodes write to, and that is removed again."""


def collect(config: RunConfig, patience: float = PATIENCE) -> Facts:
    """Facts of the connected cluster.

    Every alive node runs a task that takes no CPU, so that a busy cluster can be looked at too;
    what does not answer in time is a silent node.
    """
    import ray

    alive = [n for n in ray.nodes() if n["Alive"]]
    probe = open_storage(config.storage) / PROBES / uuid.uuid4().hex[:8]
    seen = _ask(alive, _look, (probe.url, packages_of(config)), patience)
    names = {n["NodeID"]: _name(n) for n in alive}
    answered = [n for n in alive if not isinstance(seen[n["NodeID"]], str)]
    read = _ask(answered, _read, (probe.url,), patience)
    _clean(probe)
    return Facts(
        nodes=tuple(
            _node(n, seen[n["NodeID"]], read.get(n["NodeID"], ""), names) for n in alive
        ),
        model_bytes=_weights(config.model),
        teacher_bytes=_weights(config.synthesize.model),
        step=step_of(config),
    )  # fmt: skip


def step_of(config: RunConfig) -> Step | None:
    """What a step of the recipe takes, by the arithmetic of the training itself."""
    if not config.arms:
        return None
    from delia_ray.finetune.layout import find_layout
    from delia_ray.finetune.sizing import count
    from delia_ray.models import locate

    try:
        layout = find_layout(locate(config.model), config.finetune.attention)
    except UserError:  # which the checks of the recipe say
        return None
    if (found := count(config, layout)) is None:
        return None
    wanted, tokens = config.finetune.micro_batch_size, config.mix.pack_length
    packs, tokens = 1 if wanted == "auto" else wanted, tokens or config.mix.max_length
    needs, next_one = found.of(packs, tokens), found.of(packs + 1, tokens)
    return Step(packs, tokens, needs, next_one - needs)


def packages_of(config: RunConfig) -> tuple[str, ...]:
    """Packages that the nodes import for this recipe, those it may do without left out."""
    vllm = config.synthesize.engine.type == "vllm"
    return (
        "transformers",
        *(["peft", "deepspeed"] if config.arms else []),
        *(["vllm"] if vllm else []),
    )


def _ask(nodes: list[dict[str, Any]], task: Any, arguments: Any, patience: float) -> dict[str, Any]:
    """NodeID -> what ``task`` gave back there, or why there is nothing."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(num_cpus=0, max_retries=0)(task)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[node["NodeID"]] = remote.options(
            scheduling_strategy=there, name=f"doctor {_name(node)}"
        ).remote(*arguments, node["NodeID"])
    if asked:
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=patience)
    found: dict[str, Any] = {}
    for name, reference in asked.items():
        try:
            found[name] = ray.get(reference, timeout=0.1)
        except ray.exceptions.GetTimeoutError:
            ray.cancel(reference, force=True)
            found[name] = f"no answer within {patience:g} s"
        except Exception as error:  # whatever it is, it is what this node answers
            found[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    return found


def _node(node: dict[str, Any], seen: Any, read: Any, names: dict[str, str]) -> Node:
    resources = node["Resources"]
    amounts = {
        "name": names[node["NodeID"]], "cpus": resources.get("CPU", 0.0),
        "gpus": resources.get("GPU", 0.0), "labels": dict(node.get("Labels") or {}),
    }  # fmt: skip
    if isinstance(seen, str):
        return Node(**amounts, memory=0, disk=0, silent=seen)
    sees = None if isinstance(read, str) else frozenset(names.get(i, i) for i in read)
    return Node(**amounts, **seen, sees=sees)


def _name(node: dict[str, Any]) -> str:
    """The address; raylets of one machine (tests) are told apart by their port."""
    return f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


# --- what runs on each node -----------------------------------------------------------


def _look(probe: str, packages: tuple[str, ...], node: str) -> dict[str, Any]:
    """What a node knows of itself; the fields of ``facts.Node``."""
    from delia_ray.pipeline import versions

    with ThreadPoolExecutor() as side_by_side:
        reasons = list(side_by_side.map(_cannot_import, packages))
    broken = {name: why for name, why in zip(packages, reasons, strict=True) if why}
    return {
        "memory": memory().limit,
        "disk": shutil.disk_usage(tempfile.gettempdir()).free,
        "gpu_memory": _gpu_memory(),
        "versions": versions(),
        "broken": broken,
        "storage": _write(Folder(probe), node),
    }


def _read(probe: str, node: str) -> list[str]:
    """Nodes whose probe this one can read back with its content."""
    folder = Folder(probe)
    return [n for n in folder.names() if folder.read_bytes(n) == n.encode()]


def _write(folder: Folder, node: str) -> str:
    try:
        folder.write_bytes(node, node.encode())
    except Exception as error:  # of any filesystem's kind
        return f"{type(error).__name__}: {str(error).strip()[:200]}"
    return ""


def _cannot_import(package: str) -> str:
    """Why ``package`` cannot be imported, in a process of its own: an import may crash."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {package}"],
            capture_output=True, text=True, timeout=PATIENCE - 30, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "importing it takes minutes"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"it ends the process ({done.returncode})"]
    return lines[-1][:200]


def _gpu_memory() -> int:
    """Bytes of the smallest GPU, 0 without one."""
    if shutil.which("nvidia-smi") is None:
        return 0
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    sizes = [int(line) for line in done.stdout.split() if line.isdigit()]
    return min(sizes, default=0) * 2**20


# --- pieces ---------------------------------------------------------------------------


def _weights(model: str | None) -> int:
    """Bytes of a model's safetensors; of one on the hub as the hub tells, 0 where it cannot."""
    if not model:
        return 0
    if model == "miniature":
        from delia_ray.miniature import MODEL_PATH

        return _folder_bytes(Path(MODEL_PATH))
    if os.path.isdir(model):
        return _folder_bytes(Path(model))
    if "://" in model:
        return 0
    from huggingface_hub import HfApi, try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json")
    if isinstance(config, str) and (cached := _folder_bytes(Path(config).parent)):
        return cached
    try:
        files = HfApi().model_info(model, files_metadata=True, timeout=20).siblings or []
    except Exception:  # offline, unknown or gated: the run itself says so
        return 0
    return sum(f.size or 0 for f in files if f.rfilename.endswith(".safetensors"))


def _folder_bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.glob("*.safetensors"))


def _clean(probe: Folder) -> None:
    """Remove what the nodes wrote, as far as this process can."""
    parent = Folder(probe.url.rsplit("/", 1)[0])
    try:
        parent.remove(probe.url.rsplit("/", 1)[1])
        if parent.is_local and not parent.names():
            os.rmdir(parent.path)
    except OSError:
        return  # the finding about the storage says why
