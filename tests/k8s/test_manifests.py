"""Every manifest in ``cluster/``, and ten mistakes that the same checks must catch."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.k8s.schemas import ROOT, mistakes

KUBERNETES = ROOT / "cluster" / "kubernetes"
FILES = [KUBERNETES / "redis.yaml", *sorted((KUBERNETES / "rendered").glob("*.yaml"))]
JOB = KUBERNETES / "rendered" / "miniature-gpus.rayjob.yaml"


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.name)
def test_manifests_are_valid(file: Any) -> None:
    documents = list(yaml.safe_load_all(file.read_text()))
    assert len(documents) >= 3
    for one in documents:
        assert mistakes(one) == [], one["kind"]


def _spec(job: dict[str, Any]) -> Any:
    return job["spec"]["rayClusterSpec"]


def _head(job: dict[str, Any]) -> Any:
    return _spec(job)["headGroupSpec"]["template"]["spec"]


def _typo(job: dict[str, Any]) -> None:
    job["spec"]["shutdownAfterJobFinish"] = True


def _wrong_type(job: dict[str, Any]) -> None:
    _spec(job)["workerGroupSpecs"][0]["maxReplicas"] = "4"


def _number_as_start_parameter(job: dict[str, Any]) -> None:
    _spec(job)["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def _unknown_key_of_a_pod(job: dict[str, Any]) -> None:
    _head(job)["containers"][0]["securitycontext"] = {}


def _mode_that_is_none(job: dict[str, Any]) -> None:
    _spec(job)["authOptions"]["mode"] = "password"


def _fewest_above_most(job: dict[str, Any]) -> None:
    _spec(job)["workerGroupSpecs"][0]["minReplicas"] = 9


def _pods_that_restart(job: dict[str, Any]) -> None:
    _head(job)["restartPolicy"] = "Always"


def _password_twice(job: dict[str, Any]) -> None:
    _head(job)["containers"][0]["env"].append({"name": "REDIS_PASSWORD", "value": "x"})


def _kept_after_no_shutdown(job: dict[str, Any]) -> None:
    job["spec"]["shutdownAfterJobFinishes"] = False


def _old_ray_with_a_token(job: dict[str, Any]) -> None:
    _spec(job)["rayVersion"] = "2.51.0"


def _autoscaler_in_a_queue(job: dict[str, Any]) -> None:
    del job["metadata"]["annotations"]


def _long_name(job: dict[str, Any]) -> None:
    job["metadata"]["name"] = "a" * 48


PLANTED: dict[Callable[[dict[str, Any]], None], str] = {
    _typo: "shutdownAfterJobFinish",
    _wrong_type: "'4' is not of type 'integer'",
    _number_as_start_parameter: "0 is not of type 'string'",
    _unknown_key_of_a_pod: "securitycontext",
    _mode_that_is_none: "'password' is not one of",
    _fewest_above_most: "minReplicas=9 is more than maxReplicas=4",
    _pods_that_restart: "restartPolicy Never",
    _password_twice: "REDIS_PASSWORD goes to gcsFaultToleranceOptions",
    _kept_after_no_shutdown: "ttlSecondsAfterFinished needs shutdownAfterJobFinishes",
    _old_ray_with_a_token: "2.52 or later",
    _autoscaler_in_a_queue: "elastic-job",
    _long_name: "at most 47",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda f: f.__name__.strip("_"))
def test_planted_mistakes_in_a_job_are_caught(plant: Callable[[dict[str, Any]], None]) -> None:
    (job,) = (d for d in yaml.safe_load_all(JOB.read_text()) if d["kind"] == "RayJob")
    assert mistakes(job) == []
    broken = copy.deepcopy(job)
    plant(broken)
    assert any(PLANTED[plant] in found for found in mistakes(broken)), mistakes(broken)


def test_planted_mistakes_in_the_core_are_caught() -> None:
    documents = {d["kind"]: d for d in yaml.safe_load_all(JOB.read_text())}
    policy, recipe = documents["NetworkPolicy"], documents["ConfigMap"]
    policy["spec"]["ingres"] = policy["spec"].pop("ingress")
    assert any("ingres" in m for m in mistakes(policy))
    recipe["data"]["recipe.yaml"] = {"not": "text"}
    assert any("is not of type" in m for m in mistakes(recipe))
    assert any("Couldn't find schema" in m for m in mistakes({**recipe, "kind": "ConfigMapp"}))
