"""Where a training's checkpoints go and come from."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol


class Checkpoints(Protocol):
    """Every rank calls both, together."""

    def last(self) -> contextlib.AbstractContextManager[Path | None]:
        """The folder of the newest whole checkpoint while the context lasts; None before the
        first."""
        ...

    def save(self, folder: Path, name: str, step: int, score: float) -> None:
        """Publish ``folder``, this rank's share, as part of checkpoint ``name``, and remove
        it. The lower the ``score``, the longer a checkpoint is kept."""
        ...


class RayCheckpoints:
    """Those of the Ray Train run that surrounds this worker.

    Args:
        wait: publish before any more work is done. Else (remote storage) it is done while
            the next steps run, and a crash meanwhile costs the steps since the one before.
    """

    def __init__(self, wait: bool) -> None:
        from ray import train as ray_train

        self.ray: Any = ray_train
        mode = ray_train.CheckpointUploadMode
        self.mode = mode.SYNC if wait else mode.ASYNC

    @contextlib.contextmanager
    def last(self) -> Iterator[Path | None]:
        found = self.ray.get_checkpoint()
        if found is None:
            yield None
            return
        with found.as_directory() as folder:
            yield Path(folder)

    def save(self, folder: Path, name: str, step: int, score: float) -> None:
        self.ray.report(
            {"step": step, "score": score},
            checkpoint=self.ray.Checkpoint.from_directory(folder),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=self.mode,
            delete_local_checkpoint_after_upload=True,
        )
