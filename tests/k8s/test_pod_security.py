"""Everything that this project gives to Kubernetes holds the restricted Pod Security Standard."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.pod_security import faults, pods

FILES = sorted((Path(__file__).parents[2] / "cluster" / "kubernetes").rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_manifests_are_restricted(file: Path) -> None:
    manifests = [one for one in yaml.safe_load_all(file.read_text()) if one is not None]
    assert manifests
    assert [faults(pod) for one in manifests for pod in pods(one)] == [
        [] for one in manifests for _ in pods(one)
    ]


GOOD: dict[str, Any] = {
    "securityContext": {
        "runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
    },
    "volumes": [{"name": "tmp", "emptyDir": {}}],
    "containers": [{"name": "one", "securityContext": {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("where", "key", "value", "said"),
    [
        ("pod", "hostNetwork", True, "hostNetwork"),
        ("pod", "hostPID", True, "hostPID"),
        ("pod", "volumes", [{"name": "root", "hostPath": {"path": "/"}}], "volume root: hostPath"),
        ("pod", "securityContext", {}, "one: runAsNonRoot is not true"),
        ("context", "runAsUser", 0, "one: runAsUser is 0"),
        ("context", "privileged", True, "one: privileged"),
        ("context", "capabilities", {}, "one: capabilities.drop lacks ALL"),
        ("context", "capabilities", {"drop": ["ALL"], "add": ["X"]}, "one: capabilities.add"),
        ("context", "allowPrivilegeEscalation", True, "one: allowPrivilegeEscalation is not false"),
        ("container", "ports", [{"hostPort": 80}], "one: hostPort"),
        ("context", "seccompProfile", {"type": "Unconfined"},
         "one: seccompProfile is neither RuntimeDefault nor Localhost"),
    ],
)  # fmt: skip
def test_planted_faults_are_seen(where: str, key: str, value: Any, said: str) -> None:
    assert faults(GOOD) == []
    pod = copy.deepcopy(GOOD)
    container = pod["containers"][0]
    places = {"pod": pod, "container": container, "context": container["securityContext"]}
    places[where][key] = value
    assert said in faults(pod)
