"""Whether what a recipe names can be reached from a pod, which has none of the user's files."""

from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.recipe_files import named_paths


def check_reachable(config: RunConfig) -> None:
    """Every path of the recipe must be a URL, built in, or on the mounted volume.

    Raises:
        UserError: one is a file of this machine; all of them are named.
    """
    own = config.cluster.kubernetes
    paths = [("storage", config.storage), *named_paths(config)]
    lost = [f"{key}={path}" for key, path in paths if not _in_pods(config, path)]
    if not lost:
        return
    where = f"below {own.mount}, where cluster.kubernetes.volume_claim is mounted"
    if own.volume_claim is None:
        where = f"on a volume (set cluster.kubernetes.volume_claim and use paths below {own.mount})"
    raise UserError(
        f"not reachable from a pod: {', '.join(lost)}; use URLs such as s3://bucket/..., or files "
        f"{where}"
    )


def _in_pods(config: RunConfig, path: str) -> bool:
    if "://" in path:
        return not path.startswith(("file://", "local://"))
    own = config.cluster.kubernetes
    return own.volume_claim is not None and path.startswith(f"{own.mount}/")
