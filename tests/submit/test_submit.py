"""``delia submit`` over the wire: the real command and Ray's real client, against a dashboard
whose connections break as planned. ``test_real_cluster`` is the same against Ray itself."""

import io
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.submit.server import TOKEN, Dashboard

SECRET = "planted-secret-value"


def command(dashboard: Dashboard, *arguments: str) -> list[str]:
    address = ["--address", dashboard.address]
    return [sys.executable, "-m", "delia_ray.cli", "submit", *arguments, *address]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return {**kept, "RAY_AUTH_TOKEN": TOKEN, "MY_SECRET": SECRET, **more}


def submit(
    dashboard: Dashboard, *arguments: str, cwd: Path, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(dashboard, *arguments), cwd=cwd, env=environment(**env),
        capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "task.jsonl").write_text("{}\n")
    (tmp_path / "other.jsonl").write_text(SECRET)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nstorage: s3://bucket/runs\n"
        "downstream: {path: task.jsonl, format: auto, rows: null}\n"
    )
    return tmp_path


def test_a_whole_job_through_lost_connections(work: Path) -> None:
    """Uploads, secrets, the log once, the exit code, and an answer that is lost."""
    log = "first line\nsecond line\nerror: mix.ratio=3 needs more\n"
    with Dashboard(log=log, outcome="FAILED", exit_code=2, breaks=[4, 30], lose_answers=1) as made:
        done = submit(made, "mine.yaml", "mix.ratio=3", "--secret", "MY_SECRET", cwd=work)
        (job,) = made.submitted
    assert done.returncode == 2, done.stderr
    assert done.stdout == log, "every character once"
    assert "failed" in done.stderr
    assert done.stderr.count("connection lost") >= 1
    assert job["entrypoint"] == "python -P -m delia_ray.cli run recipe.yaml"
    assert job["submission_id"].startswith("mine-")
    assert job["runtime_env"]["env_vars"] == {"MY_SECRET": SECRET}
    assert SECRET not in done.stdout + done.stderr
    (package,) = made.packages.values()
    with zipfile.ZipFile(io.BytesIO(package)) as found:
        assert sorted(found.namelist()) == ["recipe.yaml", "task.jsonl"]
        assert "ratio: 3" in found.read("recipe.yaml").decode()


def test_ctrl_c_without_a_terminal_stops_the_job(work: Path) -> None:
    with Dashboard(endless=True) as made:
        running = subprocess.Popen(
            command(made, "mine.yaml"), cwd=work, env=environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # Where the tests run in the background of a shell, Ctrl-C is ignored, by children too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            assert made.following.wait(240)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=120)
        finally:
            running.kill()
        assert made.stopped
    assert running.returncode == 130, said
    assert "stopped" in said
    assert "Traceback" not in said


def test_a_running_job_is_followed_and_stopped_by_its_id(work: Path) -> None:
    with Dashboard(endless=True) as made:
        started = submit(made, "mine.yaml", "--no-wait", cwd=work)
        job = started.stdout.strip()
        assert started.returncode == 0
        assert job == made.submitted[0]["submission_id"]
        stopped = submit(made, "--stop", job, cwd=work)
        assert (stopped.returncode, made.stopped) == (130, True)
        unknown = submit(made, "--follow", "nobody", cwd=work)
        assert unknown.returncode == 2
        assert "the cluster knows no job nobody" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["mine.yaml"], {"RAY_AUTH_TOKEN": "wrong"}, "does not take this token"),
        (["mine.yaml", "--secret", "NOT_SET"], {}, "--secret NOT_SET: there is no such variable"),
        (["mine.yaml", "storage=runs"], {}, "storage=runs would lie in the job's own"),
        (["--stop", "x", "mine.yaml"], {}, "take the job's id only"),
    ],
)  # fmt: skip
def test_mistakes_end_at_once(
    work: Path, arguments: list[str], env: dict[str, Any], message: str
) -> None:
    with Dashboard() as made:
        done = submit(made, *arguments, cwd=work, **env)
        assert made.submitted == []
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_answers(work: Path) -> None:
    with Dashboard() as made:
        gone = made.address
    arguments = [sys.executable, "-m", "delia_ray.cli", "submit", "mine.yaml", "--address", gone]
    done = subprocess.run(
        arguments, cwd=work, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "no Ray dashboard answers there" in done.stderr
