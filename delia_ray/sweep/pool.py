"""The one synthesis that all trials read, and the counters that prove it.

Answers are an ordered sequence, and a ratio is a prefix of it, so the pool for the largest ratio
holds that of every trial. Only a dimension that changes what is asked (the model, the downstream
rows, sampling) needs a pool for each of its values; even those share the answers that they have
in common, which are kept by content.
"""

import itertools
from collections.abc import Callable
from typing import Any

from delia_ray import pipeline
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.mix.reuse import FACTS
from delia_ray.mix.stage import RANKINGS
from delia_ray.names import is_fingerprint
from delia_ray.records import digest
from delia_ray.stored import reading
from delia_ray.sweep.configs import Configs
from delia_ray.sweep.space import Parameters

STRATEGY = "mix.strategy"


def upstream(configs: Configs) -> list[str]:
    """Dimensions that change what is read or asked.

    Raises:
        UserError: one of them is a range, so nobody can say how many pools it takes.
    """
    found = []
    known = _made_of(configs.trial({}))
    for name, dimension in configs.sweep.dimensions.items():
        if all(_made_of(configs.trial({name: value})) == known for value in dimension.ends):
            continue
        if dimension.kind != "choice":
            raise UserError(
                f"dimensions.{name} changes what is synthesised, so each of its values takes a "
                "synthesis of its own; give it as {choice: [...]}"
            )
        found.append(name)
    return found


def _made_of(config: RunConfig) -> str:
    stages = [s for s in pipeline.STAGES if s.name in ("ingest", "synthesize")]
    return digest([stage.settings(config) for stage in stages])


def pools(configs: Configs) -> list[Parameters]:
    """Parameters that each pool belongs to; one, empty, where no dimension is upstream."""
    own = {name: configs.sweep.dimensions[name].ends for name in upstream(configs)}
    return [dict(zip(own, values, strict=True)) for values in itertools.product(*own.values())]


def prepare(configs: Configs, watch: Callable[[str], pipeline.Watcher]) -> list[RunConfig]:
    """Read, synthesise and tokenise what the trials will share; done parts are skipped.

    Raises:
        UserError, DeliaError: as the pipeline.
    """
    planned = pools(configs)
    ranked = _ranked(configs)
    made = []
    for number, parameters in enumerate(planned, start=1):
        title = f"pool {number} of {len(planned)}, for ratios up to {configs.ratio:g}"
        config = configs.trial({**parameters, **ranked})
        # Its order needs no more rows than the recipe's own ratio.
        pipeline.run(config, watch(title), until="mix")
        if configs.sweep.confirm.seeds:  # its suites have more rows, which are read here too
            pipeline.run(configs.anew(parameters, 0), until="synthesize", record=False)
        made.append(config)
    return made


def _ranked(configs: Configs) -> Parameters:
    """The strategy under which the pool is scored by the base model, if any trial asks for it."""
    dimension = configs.sweep.dimensions.get(STRATEGY)
    wanted = [v for v in (dimension.ends if dimension else ()) if v in RANKINGS]
    return {STRATEGY: wanted[0]} if wanted else {}


def counters(run: Folder) -> dict[str, Any]:
    """What was synthesised, tokenised and scored in a sweep's folder, and how often it was
    taken over instead."""
    syntheses = _manifests(run / "synthesize")
    mixes = [(folder, m) for folder, m in _manifests(run / "mix") if FACTS in m["files"]]
    with reading(f"{run}"):
        return _counted(syntheses, mixes)


def _counted(
    syntheses: list[tuple[Folder, dict[str, Any]]], mixes: list[tuple[Folder, dict[str, Any]]]
) -> dict[str, Any]:
    taken = [folder.read_json(FACTS)["taken_from"] is not None for folder, _ in mixes]
    return {
        "syntheses": len(syntheses),
        "answers_generated": sum(m["counts"]["generated"] for _, m in syntheses),
        "answers_from_cache": sum(m["counts"]["from_cache"] for _, m in syntheses),
        "mixes": len(mixes),
        "tokenised": taken.count(False),
        "tokens_taken_over": taken.count(True),
        "seconds_of_synthesis": sum(m["seconds"] for _, m in syntheses),
    }


def seconds_per_answer(run: Folder) -> float | None:
    """Of generating, over all syntheses; None where none generated anything."""
    found = [m["counts"] for _, m in _manifests(run / "synthesize")]
    with reading(f"{run / 'synthesize'}"):
        answers = sum(c["generated"] for c in found)
        return sum(c["seconds_generating"] for c in found) / answers if answers else None


def _manifests(stage: Folder) -> list[tuple[Folder, dict[str, Any]]]:
    names = [name for name in stage.names() if is_fingerprint(name)]
    found = [((stage / name).finished(), (stage / name).manifest()) for name in names]
    return [(folder, manifest) for folder, manifest in found if manifest is not None]
