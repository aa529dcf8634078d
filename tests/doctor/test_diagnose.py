"""Planted problems of a cluster, each found by its name and with the advice that mends it."""

from dataclasses import replace

import pytest

from delia_ray.config import RunConfig, load_config
from delia_ray.doctor.diagnose import GIB, Finding, diagnose
from delia_ray.doctor.facts import Facts, Node, Step

VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "vllm": "0.32.0", "delia-ray": "0.1.0"}
NAMES = ("head", "a", "b")
HEALTHY = Facts(
    nodes=tuple(
        Node(
            name=name,
            cpus=0 if name == "head" else 8,
            gpus=0 if name == "head" else 2,
            memory=64 * GIB,
            disk=100 * GIB,
            gpu_memory=0 if name == "head" else 24 * GIB,
            labels={"delia-role": "training" if name == "b" else "synthesis"},
            versions=VERSIONS,
            sees=frozenset(NAMES),
        )
        for name in NAMES
    ),
    model_bytes=4 * GIB,
)


def recipe(*overrides: str) -> RunConfig:
    base = ["storage=s3://b/runs", "synthesize.engine.type=vllm", "finetune.workers=2"]
    return load_config([], [*base, *overrides])


def with_node(name: str, **changes: object) -> Facts:
    nodes = [replace(n, **changes) if n.name == name else n for n in HEALTHY.nodes]  # type: ignore[arg-type]
    return replace(HEALTHY, nodes=tuple(nodes))


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding


def test_a_healthy_cluster_has_no_finding() -> None:
    assert diagnose(recipe(), HEALTHY) == []
    assert diagnose(recipe("cluster.training_labels={delia-role: training}"), HEALTHY) == []


PLANTED = {
    "silent node": (
        with_node("a", silent="no answer within 120 s", gpus=2.0),
        [], "a did not answer", "`ray status` shows it",
    ),
    "versions differ": (
        with_node("b", versions={**VERSIONS, "ray": "2.58.1"}),
        [], "ray: 2.58.1 on b; 2.60.0 on a, head", "install ray==2.60.0 everywhere",
    ),
    "no vllm": (
        with_node("a", broken={"vllm": "ImportError: libcuda.so.1"}),
        [], "vllm cannot be imported on a: ImportError: libcuda.so.1", "delia-ray[gpu]",
    ),
    "no deepspeed": (
        with_node("b", broken={"deepspeed": "ModuleNotFoundError"}),
        [], "deepspeed cannot be imported on b", "install deepspeed and a C compiler",
    ),
    "storage not writable": (
        with_node("a", storage="PermissionError: Access Denied", sees=None),
        [], "cannot be written from a: PermissionError", "credentials",
    ),
    "storage not shared": (
        replace(HEALTHY, nodes=tuple(replace(n, sees=frozenset([n.name])) for n in HEALTHY.nodes)),
        ["storage=/home/me/runs"], "head does not see what a, b wrote", "all nodes mount",
    ),
    "no node for training": (
        HEALTHY, ["cluster.training_labels={zone: x}"],
        "no node has the labels zone=x", "`ray start --labels zone=x`",
    ),
    "too few CPUs": (
        HEALTHY, ["finetune.cpus_per_worker=5", "finetune.workers=4", "finetune.gpus_per_worker=0"],
        "need room for 4 workers, and there is room for 2", "set finetune.workers=2",
    ),
    "too few GPUs": (
        HEALTHY, ["finetune.workers=3", "cluster.training_labels={delia-role: training}"],
        "room for 2 on the nodes with cluster.training_labels", "set finetune.workers=2",
    ),
    "engine larger than a node": (
        HEALTHY, ["synthesize.engine.kwargs={tensor_parallel_size: 4}"],
        "an engine takes 4 GPUs", "add a node with 4 GPUs",
    ),
    "too few engines fit": (
        HEALTHY, ["synthesize.engine.replicas=9"],
        "synthesize.engine.replicas=9 of 1 GPUs each, and there is room for 4", "replicas=4",
    ),
    "too little memory": (
        with_node("b", memory=8 * GIB),
        [], "b has 8 GiB of memory, and its 2 training workers load 4.0 GiB each", "more memory",
    ),
    "a step needs more memory": (
        replace(HEALTHY, step=Step(packs=4, tokens=1024, bytes=60 * GIB, more=GIB)),
        ["finetune.gpus_per_worker=0"],
        "a has memory of 64.0 GiB, and a step of its 2 training workers needs about 60.0 GiB each "
        "(packs of up to 1,024 tokens, 4 at once)",
        "set finetune.gradient_checkpointing=true or finetune.micro_batch_size=auto or "
        "finetune.workers=1 or a smaller mix.pack_length",
    ),
    "too little GPU memory": (
        replace(HEALTHY, teacher_bytes=60 * GIB),
        ["synthesize.model=big/teacher"], "60.0 GiB of weights on each GPU, and a has GPUs of 24",
        "tensor_parallel_size=4",
    ),
    "too little disk": (
        with_node("a", disk=8 * GIB),
        [], "a: 8.0 GiB free where 9.0 GiB are needed", "--temp-dir on a larger one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_problems_are_found_with_their_advice(kind: str) -> None:
    facts, overrides, problem, advice = PLANTED[kind]
    found = only(diagnose(recipe(*overrides), facts))
    assert found.kind == kind
    assert problem in found.problem
    assert advice in found.advice
    assert found.fatal


def test_a_step_that_may_fit_is_a_note() -> None:
    facts = replace(HEALTHY, step=Step(packs=1, tokens=1024, bytes=23 * GIB, more=GIB))
    found = only(diagnose(recipe("finetune.gradient_checkpointing=true"), facts))
    assert not found.fatal
    assert "a has GPUs of 24.0 GiB, and a step of its 1 training worker needs" in found.problem
    assert found.advice == "set a smaller mix.pack_length, or take more memory"
    assert diagnose(recipe("arms={}"), facts) == []


def test_silent_nodes_are_one_problem_and_not_several() -> None:
    silent = tuple(replace(n, silent="no answer", memory=0, disk=0) for n in HEALTHY.nodes)
    found = diagnose(
        recipe("cluster.training_labels={delia-role: training}"), replace(HEALTHY, nodes=silent)
    )
    assert {f.kind for f in found} == {"silent node"}


def test_a_cpu_cluster_without_a_free_cpu() -> None:
    node = Node("here", cpus=2, gpus=0, memory=8 * GIB, disk=50 * GIB)
    found = only(diagnose(recipe("synthesize.engine.replicas=2"), Facts((node,))))
    assert found.kind == "no CPU left to feed the engines"
    assert "synthesize.engine.replicas=1" in found.advice
    assert diagnose(recipe(), Facts((node,))) == []


def test_what_the_recipe_does_not_use_may_be_missing() -> None:
    broken = with_node("a", broken={"vllm": "absent", "deepspeed": "absent"})
    assert diagnose(recipe("synthesize.engine.type=transformers", "arms={}"), broken) == []


def test_the_head_needs_no_engine_but_the_storage() -> None:
    head = with_node("head", broken={"vllm": "absent"})
    assert diagnose(recipe(), head) == []
    blocked = with_node("head", storage="ConnectTimeout", sees=None)
    assert only(diagnose(recipe(), blocked)).kind == "storage not writable"
