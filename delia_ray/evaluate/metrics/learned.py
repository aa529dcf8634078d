"""What BLEURT and COMET share: a package and a checkpoint that must be there."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from delia_ray.config import Metric
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics.contract import BatchMetric


class LearnedMetric(BatchMetric):
    """A model that scores pairs of texts, loaded from ``Metric.checkpoint``.

    Values are the model's own: about 0 to 1, sometimes a little outside. An empty output
    (a failed generation) gets the model's score of an empty text.
    """

    failed: ClassVar[float | None] = None
    package: ClassVar[str]
    install: ClassVar[str]
    """How to get the package."""
    is_folder: ClassVar[bool]
    """Whether the checkpoint is a folder, else a file."""

    def __init__(self, settings: Metric) -> None:
        super().__init__(settings)
        assert settings.checkpoint is not None  # the config sees to it
        self.checkpoint = settings.checkpoint

    def check(self, references: Sequence[str], sources: Sequence[str] | None = None) -> None:
        """Raise ``UserError`` where the package or the checkpoint is not there."""
        name = self.settings.name
        if find_spec(self.package) is None:
            raise UserError(
                f"{name}: the package {self.package} is not installed; {self.install}, or take "
                f"{name} out of the suite's metrics"
            )
        path = Path(self.checkpoint)
        if not (path.is_dir() if self.is_folder else path.is_file()):
            kind = "folder" if self.is_folder else "file"
            raise UserError(f"{name}: checkpoint={self.checkpoint} is not a {kind} on this machine")
