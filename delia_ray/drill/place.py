"""A local cluster of several raylets, and a storage that can be denied or full for a while."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from delia_ray.errors import DeliaError
from delia_ray.runtime import WORKER_ENV, local

ENV = {
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
}
DISK_MIB = 512


class Place:
    """Where drills happen. Everything is below one temporary folder."""

    def __init__(self, settings: list[str], cpus: int) -> None:
        """Start a head that does no work and one raylet of ``cpus`` CPUs.

        Args:
            settings: recipes and overrides, as for ``delia run``.
        """
        self.settings = settings
        self.root = Path(tempfile.mkdtemp(prefix="drill-"))
        # The runs' processes inherit its token: they join it, and nobody else does.
        self.own = local.prepare(WORKER_ENV)
        self.temp = str(self.own.folder / "r")
        # Ray writes the cluster's address below it, and would overwrite that of another.
        os.environ.update(ENV, RAY_TMPDIR=self.temp)
        Path(self.temp, "ray").mkdir()
        self.cpus = cpus
        self.cluster: Any = None
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0, "include_dashboard": False, "temp_dir": self.temp,
                "node_ip_address": local.LOOPBACK,
            },
        )  # fmt: skip
        self.node = self._add()
        self.cluster.wait_for_nodes()

    def close(self) -> None:
        """End the cluster; the runs' folders go too."""
        if self.cluster is not None:
            self.cluster.shutdown()
        local.end(self.own)
        shutil.rmtree(self.root, ignore_errors=True)

    def replace_node(self) -> None:
        """The raylet dies with everything on it, and another one comes."""
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.node = self._add()

    def _add(self) -> Any:
        return self.cluster.add_node(num_cpus=self.cpus, node_ip_address=local.LOOPBACK)

    def storage(self, name: str, disk: bool) -> Path:
        """A new, empty storage; on a small disk of its own where ``disk`` asks for one.

        It is a link, so that it can be taken away and given back in one step.
        """
        storage, real = self.root / name, real_folder(self.root / name)
        real.mkdir()
        storage.symlink_to(real)
        if disk and not mount(real):
            raise DeliaError(f"{storage}: no disk of its own could be mounted")
        return storage

    def forget(self, storage: Path) -> None:
        """Remove a storage."""
        if os.path.ismount(real := real_folder(storage)):
            subprocess.run(["umount", "-l", str(real)], check=True)
        storage.unlink()
        shutil.rmtree(real, ignore_errors=True)

    def start(self, storage: Path) -> "subprocess.Popen[bytes]":
        """The run's own process, as users start it; its output goes beside the storage."""
        command = [
            sys.executable, "-P", "-m", "delia_ray.cli", "run", *self.settings, "name=drill",
            f"storage={storage}", f"cluster.address={self.cluster.address}",
        ]  # fmt: skip
        with open(f"{storage}.txt", "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def said(self, storage: Path) -> str:
        """The end of what the run's processes printed."""
        return Path(f"{storage}.txt").read_text(errors="replace")[-2000:]


def mount(folder: Path) -> bool:
    """Give ``folder`` a small disk of its own; False where this process may not."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def can_mount() -> bool:
    """Whether disks can be filled here."""
    with tempfile.TemporaryDirectory() as folder:
        if not mount(Path(folder)):
            return False
        return subprocess.run(["umount", folder], capture_output=True).returncode == 0


def real_folder(storage: Path) -> Path:
    """What the link ``storage`` leads to."""
    return storage.with_name(f"{storage.name}.real")


def deny(storage: Path, seconds: float) -> None:
    """The storage cannot be reached for a while: its link leads nowhere."""
    _lead(storage, Path("/dev/null/denied"))
    try:
        time.sleep(seconds)
    finally:
        _lead(storage, real_folder(storage))


def _lead(storage: Path, target: Path) -> None:
    made = storage.with_name(f"{storage.name}.link")
    made.symlink_to(target)
    os.replace(made, storage)


def fill(storage: Path, seconds: float) -> None:
    """The storage's disk is full for a while; it must be a disk of its own."""
    ballast = storage / ".ballast"
    try:
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as stream:
            while True:  # until it is full
                stream.write(bytes(2**20))
        time.sleep(seconds)
    finally:
        ballast.unlink(missing_ok=True)
