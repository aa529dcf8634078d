"""Hashes of every file that ``make setup-hashed`` installs, for the versions in constraints.txt.

    python requirements/lock.py            writes hashes.txt, by asking pip what it would install
    python requirements/lock.py --check    says where the two files differ; asks nobody

The hashes are those of the files that pip takes on this platform (Python 3.11, Linux x86-64), so
the same file must be made again on another one.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PINS, HASHES = HERE / "constraints.txt", HERE / "hashes.txt"
ELSEWHERE = {"torch"}
"""Its builds for a CPU and for each CUDA are different files of other indexes: no hash here holds
for all, so the Makefile installs it by its version first."""
HEADER = f"# Made by requirements/lock.py from {PINS.name}; do not edit.\n"


def normal(name: str) -> str:
    """A package's name as the packaging standard compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Package -> version."""
    lines = PINS.read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    found = {normal(name): version.strip() for name, version in pairs}
    return {name: version for name, version in found.items() if name not in ELSEWHERE}


def locked() -> dict[str, str]:
    """Package -> version of those in hashes.txt that have a hash."""
    text = HASHES.read_text() if HASHES.exists() else ""
    found = re.findall(r"^(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    return {normal(name): version for name, version in found}


def differences() -> list[str]:
    """What is pinned otherwise than locked, one line each."""
    wanted, there = pins(), locked()
    return [
        f"{name}: constraints.txt has {wanted.get(name, 'nothing')}, "
        f"hashes.txt has {there.get(name, 'nothing')}"
        for name in sorted(wanted | there)
        if wanted.get(name) != there.get(name)
    ]


def write() -> None:
    """Ask pip for the files of all pins, and write their hashes."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check",
               "--dry-run", "--ignore-installed", "--no-deps", "--report", "-",
               *(f"{name}=={version}" for name, version in pins().items())]  # fmt: skip
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    lines = sorted(
        f"{normal(item['metadata']['name'])}=={item['metadata']['version']} "
        f"--hash=sha256:{item['download_info']['archive_info']['hashes']['sha256']}"
        for item in report["install"]
    )
    HASHES.write_text(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        write()
    if found := differences():
        print(*found, "run `make lock`", sep="\n", file=sys.stderr)
        sys.exit(1)
