"""A head and two more raylets as users start them, token authentication on: the demo's ingest by
``ray job submit`` and by ``delia submit``, a recipe that fails, one that is stopped, and doctor.

Stages that need an engine or training run in ``tests/test_end_to_end.py``; here the way in and
out of the cluster matters, so the jobs are short.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
LIMIT = 300

pytestmark = pytest.mark.ray


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Cluster:
    """Three raylets; all that they are is below ``temp``, which names their processes."""

    temp: Path
    home: Path
    address: str

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        kept |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.home / "token")}
        kept |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        return kept

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.home, env={**self.env, **env}, capture_output=True, text=True,
            timeout=LIMIT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def delia(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self.delia_command(verb, *arguments))

    def delia_command(self, verb: str, *arguments: str) -> list[str]:
        there = ["--address", self.address]
        there += ["--python", sys.executable] if "--stop" not in arguments else []
        return [sys.executable, "-m", "delia_ray.cli", verb, *arguments, *there]

    def close(self) -> None:
        """End this cluster's processes, and no others on the machine."""
        for _ in range(3):
            ours = [p for p in psutil.process_iter() if self._is_ours(p)]
            for process in ours:
                with_signal(process, signal.SIGKILL)
            psutil.wait_procs(ours, timeout=10)
        shutil.rmtree(self.temp, ignore_errors=True)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return str(self.temp) in " ".join(process.cmdline())
        except psutil.Error:
            return False


def with_signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # Short, because sockets lie in it.
    temp = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))
    home = tmp_path_factory.mktemp("home")
    (home / "token").write_text("a-token-of-the-test-" + "0" * 44)
    port, dashboard = free_port(), free_port()
    made = Cluster(temp, home, f"http://127.0.0.1:{dashboard}")
    common = ["--num-cpus", "1", "--disable-usage-stats", "--object-store-memory", "100000000"]
    agents = lambda: ["--dashboard-agent-listen-port", str(free_port())]  # noqa: E731
    try:
        done = made.run(
            str(RAY), "start", "--head", "--port", str(port), "--dashboard-host", "127.0.0.1",
            "--dashboard-port", str(dashboard), "--ray-client-server-port", str(free_port()),
            "--temp-dir", str(temp), *agents(), *common,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        for role in ("synthesis", "training"):
            done = made.run(
                str(RAY), "start", "--address", f"127.0.0.1:{port}",
                "--labels", f"delia-role={role}", *agents(), *common,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        made.close()


def recipe(name: str, storage: Path, *more: str) -> list[str]:
    return [f"name={name}", f"storage={storage}", "downstream.rows=8", "mix.ratio=2",
            "corpus=[{path: corpus, format: miniature, rows: 40}]",
            "synthesize.engine={type: transformers}", "finetune.workers=1", *more]  # fmt: skip


def manifests(storage: Path, name: str) -> list[str]:
    return sorted(p.parts[-3] for p in (storage / name).glob("*/*/manifest.json"))


def test_a_job_succeeds_with_its_artifacts_in_shared_storage(
    cluster: Cluster, tmp_path: Path
) -> None:
    done = cluster.delia("submit", *recipe("mine", tmp_path), "--stage", "ingest")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "1 ingest" in line]
    assert lines, done.stdout
    assert all(line.startswith("mine ") for line in lines), done.stdout
    assert manifests(tmp_path, "mine") == ["ingest"]


def test_ray_job_submit_runs_the_same_recipe(cluster: Cluster, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"  # what git tracks of it; a developer's has more
    for part in ("delia_ray", "jobs"):
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    done = cluster.run(
        str(RAY), "job", "submit", "--address", cluster.address,
        "--working-dir", str(checkout), "--",
        sys.executable, "jobs/stage.py", "ingest", *recipe("other", tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert manifests(tmp_path, "other") == ["ingest"]


def test_a_failing_recipe_comes_back_with_its_code_and_reason(
    cluster: Cluster, tmp_path: Path
) -> None:
    done = cluster.delia("submit", *recipe("bad", tmp_path, "model=/nowhere"), "--stage", "ingest")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error: model=/nowhere: no such folder" in done.stdout
    assert "Traceback" not in done.stdout
    assert manifests(tmp_path, "bad") == []


def test_a_running_job_is_stopped_cleanly(cluster: Cluster, tmp_path: Path) -> None:
    long = recipe("long", tmp_path, "corpus=[{path: corpus, format: miniature, rows: 20000}]",
                  "downstream.rows=64", "mix.ratio=200")  # fmt: skip
    started = cluster.delia("submit", *long, "--stage", "synthesize", "--no-wait")
    job = started.stdout.strip().splitlines()[-1]
    assert started.returncode == 0, started.stderr
    ends = time.monotonic() + LIMIT
    while "ingest" not in manifests(tmp_path, "long"):
        assert time.monotonic() < ends
        time.sleep(0.5)
    stopped = cluster.delia("submit", "--stop", job)
    assert stopped.returncode == 130, stopped.stderr
    assert manifests(tmp_path, "long") == ["ingest"], "nothing looks finished that is not"


def test_nobody_gets_in_without_the_token(cluster: Cluster, tmp_path: Path) -> None:
    command = cluster.delia_command("submit", *recipe("thief", tmp_path), "--stage", "ingest")
    done = cluster.run(*command, RAY_AUTH_TOKEN="another-token-" + "0" * 50)
    assert done.returncode == 2, done.stdout
    assert "does not take this token" in done.stderr
    assert not (tmp_path / "thief").exists()


def test_doctor_sees_all_nodes_and_what_they_lack(cluster: Cluster, tmp_path: Path) -> None:
    wanting = recipe("mine", tmp_path, "cluster.training_labels={delia-role: training}",
                     "finetune.workers=4")  # fmt: skip
    done = cluster.delia("doctor", *wanting)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "3 nodes, 3 CPUs" in said
    assert "delia-role=training" in said
    assert "finetune.workers=4" in said
    assert "there is room for 1" in said
    # On a slow machine a node may not answer in time, and a disk may be small.
    others = [line for line in said.splitlines() if line.startswith("problem:")]
    expected = ("finetune.workers=4", "did not answer", "GiB free")
    assert [p for p in others if not any(e in p for e in expected)] == []


def test_the_token_stands_in_no_log(cluster: Cluster) -> None:
    token = (cluster.home / "token").read_text()
    logs = [p for p in cluster.temp.rglob("*") if p.is_file() and p.suffix in (".log", ".out")]
    assert logs
    assert [str(p) for p in logs if token in p.read_text(errors="replace")] == []


def test_the_metadata_names_the_run(cluster: Cluster) -> None:
    done = cluster.run(
        sys.executable, "-c",
        "import json; from ray.job_submission import JobSubmissionClient as C; "
        f"print(json.dumps([j.metadata for j in C('{cluster.address}').list_jobs()]))",
    )  # fmt: skip
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert {"delia_run": "mine"} in [{"delia_run": (m or {}).get("delia_run")} for m in found]
