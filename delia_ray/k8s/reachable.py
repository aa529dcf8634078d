"""Whether what a recipe names can be reached from a pod, which has none of the user's files."""

from collections.abc import Iterator

from delia_ray.config import RunConfig, Source
from delia_ray.errors import UserError


def check_reachable(config: RunConfig) -> None:
    """Every path of the recipe must be a URL, built in, or on the mounted volume.

    Raises:
        UserError: one is a file of this machine; all of them are named.
    """
    own = config.cluster.kubernetes
    lost = [f"{key}={path}" for key, path in _paths(config) if not _in_pods(config, path)]
    if not lost:
        return
    where = f"below {own.mount}, where cluster.kubernetes.volume_claim is mounted"
    if own.volume_claim is None:
        where = f"on a volume (set cluster.kubernetes.volume_claim and use paths below {own.mount})"
    raise UserError(
        f"not reachable from a pod: {', '.join(lost)}; use URLs such as s3://bucket/..., or files "
        f"{where}"
    )


def _paths(config: RunConfig) -> Iterator[tuple[str, str]]:
    """(setting, path) of everything that is read or written as a file."""
    yield "storage", config.storage
    yield from _sources("downstream", config.downstream)
    for i, source in enumerate(config.downstream.also):
        yield from _sources(f"downstream.also[{i}]", source)
    for i, source in enumerate(config.corpus):
        yield from _sources(f"corpus[{i}]", source)
    for suite in config.evaluate.suites:
        yield from _sources(f"evaluate.suites.{suite.name}", suite)
    for name, files in config.evaluate.systems.items():
        for suite_name, path in files.items():
            yield f"evaluate.systems.{name}.{suite_name}", path
    for key, model in (("model", config.model), ("synthesize.model", config.synthesize.model)):
        if model and model.startswith((".", "/", "~")):
            yield key, model
    if config.finetune.adapter:
        yield "finetune.adapter", config.finetune.adapter
    for i, adapter in enumerate(getattr(config.synthesize.engine, "adapters", [])):
        yield f"synthesize.engine.adapters[{i}]", adapter


def _sources(key: str, source: Source) -> Iterator[tuple[str, str]]:
    if source.format != "miniature":
        yield key, source.path


def _in_pods(config: RunConfig, path: str) -> bool:
    if "://" in path:
        return not path.startswith(("file://", "local://"))
    own = config.cluster.kubernetes
    return own.volume_claim is not None and path.startswith(f"{own.mount}/")
