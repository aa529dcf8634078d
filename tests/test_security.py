"""What SECURITY.md promises, as far as a test can hold it."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from delia_ray import models, runtime
from delia_ray.config import RunConfig, describe
from delia_ray.errors import UserError
from delia_ray.runtime import local

ROOT = Path(__file__).parent.parent
SOURCES = [p for folder in ("delia_ray", "jobs") for p in sorted((ROOT / folder).rglob("*.py"))]

PICKLES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "jsonpickle"}
CALLS = {
    "torch.load", "torch.jit.load", "pd.read_pickle", "pandas.read_pickle", "yaml.load",
    "yaml.unsafe_load", "os.system", "os.popen", "eval", "exec",
}  # fmt: skip
KEYWORDS = {"trust_remote_code", "allow_pickle", "shell"}
"""Arguments that may not be true."""


def dangers(code: str) -> list[str]:
    """What a source file does that SECURITY.md rules out."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in PICKLES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] if name in CALLS else []
            found += [
                f"{k.arg}={ast.unparse(k.value)}"
                for k in node.keywords
                if k.arg in KEYWORDS
                and not (isinstance(k.value, ast.Constant) and k.value.value is False)
            ]
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_code_is_run_from_data(file: Path) -> None:
    assert dangers(file.read_text()) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from cloudpickle import loads", "import torch\ntorch.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)", "import yaml\nyaml.load(x, y)",
        "m.from_pretrained('x', trust_remote_code=True)", "eval('1')",
        "m.from_pretrained('x', trust_remote_code=flag)", "subprocess.run('ls', shell=True)",
    ],
)  # fmt: skip
def test_planted_dangers_are_seen(code: str) -> None:
    assert dangers(code)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"no \.safetensors file.*\.save_pretrained\(folder\)"):
        models.locate(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"adapter_model\.safetensors"):
        models.locate_adapter(str(tmp_path))


def test_pickles_are_not_even_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def snapshot_download(model: str, **options: Any) -> str:
        asked.update(options)
        return "x"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    models._from_hub("owner/model")
    assert {"*.bin", "*.pth"} <= set(asked["ignore_patterns"])


def test_a_cluster_of_our_own_has_no_dashboard() -> None:
    assert local.options(Path("/x"), 2)["include_dashboard"] is False


def test_no_setting_holds_a_secret() -> None:
    """A recipe is saved with the run: what would hold a token must hold its name."""
    doubtful = re.compile(r"token|password|secret|credential|api_key", re.IGNORECASE)
    names_only = {
        "cluster.kubernetes.secrets", "cluster.kubernetes.token_secret",
        "cluster.kubernetes.pull_secret",
    }  # fmt: skip
    about_text = {"token_init", "special_tokens", "min_tokens", "max_tokens", "control_tokens"}
    found = {
        key
        for key, _, _ in describe(RunConfig())
        if doubtful.search(key.rsplit(".", 1)[-1]) and key.rsplit(".", 1)[-1] not in about_text
    }
    assert found == names_only


def test_what_a_run_saves_holds_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "planted-secret-value")
    from delia_ray.pipeline import versions

    saved = json.dumps([RunConfig().model_dump(mode="json"), versions(), runtime.WORKER_ENV])
    assert "planted-secret-value" not in saved


def test_every_version_is_pinned() -> None:
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 100
    assert [p for p in pins if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", p)] == []


def test_documented_dashboards_listen_on_loopback() -> None:
    page = (ROOT / "cluster" / "README.md").read_text()
    hosts = re.findall(r"--dashboard-host[= ](\S+)", page)
    assert hosts
    assert set(hosts) == {"127.0.0.1"}
