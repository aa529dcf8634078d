"""Ctrl-C and SIGTERM while a model trains: the last step is kept, nothing is left running.

``benchmarks/signals.py`` does this in every stage, over and over.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent
LIMIT = 300
MARK = "DELIA_TEST_MARK"

pytestmark = pytest.mark.ray

RECIPE = """
storage: runs
name: x
model: BASE
downstream: {path: task.jsonl, format: auto, rows: null, special_tokens: {}}
corpus: [{path: task.jsonl}]
synthesize: {engine: {type: transformers}, held_out: 0, reword: {per_row: 0}}
mix: {ratio: 0, max_length: 128}
arms: [common]
finetune:
  {workers: 1, method: full, zero: 1, steps: 100000, batch_size: 8, micro_batch_size: 8,
   checkpoint_every: 90000, lr: 1e-3, watch: {every: 0}, trackers: []}
evaluate: {engine: {type: transformers}, max_tokens: 64, suites: [{name: held, path: task.jsonl}]}
cluster: {num_cpus: 2}
"""


class Command:
    """``delia run`` in a process group of its own."""

    def __init__(self, cwd: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "delia_ray.cli", "run", "r.yaml"], cwd=cwd, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "", MARK: self.mark},
        )  # fmt: skip

    def wait_until(self, seen: Callable[[], bool]) -> None:
        until = time.monotonic() + LIMIT
        while not seen():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)

    def stop(self, number: int, group: bool) -> tuple[int, str, list[str]]:
        """(exit code, standard error, what is left of it) after a signal."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said, list(self.left())

    def left(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                words = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                if f"{MARK}={self.mark}".encode() in words:
                    found.append(" ".join(process.cmdline()))
            except (OSError, psutil.Error):
                continue
        return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_training_stops_at_its_last_step_and_resumes(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    make_model(tmp_path / "base")
    rows = [{"prompt": f"Say {i}.", "completion": f"{i}"} for i in range(8)]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "r.yaml").write_text(RECIPE.replace("BASE", str(tmp_path / "base")))
    run = tmp_path / "runs" / "x"

    def steps() -> list[int]:
        return sorted(int(f.parent.name) for f in run.glob("finetune/*/checkpoints/*/*/whole.json"))

    first = Command(tmp_path)
    first.wait_until(lambda: any(run.glob("finetune/*/progress.json")))
    code, said, left = first.stop(signal.SIGINT, group=True)
    assert (code, left) == (130, [])
    assert said == "Interrupted. Run the same command again to resume.\n"
    (reached,) = steps()
    assert reached > 0, "saved because it was asked for: checkpoints are 90,000 steps apart"
    assert not list(run.glob("finetune/*/manifest.json"))

    second = Command(tmp_path)
    goes_on = f"goes on after step {reached} "
    second.wait_until(
        lambda: any(run.glob("finetune/*/progress.json")) and _says(tmp_path, goes_on)
    )
    code, said, left = second.stop(signal.SIGTERM, group=False)
    assert (code, left) == (143, [])
    assert said == "Terminated. Run the same command again to resume.\n"
    assert max(steps()) > reached


def _says(folder: Path, text: str) -> bool:
    return any(text in f.read_text(errors="replace") for f in folder.rglob("log.txt"))
