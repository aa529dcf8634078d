"""Manifests from a recipe: valid, complete, and the same facts as the recipe."""

from typing import Any

import pytest
import yaml

from delia_ray.config import Kubernetes, RunConfig, load_config
from delia_ray.errors import UserError
from delia_ray.k8s.render import recipe_in_pods, render, to_yaml
from delia_ray.k8s.sizes import synthesis_pods, training_pods
from tests.k8s.schemas import ROOT, mistakes

DEMO = ROOT / "jobs" / "recipes" / "miniature.yaml"
PLACES = ROOT / "cluster" / "kubernetes"
RENDERED = {
    "miniature-volume.rayjob.yaml": (["volume.yaml"], [], "rayjob"),
    "miniature-volume.raycluster.yaml": (["volume.yaml"], [], "raycluster"),
    "miniature-gpus.rayjob.yaml": (["gpus.yaml"], [], "rayjob"),
    "miniature-gpus-volcano.rayjob.yaml": (
        ["gpus.yaml"], ["cluster.kubernetes.gang=volcano"], "rayjob",
    ),
}  # fmt: skip
"""File of ``cluster/kubernetes/rendered`` -> what it was rendered from."""


def objects(
    *overrides: str, place: str = "volume.yaml", kind: Any = "rayjob"
) -> dict[str, dict[str, Any]]:
    config = load_config([DEMO, PLACES / place], overrides)
    return {o["kind"]: o for o in render(config, kind)}


def groups(made: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found = made["RayJob"]["spec"]["rayClusterSpec"]
    return {"head": found["headGroupSpec"]} | {g["groupName"]: g for g in found["workerGroupSpecs"]}


@pytest.mark.parametrize("name", RENDERED)
def test_the_examples_are_what_render_gives(name: str) -> None:
    places, overrides, kind = RENDERED[name]
    config = load_config([DEMO, *(PLACES / p for p in places)], overrides)
    wanted = (PLACES / "rendered" / name).read_text()
    assert to_yaml(render(config, kind)) == wanted, (
        f"delia k8s render jobs/recipes/miniature.yaml cluster/kubernetes/{places[0]} "
        f"{' '.join(overrides)} --kind {kind} > cluster/kubernetes/rendered/{name}"
    )


def test_no_example_is_left_over() -> None:
    assert {p.name for p in (PLACES / "rendered").iterdir()} == set(RENDERED)


VARIANTS = [
    [],
    ["cluster.kubernetes.redis={}"],
    ["cluster.kubernetes.network_policy=false", "cluster.kubernetes.volume_size=null"],
    ["cluster.kubernetes.gang=kueue", "cluster.kubernetes.queue=q",
     "synthesize.engine.replicas=[1, 6]"],
    ["cluster.kubernetes.gang=volcano", "cluster.kubernetes.queue=q"],
    ["cluster.kubernetes.synthesis.spot=gke", "cluster.kubernetes.service_account=delia"],
    ["finetune.workers=4", "finetune.min_workers=2", "cluster.kubernetes.deadline_seconds=600"],
    ["cluster.kubernetes.volume_class=efs", "cluster.kubernetes.secrets=[a, b]"],
    ["storage=s3://bucket/runs", "cluster.kubernetes.volume_claim=null",
     "cluster.kubernetes.volume_size=null", "cluster.kubernetes.env={AWS_ENDPOINT_URL: 'http://x'}"],
]  # fmt: skip


@pytest.mark.parametrize("kind", ["rayjob", "raycluster"])
@pytest.mark.parametrize("overrides", VARIANTS, ids=lambda o: " ".join(o) or "plain")
def test_every_manifest_is_valid(overrides: list[str], kind: str) -> None:
    for one in objects(*overrides, kind=kind).values():
        assert mistakes(one) == []


def test_the_pods_get_the_recipe_that_was_meant() -> None:
    made = objects("mix.ratio=3", "cluster.address=ray://x:1")
    tree = yaml.safe_load(made["ConfigMap"]["data"]["recipe.yaml"])
    config = RunConfig.model_validate(tree)
    assert config.mix.ratio == 3
    assert config.cluster.address is None, "the job joins the cluster around it"
    assert config.cluster.training_labels == {"delia-role": "training"}
    assert made["RayJob"]["spec"]["entrypoint"] == "delia run /etc/delia/recipe.yaml"
    for group in groups(made).values():
        pod = group["template"]["spec"]
        name = made["ConfigMap"]["metadata"]["name"]
        assert {"name": "recipe", "configMap": {"name": name}} in pod["volumes"]
    assert groups(made)["training"]["labels"] == {"delia-role": "training"}


def test_a_recipe_survives_the_way_into_the_pods() -> None:
    files = [DEMO, ROOT / "jobs" / "recipes" / "baselines.yaml", PLACES / "gpus.yaml"]
    config = load_config(files, ["synthesize.engine.replicas=[2, 3]", "arms.mine.ratio=2"])
    (recipe,) = (o for o in render(config) if o["kind"] == "ConfigMap")
    arrived = RunConfig.model_validate(yaml.safe_load(recipe["data"]["recipe.yaml"]))
    sent = recipe_in_pods(config)
    cluster = sent.cluster.model_copy(update={"kubernetes": Kubernetes()})
    assert arrived == sent.model_copy(update={"cluster": cluster})


def test_sizes_follow_the_recipe() -> None:
    def sizes(*overrides: str) -> list[int]:
        config = load_config([DEMO, PLACES / "gpus.yaml"], overrides)
        s, t = synthesis_pods(config), training_pods(config)
        return [s.least, s.most, t.least, t.most]

    assert sizes() == [1, 4, 1, 1]
    assert sizes("finetune.workers=5") == [1, 4, 2, 2]
    assert sizes("finetune.workers=16", "finetune.min_workers=8") == [1, 4, 2, 4]
    assert sizes("finetune.side_by_side=3", "finetune.workers=1") == [1, 4, 1, 1]
    assert sizes("synthesize.engine.replicas=6")[:2] == [6, 6]
    two = ["synthesize.engine.kwargs={tensor_parallel_size: 2}"]
    assert sizes(*two, "cluster.kubernetes.synthesis.gpus=4",
                 "cluster.kubernetes.synthesis.cpus=8")[:2] == [1, 2]  # fmt: skip


def test_nothing_runs_as_root_or_without_limits() -> None:
    made = objects(place="gpus.yaml")
    job = made["RayJob"]["spec"]
    pods = [g["template"]["spec"] for g in groups(made).values()]
    for pod in [*pods, job["submitterPodTemplate"]["spec"]]:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
    assert job["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "ray-token"}


def test_engines_may_be_interrupted_and_training_may_not() -> None:
    found = groups(objects(place="gpus.yaml"))
    synthesis, training = found["synthesis"]["template"], found["training"]["template"]
    assert synthesis["spec"]["nodeSelector"]["eks.amazonaws.com/capacityType"] == "SPOT"
    assert "eks.amazonaws.com/capacityType" not in training["spec"]["nodeSelector"]
    assert "annotations" not in synthesis["metadata"]
    assert training["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert found["training"]["minReplicas"] == found["training"]["maxReplicas"] == 1
    assert (found["synthesis"]["minReplicas"], found["synthesis"]["maxReplicas"]) == (1, 4)


def test_queues() -> None:
    kueue = objects(place="gpus.yaml")["RayJob"]["metadata"]
    assert kueue["labels"]["kueue.x-k8s.io/queue-name"] == "delia"
    assert kueue["annotations"] == {"kueue.x-k8s.io/elastic-job": "true"}
    fixed = objects("synthesize.engine.replicas=2", place="gpus.yaml")["RayJob"]
    assert "annotations" not in fixed["metadata"]
    assert fixed["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    volcano = objects("cluster.kubernetes.gang=volcano", place="gpus.yaml")["RayJob"]["metadata"]
    assert volcano["labels"]["volcano.sh/queue-name"] == "delia"


def test_who_may_speak_to_the_pods() -> None:
    made = objects(place="gpus.yaml")
    policy = made["NetworkPolicy"]["spec"]
    for group in groups(made).values():
        assert policy["podSelector"]["matchLabels"].items() <= (
            group["template"]["metadata"]["labels"].items()
        )
    submitter = made["RayJob"]["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= submitter.items()
    spaces = [
        rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for rule in policy["ingress"][1:]
    ]
    assert spaces == ["kuberay-system", "monitoring"]


def test_secrets_are_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("HF_TOKEN", "planted-secret")
    config = load_config([DEMO, PLACES / "gpus.yaml"])
    text = to_yaml(render(config))
    assert "planted-secret" not in text
    assert "secretRef:" in text
    assert "delia-storage" in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["storage=runs"], r"not reachable from a pod: storage=runs; .* below /mnt/delia"),
        (["storage=file:///runs"], r"storage=file:///runs"),
        (["corpus=[{path: a.jsonl}]"], r"corpus\[0\]=a\.jsonl"),
        (["model=./mine"], r"model=\./mine"),
        (["storage=/runs", "cluster.kubernetes.volume_claim=null",
          "cluster.kubernetes.volume_size=null"], r"set cluster\.kubernetes\.volume_claim"),
        (["finetune.cpus_per_worker=9"], r"training has pods of 2 CPUs .* make the pods larger"),
        (["cluster.kubernetes.synthesis.cpus=1"], r"synthesis has pods of 1 CPUs and 0 GPUs"),
        (["cluster.kubernetes.training.gpus=1"], r"training has GPUs and .* none"),
        (["name=1st"], r"the name 1st must begin with a letter"),
        ([f"name={'long' * 12}"], r"has 48 characters, a RayJob at most 47"),
        (["cluster.kubernetes.gang=kueue"], r"gang=kueue and queue=None belong together"),
        (["cluster.kubernetes.volume_claim=null"], r"volume_size=50Gi .* needs its name"),
        (["cluster.kubernetes.memory=3"], r"cluster\.kubernetes\.memory is not a setting"),
        (["cluster.kubernetes.head.memory=lots"], r"cluster\.kubernetes\.head\.memory='lots'"),
    ],
)  # fmt: skip
def test_what_cannot_run_there_is_said(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        objects(*overrides)
