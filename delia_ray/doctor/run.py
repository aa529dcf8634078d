"""``delia doctor``: look, compare, say."""

from collections.abc import Callable

from delia_ray.config import RunConfig
from delia_ray.doctor.diagnose import GIB, Finding, diagnose
from delia_ray.doctor.facts import Facts
from delia_ray.errors import UserError


def examine(config: RunConfig, say: Callable[[str], None]) -> int:
    """Look at the recipe and its model, then at the cluster that it would run on, and say what
    is wrong with them.

    Returns:
        The exit code: 0 where the recipe can run, 2 where it would fail.

    Raises:
        UserError: the cluster cannot be reached.
    """
    from delia_ray import runtime
    from delia_ray.doctor.collect import collect
    from delia_ray.preflight import examine as examine_recipe

    recipe = [
        Finding("recipe", f"{p.setting}: {p.what}" if p.setting else p.what, p.advice, p.fatal)
        for p in examine_recipe(config)
    ]
    try:
        runtime.join(config)
        facts = collect(config)
    except UserError:
        for line in findings(recipe):
            say(line)
        raise
    finally:
        runtime.disconnect()
    found = recipe + diagnose(config, facts)
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
    if (step := facts.step) is not None:
        told.append(
            f"a training step needs about {step.bytes / GIB:.1f} GiB of each worker with "
            f"finetune.micro_batch_size={step.packs}, and {step.more / GIB:.1f} more for each "
            f"further pack of up to {step.tokens:,} tokens"
        )
    told += findings(found)
    fatal = sum(f.fatal for f in found)
    told.append(
        f"{fatal} problem{'s' if fatal > 1 else ''}; the recipe would fail here"
        if fatal
        else "the recipe can run here"
    )
    return told


def findings(found: list[Finding]) -> list[str]:
    """What is wrong and, in the next line, what to change."""
    told: list[str] = []
    for f in found:
        told.append(f"{'problem' if f.fatal else 'note'}: {f.problem}")
        told += [f"         {f.advice}"] if f.advice else []
    return told
