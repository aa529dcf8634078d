"""The file in which rank 0 says how far it is; a module of its own, free of torch."""

PROGRESS = "progress.json"
