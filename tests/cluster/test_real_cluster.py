"""A head and two more raylets as users start them, each on a machine of its own where the kernel
makes some (``network``), token authentication on, the runs in an S3-compatible storage: the demo
by ``ray job submit`` and by ``delia submit`` while nodes come and go, a recipe that fails, one
that is stopped, a sweep's exit code, and doctor.
"""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pytest
import yaml
from moto.server import ThreadedMotoServer

from .network import Machine, Network, free_port

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
LIMIT = 400

pytestmark = [pytest.mark.ray, pytest.mark.vllm]


@dataclass
class Cluster:
    """Raylets; all that they are is below ``temp``, which names their processes."""

    temp: Path
    home: Path
    network: Network
    head: Machine
    port: int
    dashboard: int
    bucket: str
    """Endpoint of the storage."""
    nodes: dict[str, Machine] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://{self.head.address}:{self.dashboard}"

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_"))}
        kept |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.home / "token")}
        kept |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        kept |= {"AWS_ENDPOINT_URL": self.bucket, "AWS_DEFAULT_REGION": "us-east-1"}
        return kept | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

    def start(self, name: str, *words: str, cpus: int = 1) -> None:
        """A node of that name on one more machine."""
        machine = self.head if name == "head" else self.network.add()
        self.nodes[name] = machine
        done = self.run(
            *machine.inside, str(RAY), "start", *words, "--num-cpus", str(cpus),
            *machine.ports("--dashboard-agent-listen-port"),
            "--disable-usage-stats", "--object-store-memory", "100000000",
            # On one they would replace each other's copies of a job's folder.
            "--temp-dir", str(self.temp / name),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def join(self, name: str, role: str) -> None:
        """A node of a role joins."""
        where = f"{self.head.address}:{self.port}"
        self.start(name, "--address", where, "--labels", f"delia-role={role},name={name}")

    def leave(self, role: str) -> None:
        """SIGKILL the raylets of a role; what they ran ends with them."""
        mark = f'"delia-role": "{role}"'
        for process in psutil.process_iter():
            if self._is_ours(process) and mark in (line := _line(process)) and "raylet " in line:
                with_signal(process, signal.SIGKILL)

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

    def ray_job_submit(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        there = ["--address", self.address, "--working-dir", str(folder)]
        return self.run(str(RAY), "job", "submit", *there, "--", sys.executable, *words)

    def ask(self, what: str) -> Any:
        """What an expression of Ray's own clients gives."""
        code = (
            "import json; from ray.job_submission import JobSubmissionClient; "
            "from ray.util.state import list_actors, list_nodes; "
            f"address = {self.address!r}; print(json.dumps({what}))"
        )
        done = self.run(sys.executable, "-c", code)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    def storage(self) -> fsspec.AbstractFileSystem:
        """The runs, as the test sees them."""
        fs = fsspec.filesystem("s3", key="test", secret="test", endpoint_url=self.bucket)
        fs.invalidate_cache()
        return fs

    def story(self) -> str:
        """What went wrong in the processes of the cluster."""
        files = [*self.temp.glob("*/session_*/logs/job-driver-*.log")]
        files += self.temp.glob("*/session_*/logs/worker-*.err")
        texts = (path.read_text(errors="replace") for path in files)
        return "\n".join(text[-6000:] for text in texts if "Error" in text)

    def manifests(self, name: str) -> list[str]:
        """The stages of a run that are finished."""
        found = self.storage().glob(f"runs/{name}/*/*/manifest.json")
        return sorted({path.split("/")[-3] for path in found})

    def close(self) -> None:
        """End this cluster's processes, and no others on the machine."""
        for _ in range(3):
            ours = [p for p in psutil.process_iter() if self._is_ours(p)]
            for process in ours:
                with_signal(process, signal.SIGKILL)
            psutil.wait_procs(ours, timeout=10)
        shutil.rmtree(self.temp, ignore_errors=True)

    def _is_ours(self, process: psutil.Process) -> bool:
        return str(self.temp) in _line(process)


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def with_signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


@pytest.fixture(scope="module")
def bucket(network: Network) -> Iterator[str]:
    server = ThreadedMotoServer(network.gateway, free_port(network.gateway), verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    fsspec.filesystem("s3", key="test", secret="test", endpoint_url=url).mkdir("runs")
    yield url
    server.stop()


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, network: Network, bucket: str
) -> Iterator[Cluster]:
    # Short, because sockets lie in it.
    temp = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))
    home = tmp_path_factory.mktemp("home")
    (home / "token").write_text("a-token-of-the-test-" + "0" * 44)
    made = Cluster(temp, home, network, network.add(), free_port(), free_port(), bucket)
    try:
        made.start(
            "head", "--head", "--port", str(made.port), "--dashboard-host", made.head.address,
            "--dashboard-port", str(made.dashboard),
            *made.head.ports("--ray-client-server-port"),
        )  # fmt: skip
        made.join("synthesis", "synthesis")
        made.join("training", "training")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git tracks of it, as far as a job needs it; a developer's has more."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("delia_ray", "jobs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def recipe(name: str, *more: str) -> list[str]:
    """The default recipe, small."""
    return [f"name={name}", "storage=s3://runs", "downstream.rows=8", "mix.ratio=2",
            "corpus=[{path: corpus, format: miniature, rows: 40}]",
            "synthesize.engine={type: transformers}", "finetune.workers=1", *more]  # fmt: skip


DEMO = [
    "storage=s3://runs", "downstream.rows=12", "mix.ratio=4",
    "corpus=[{path: corpus, format: miniature, rows: 200}]",
    "finetune.steps=12", "finetune.batch_size=8", "finetune.micro_batch_size=4",
    "evaluate.suites=[{name: plain, path: plain, format: miniature, rows: 16}]",
    "evaluate.summary=[plain]", "evaluate.probes=0", "arms=[delia]",
    "cluster.training_labels={delia-role: training}",
]  # fmt: skip
"""The demo's recipe with fewer rows and steps, and one arm: real vLLM, two workers of DeepSpeed."""
SMALL = {
    "downstream": {"path": "downstream", "format": "miniature", "rows": 8,
                   "special_tokens": {"<sep>": "json"}},
    "corpus": [{"path": "corpus", "format": "miniature", "rows": 100}],
    "synthesize": {"engine": {"type": "transformers"}, "sampling": {"max_tokens": 32}},
    "mix": {"ratio": 2, "max_length": 256, "repeat": True},
    "finetune": {"workers": 1, "steps": 2, "batch_size": 4, "micro_batch_size": 4},
    "evaluate": {
        "engine": {"type": "transformers"}, "max_tokens": 16, "probes": 0, "summary": ["plain"],
        "suites": [{"name": "plain", "path": "plain", "format": "miniature", "rows": 8}],
    },
}  # fmt: skip
STAGES = ["evaluate", "finetune", "ingest", "mix", "report", "synthesize"]


def test_doctor_sees_all_nodes_and_what_they_lack(cluster: Cluster) -> None:
    wanting = recipe("mine", "cluster.training_labels={delia-role: training}",
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


def test_a_failing_recipe_comes_back_with_its_code_and_reason(cluster: Cluster) -> None:
    done = cluster.delia("submit", *recipe("bad", "model=/nowhere"), "--stage", "ingest")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error: model=/nowhere: no such folder" in done.stdout
    assert "Traceback" not in done.stdout
    assert cluster.manifests("bad") == []


def test_nobody_gets_in_without_the_token(cluster: Cluster) -> None:
    command = cluster.delia_command("submit", *recipe("thief"), "--stage", "ingest")
    done = cluster.run(*command, RAY_AUTH_TOKEN="another-token-" + "0" * 50)
    assert done.returncode == 2, done.stdout
    assert "does not take this token" in done.stderr
    assert not cluster.storage().exists("runs/thief")


def test_a_running_job_is_stopped_cleanly(cluster: Cluster) -> None:
    long = recipe("long", "corpus=[{path: corpus, format: miniature, rows: 20000}]",
                  "downstream.rows=64", "mix.ratio=200")  # fmt: skip
    started = cluster.delia("submit", *long, "--stage", "synthesize", "--no-wait")
    job = started.stdout.strip().splitlines()[-1]
    assert started.returncode == 0, started.stderr
    wait_for(lambda: "ingest" in cluster.manifests("long"))
    stopped = cluster.delia("submit", "--stop", job)
    assert stopped.returncode == 130, stopped.stderr
    assert cluster.manifests("long") == ["ingest"], "nothing looks finished that is not"


def test_the_demo_ends_well_while_nodes_come_and_go(cluster: Cluster, checkout: Path) -> None:
    """Training needs a node that joins during the synthesis, and by the time that it trains the
    synthesis node has left."""
    command = cluster.delia_command("submit", str(checkout / "jobs/recipes/miniature.yaml"), *DEMO)
    printed = cluster.home / "demo.txt"
    with open(printed, "w") as stream:
        job = subprocess.Popen(
            command, cwd=cluster.home, env=cluster.env, stdout=stream, stderr=stream,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        wait_for(lambda: "ingest" in cluster.manifests("miniature") or job.poll() is not None)
        cluster.join("another", "training")
        wait_for(lambda: "mix" in cluster.manifests("miniature") or job.poll() is not None)
        cluster.leave("synthesis")
        code = job.wait(timeout=LIMIT)
        assert code == 0, printed.read_text() + cluster.story()
    finally:
        job.kill()
    lines = [line for line in printed.read_text().splitlines() if "5 evaluate" in line]
    assert lines, printed.read_text()
    assert all(line.startswith("miniature ") for line in lines), lines
    assert cluster.manifests("miniature") == STAGES
    assert cluster.storage().glob("runs/miniature/finetune/*/delia/adapter/*.safetensors")
    assert places_of(cluster, "RayTrainWorker") == {"training", "another"}


def test_ray_job_submit_runs_the_demo(cluster: Cluster, checkout: Path) -> None:
    """It goes on with the same run, where nothing before the training is another."""
    done = cluster.ray_job_submit(
        checkout, "jobs/run.py", "jobs/recipes/miniature.yaml", *DEMO, "finetune.lr=1e-3"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"(?:ingest|synthesize|mix) .*\[done before\]", done.stdout)) == 3
    for stage in ("finetune", "evaluate", "report"):
        assert len(cluster.storage().glob(f"runs/miniature/{stage}/*/manifest.json")) == 2, stage


def test_a_sweep_as_a_job_has_the_exit_code_of_the_sweep(cluster: Cluster, checkout: Path) -> None:
    settings = {
        "name": "sweep", "storage": "s3://runs", "run": SMALL, "searcher": "grid",
        "dimensions": {"mix.ratio": {"choice": [0, 2]}}, "search_rows": 4, "confirm": {"seeds": 0},
    }  # fmt: skip
    (checkout / "sweep.yaml").write_text(yaml.safe_dump(settings))
    done = cluster.ray_job_submit(checkout, "jobs/sweep.py", "sweep.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(cluster.storage().cat("runs/sweep/sweep-result.json"))
    assert result["design"]["done"] == 2
    assert result["counters"]["syntheses"] == 1
    wrong = cluster.ray_job_submit(checkout, "jobs/sweep.py", "sweep.yaml", "serach_rows=4")
    assert wrong.returncode != 0
    assert "serach_rows" in wrong.stdout
    assert "exit code 2" in wrong.stdout + wrong.stderr


def test_the_token_stands_in_no_log(cluster: Cluster) -> None:
    token = (cluster.home / "token").read_text()
    logs = [p for p in cluster.temp.rglob("*") if p.is_file() and p.suffix in (".log", ".out")]
    assert logs
    assert [str(p) for p in logs if token in p.read_text(errors="replace")] == []


def test_the_metadata_names_the_run(cluster: Cluster) -> None:
    found = cluster.ask("[j.metadata for j in JobSubmissionClient(address).list_jobs()]")
    assert {"delia_run": "miniature"} in [{"delia_run": (m or {}).get("delia_run")} for m in found]


def wait_for(seen: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT
    while not seen():
        assert time.monotonic() < until
        time.sleep(0.5)


def places_of(cluster: Cluster, kind: str) -> set[str]:
    """Names of the nodes on which actors of a class ran."""
    found = cluster.ask(
        f"[a.node_id for a in list_actors(address, filters=[('class_name', '=', '{kind}')])]"
    )
    labels = dict(cluster.ask("[(n.node_id, n.labels) for n in list_nodes(address)]"))
    return {labels[node]["name"] for node in found}
