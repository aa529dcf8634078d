"""What an export looks like from outside: what may be replaced, and the model in a folder."""

from delia_ray.artifacts import MANIFEST, Folder
from delia_ray.errors import UserError

UNFINISHED = "unfinished.json"
"""Stands in a folder while an export is written to it, and after one that was killed."""
CARD = "README.md"
OWN = (MANIFEST, CARD, "Modelfile", "adapter", "merged")
"""What an export consists of; ``MANIFEST`` is its done marker."""


def check_target(target: Folder) -> None:
    """
    Raises:
        UserError: it holds something that an export may not replace.
    """
    names = target.names()
    if not names or UNFINISHED in names:
        return
    if MANIFEST in names and (target.manifest() or {}).get("stage") == "export":
        return
    more = ", ..." if len(names) > 3 else ""
    raise UserError(
        f"--to {target}: it holds {', '.join(names[:3])}{more} and is no earlier export; give a "
        "new or an empty folder"
    )


def model_in(folder: Folder) -> str | None:
    """What ``models.locate`` takes for the plain model that ``folder`` is or exports; None
    where it is something else, such as a run.

    Raises:
        UserError: an export without a merged model, or one that was not finished.
    """
    if folder.exists(UNFINISHED):
        raise UserError(f"{folder}: the export was not finished; run `delia export` again")
    if folder.exists("merged/config.json"):
        return str(folder / "merged")
    if folder.exists("adapter/adapter_config.json") or folder.exists("adapter_config.json"):
        raise UserError(
            f"{folder} holds an adapter and no plain model; run `delia export` with --merge, "
            "or give the run's folder"
        )
    # A run has a config.json too.
    config = folder.read_json("config.json") if folder.exists("config.json") else None
    is_model = isinstance(config, dict) and "model_type" in config
    return str(folder) if is_model else None
