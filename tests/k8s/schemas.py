"""Manifests against the schemas that an API server holds them to, offline."""

import functools
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from delia_ray.k8s.rules import broken_rules

ROOT = Path(__file__).parents[2]
CRDS = ROOT.parent / "shared" / "crds"
KUBERNETES = "1.34"


def mistakes(manifest: dict[str, Any]) -> list[str]:
    """What an API server and KubeRay's operator would refuse; skips where the CRDs are absent."""
    if not str(manifest.get("apiVersion", "")).startswith("ray.io/"):
        return _core(manifest)
    schema = _crd(str(manifest.get("kind")), manifest["apiVersion"].partition("/")[2])
    found = [
        f"{'.'.join(map(str, e.absolute_path))}: {e.message}"
        for e in Draft202012Validator(schema).iter_errors(manifest)
    ]
    return found or broken_rules(manifest)


def _core(manifest: dict[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


@functools.cache
def _crd(kind: str, version: str) -> dict[str, Any]:
    file = CRDS / f"crd_{kind.lower()}s.yaml"
    if not CRDS.exists():
        pytest.skip(f"KubeRay's CRDs are not at {CRDS}")
    definition = yaml.load(file.read_text(), yaml.CSafeLoader)
    (found,) = (v for v in definition["spec"]["versions"] if v["name"] == version)
    return _strict(found["schema"]["openAPIV3Schema"], top=True)


def _strict(schema: Any, top: bool = False) -> Any:
    """A structural schema as JSON schema that refuses unknown fields, as kubectl does."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    known = {
        k: v
        for k, v in schema.items()
        if not k.startswith("x-kubernetes-") and k not in ("description", "format", "nullable")
    }
    if schema.get("x-kubernetes-int-or-string"):
        known["type"] = ["integer", "string"]
        known.pop("anyOf", None)
    if "properties" in known:
        parts = known["properties"]
        known["properties"] = {name: _strict(part) for name, part in parts.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            known["additionalProperties"] = False
        if top:  # the server's own schema of metadata stands in the core, not in a CRD
            known["properties"]["metadata"] = {"type": "object", "required": ["name"]}
        # The server fills in defaults before it looks for what is required.
        required = known.get("required", [])
        known["required"] = [n for n in required if "default" not in parts.get(n, {})]
    for key in ("items", "allOf", "anyOf", "oneOf"):
        if key in known:
            known[key] = _strict(known[key])
    if isinstance(known.get("additionalProperties"), dict):
        known["additionalProperties"] = _strict(known["additionalProperties"])
    if schema.get("nullable") and isinstance(known.get("type"), str):
        known["type"] = [known["type"], "null"]
    return known
