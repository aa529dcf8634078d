"""Dependencies point one way, and the light modules stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "delia_ray"

LAYERS = [
    {
        "errors",
        "names",
        "records",
        "redaction",
        "tables",
        "miniature",
        "text",
        "shared_memory",
        "machine_memory",
    },
    {
        "stored",
        "scratch",
        "demo_model",
        "ifeval",
        "diversity",
        "stopping",
        "reasons",
        "pace",
        "request_rules",
    },
    {"token_apart", "sandbox", "config", "artifacts", "generation_settings", "chats"},
    {"recipe_files"},
    {
        "models",
        "causal_models",
        "stage",
        "lock",
        "runtime",
        "packing",
        "store",
        "rewording",
        "metrics",
    },
    {"engines", "token_rows", "scoring"},
    {"ingest", "synthesize", "mix", "finetune", "evaluate", "report"},
    {"preflight"},
    {"pipeline", "chat", "console"},
    {"export", "study", "k8s", "submit", "doctor", "drill"},
    {"sweep", "cluster_verbs"},
    {"cli"},
]
"""Bottom to top. A module imports from lower layers, or from its own package."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _imports(path: Path) -> set[str]:
    """Modules or packages of delia_ray, one level deep, that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "delia_ray":
                names = [f"delia_ray.{alias.name}" for alias in node.names]
            else:
                names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("delia_ray.")}
    return found - {"__version__", "__doc__"}


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__main__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        assert not _imports(path)
        return
    assert own in LEVEL, f"{own} has no layer: add it to LAYERS"
    for other in _imports(path) - {own}:
        assert LEVEL[other] < LEVEL[own], f"{own} may not import {other}"


def test_a_wrong_import_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from delia_ray.cli import main\n")
    assert _imports(file) == {"cli"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("delia_ray.config", ("ray", "torch", "vllm", "transformers", "numpy", "pyarrow")),
        ("delia_ray.miniature", ("ray", "torch", "transformers", "numpy", "pyarrow")),
        ("delia_ray.ifeval", ("ray", "torch", "transformers", "numpy", "pyarrow")),
        ("delia_ray.ingest.gathering", ("ray", "torch", "transformers", "datasets", "rensa")),
        ("delia_ray.diversity", ("ray", "torch", "transformers", "pyarrow")),
        ("delia_ray.mix.order", ("ray", "torch", "transformers", "pyarrow")),
        ("delia_ray.synthesize.checks", ("ray", "torch", "transformers")),
        ("delia_ray.rewording", ("ray", "torch", "transformers")),
        ("delia_ray.evaluate.statistics", ("ray", "torch", "transformers")),
        ("delia_ray.evaluate.probes.forgetting", ("ray", "torch", "transformers")),
        ("delia_ray.evaluate.phrasings", ("ray", "torch", "transformers")),
        ("delia_ray.evaluate.robustness", ("ray", "torch", "transformers")),
        ("delia_ray.study.verdicts", ("ray", "torch", "transformers")),
        ("delia_ray.sweep.space", ("ray", "torch", "transformers")),
        ("delia_ray.sweep.fit", ("ray", "torch", "transformers")),
        ("delia_ray.sweep.run", ("ray", "torch", "transformers")),
        ("delia_ray.cli", ("ray", "torch", "vllm", "transformers")),
        ("delia_ray.pipeline", ("ray", "torch", "vllm", "deepspeed")),
        ("delia_ray.preflight", ("ray", "torch", "vllm", "transformers", "deepspeed")),
        ("delia_ray.export.bundle", ("ray", "torch", "vllm", "deepspeed")),
        ("delia_ray.k8s.render", ("ray", "torch", "transformers", "numpy", "pyarrow")),
        ("delia_ray.submit.package", ("ray", "torch", "transformers", "numpy", "pyarrow")),
    ],
)
def test_importing_stays_light(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import {module}, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
