"""Population based training (Jaderberg et al. 2017, arXiv 1711.09846): a trial goes on from a copy
of a better one, with another learning rate.

Such a trial is a trial of its own, whose config has the rate's history as ``finetune.phases``. A
training with these phases from the start makes the same steps, so what is found is a recipe like
any other.
"""

from delia_ray import pipeline
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig, Sweep, changed, checked
from delia_ray.config.sweep import Dimension
from delia_ray.finetune.schedule import peak_rate
from delia_ray.sweep import records
from delia_ray.sweep.configs import key_of

LR, PHASES = "finetune.lr", "finetune.phases"
_NUDGE = 1.1
"""Times the donor's rate, where the search came up with the very same."""


def mutations(dimension: Dimension) -> object:
    """What Tune draws another rate from, now and then; mostly it takes 0.8 or 1.2 times."""
    from ray import tune

    low, high = min(dimension.ends), max(dimension.ends)
    if dimension.kind == "choice":
        return list(dimension.ends)
    return tune.loguniform(low, high) if dimension.kind == "log" else tune.uniform(low, high)


def branched(config: RunConfig, step: int, lr: float, dimension: Dimension) -> RunConfig:
    """``config`` with the rate ``lr`` from ``step`` on, kept within the dimension."""
    low, high = min(dimension.ends), max(dimension.ends)
    before = peak_rate(max(0, step - 1), config.finetune)
    rate = float(f"{min(high, max(low, lr)):.4g}")
    if rate == before:
        rate = float(f"{before * _NUDGE if before * _NUDGE <= high else before / _NUDGE:.4g}")
    phases = [p.model_dump() for p in config.finetune.phases if p.from_step < step]
    phases.append({"from_step": step, "lr": rate})
    return checked(RunConfig, changed(config.model_dump(mode="json"), {PHASES: phases}))


def branch(trials: Folder, sweep: Sweep, donor: str, step: int, lr: float) -> str:
    """Note a trial that goes on from ``donor`` as of ``step`` with rate ``lr``; returns its key.

    It gets the donor's checkpoint and what the donor was told at rungs up to there.
    """
    own = records.read_one(trials / donor, donor)
    config = RunConfig.model_validate(own.config)
    new = branched(config, step, lr, sweep.dimensions[LR])
    key = key_of(new, sweep)
    phases = [p.model_dump() for p in new.finetune.phases]
    number = 1 + len(trials.names())
    for point in own.points:
        if point.step <= step:
            rung = f"rung-{point.step}.json"
            (trials / key).write_bytes(rung, (trials / donor).read_bytes(rung))
    _copy_checkpoint(config, new, step)
    records.plan(
        trials, key, number, own.purpose, {**own.parameters, PHASES: phases}, new, parent=donor
    )
    return key


def _copy_checkpoint(config: RunConfig, new: RunConfig, step: int) -> None:
    from delia_ray.finetune.checkpoints import folder_name

    plans = [pipeline.run(c, until="mix", record=False, here=True) for c in (config, new)]
    source, target = (p.folder("finetune") / "checkpoints" for p in plans)
    name = folder_name(next(iter(config.arms)), step)
    if source.url == target.url or target.exists(name):
        return
    names = (source / name).names()
    # The file that says that it is whole comes last.
    for file in sorted(names, key=lambda n: n == "whole.json"):
        (target / name).write_bytes(file, (source / name).read_bytes(file))
