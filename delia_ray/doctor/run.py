"""``delia doctor``: look, compare, say."""

from collections.abc import Callable

from delia_ray.config import RunConfig
from delia_ray.doctor.diagnose import GIB, Finding, diagnose
from delia_ray.doctor.facts import Facts


def examine(config: RunConfig, say: Callable[[str], None]) -> int:
    """Look at the cluster that ``config`` would run on and say what is wrong with it.

    Returns:
        The exit code: 0 where the recipe can run, 2 where it would fail.

    Raises:
        UserError: the cluster cannot be reached.
    """
    from delia_ray import runtime
    from delia_ray.doctor.collect import collect

    try:
        runtime.join(config)
        facts = collect(config)
    finally:
        runtime.disconnect()
    found = diagnose(config, facts)
    for line in lines(config, facts, found):
        say(line)
    return 2 if any(f.fatal for f in found) else 0


def lines(config: RunConfig, facts: Facts, found: list[Finding]) -> list[str]:
    """The nodes, then the findings; the last line is the verdict."""
    nodes = facts.nodes
    told = [
        f"{len(nodes)} nodes, {sum(n.cpus for n in nodes):g} CPUs, "
        f"{sum(n.gpus for n in nodes):g} GPUs; storage {config.storage}"
    ]
    for n in nodes:
        labels = "".join(
            f"  {k}={v}" for k, v in sorted(n.labels.items()) if not k.startswith("ray.io/")
        )
        state = n.silent and f"silent: {n.silent}"
        told.append(
            f"  {n.name:<22}{n.cpus:>4g} CPUs {n.gpus:>2g} GPUs "
            + (state or f"{n.memory / GIB:>5.0f} GiB memory {n.disk / GIB:>5.0f} GiB disk")
            + labels
        )
    for f in found:
        told += [f"{'problem' if f.fatal else 'note'}: {f.problem}", f"         {f.advice}"]
    fatal = sum(f.fatal for f in found)
    told.append(
        f"{fatal} problem{'s' if fatal > 1 else ''}; the recipe would fail here"
        if fatal
        else "the recipe can run here"
    )
    return told
