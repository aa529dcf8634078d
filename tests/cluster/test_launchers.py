"""The image, Ray's cluster launcher files and the Slurm script, as far as they run here."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
LAUNCHERS = ("aws.yaml", "gcp.yaml")


def launcher(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return found


def validate(config: dict[str, Any]) -> None:
    """As ``ray up`` does: defaults filled in, then Ray's schema."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_accepts_the_launcher_files(name: str) -> None:
    validate(launcher(name))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("max_wokers",), 3),
        (("max_workers",), "five"),
        (("available_node_types", "synthesis", "resource"), {}),
        (("available_node_types", "training", "resources"), {"GPU": "four"}),
        (("docker", "imge"), "x"),
        (("auth", "user"), "x"),
    ],
)
def test_planted_mistakes_are_refused(path: tuple[str, ...], value: Any) -> None:
    config = launcher("aws.yaml")
    part = config
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(config)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_are_closed_and_place_the_stages(name: str) -> None:
    config = launcher(name)
    roles = {k: v["labels"]["delia-role"] for k, v in config["available_node_types"].items()}
    assert roles == {"head": "head", "synthesis": "synthesis", "training": "training"}
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    for command in starts:
        assert command == "ray stop" or "RAY_AUTH_MODE=token ray start" in command
    (head,) = (c for c in starts if "--head" in c)
    assert "--dashboard-host=127.0.0.1" in head


def test_every_target_of_the_image_runs_as_a_user() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    stages = {
        re.search(r"AS (\S+)", stage)[1]: stage  # type: ignore[index]
        for stage in re.split(r"(?m)^(?=FROM )", text)[1:]
    }
    for target in ("cpu", "cuda"):
        assert re.findall(r"(?m)^USER (\S+)", stages[target]) == ["1000:1000"]
        assert f"COPY --from=build-{target} " in stages[target]
    assert "build-essential" not in text, "the final image has a compiler, not a tool chain"


def test_the_image_copies_what_is_not_ignored() -> None:
    kept = {
        line[1:]
        for line in (CLUSTER.parent / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", (CLUSTER / "Dockerfile").read_text())
    for source in " ".join(copied).split():
        assert source.split("/")[0] in kept, source
        assert (CLUSTER.parent / source).exists(), source


def test_the_slurm_script_is_one(tmp_path: Path) -> None:
    script = CLUSTER / "delia.slurm"
    subprocess.run(["bash", "-n", str(script)], check=True)
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: sbatch" in done.stderr


def test_the_slurm_script_runs_what_it_was_given(tmp_path: Path) -> None:
    """With ``srun`` and ``scontrol`` that only say what they were called with."""
    (tmp_path / "scontrol").write_text("#!/bin/sh\nprintf 'n1\\nn2\\n'\n")
    (tmp_path / "srun").write_text(
        '#!/bin/sh\necho "$RAY_AUTH_MODE $(wc -c < "$RAY_AUTH_TOKEN_PATH")"\necho "$@"\nexit 3\n'
    )
    for tool in ("scontrol", "srun"):
        (tmp_path / tool).chmod(0o755)
    done = subprocess.run(
        ["bash", str(CLUSTER / "delia.slurm"), "mine.yaml", "mix.ratio=3"],
        capture_output=True, text=True,
        env={
            "PATH": f"{tmp_path}:{Path(shutil.which('bash') or '').parent}:/usr/bin:/bin",
            "HOME": str(tmp_path), "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "8",
        },
    )  # fmt: skip
    token, call = done.stdout.splitlines()
    assert token == "token 64"
    assert call == (
        "--kill-on-bad-exit=1 ray symmetric-run --address n1:22345 --min-nodes 2 --num-cpus 8 -- "
        "delia run mine.yaml mix.ratio=3 cluster.address=n1:22345"
    )
    assert done.returncode == 3, "the run's exit code is the job's"
    assert not list(tmp_path.glob(".delia-ray-token*")), "the token does not outlive the job"
