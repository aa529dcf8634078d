"""Settings that are read as files: a type, so that no list of them can be incomplete."""

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class FileSetting:
    """Marks a setting as the path or URL of something to read."""

    names: bool = False
    """It may also be a name (of the miniature, or on the hub): a path begins with ``.``, ``/``
    or ``~``, or has a scheme."""
    workers: bool = False
    """Workers open it, which run in folders of their own: a relative path is resolved before."""

    def is_file(self, value: str) -> bool:
        """Whether ``value`` is a path or URL."""
        return not self.names or value.startswith((".", "/", "~")) or "://" in value


RecipePath = Annotated[str, FileSetting()]
"""A file, folder, glob or URL that the driver reads, and that rows name as their source."""
WorkerPath = Annotated[str, FileSetting(workers=True)]
"""A file or folder, or its URL, that workers open."""
ModelPath = Annotated[str, FileSetting(names=True, workers=True)]
"""A model: a folder, a URL, or a name."""
