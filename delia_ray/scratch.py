"""Files that appear whole or not at all, on a local file system.

What is written goes beside its target first, under a name of its own, and takes the target's
place in one step. A writer that fails or is interrupted removes its scratch; one that is killed
leaves it, and `clear` removes it before the folder is published.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from delia_ray.names import is_scratch


@contextlib.contextmanager
def scratch(target: str | Path) -> Iterator[Path]:
    """A path to write a file or folder to; it becomes ``target`` when the block ends well, and
    is removed when it does not. Makes the folder around it."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    path = Path(f"{target}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        yield path
        os.replace(path, target)
    finally:
        remove(path)


def clear(folder: str) -> None:
    """Remove, at any depth, what writers that were killed left in ``folder``. For those who
    know that nobody writes there."""
    for where, folders, files in os.walk(folder):
        for name in (n for n in [*folders, *files] if is_scratch(n)):
            remove(Path(where) / name)
        folders[:] = [n for n in folders if not is_scratch(n)]


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
