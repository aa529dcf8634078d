"""The verbs of ``delia`` for clusters; ``cli`` adds them to its own."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from delia_ray.config import RunConfig

Verb = Callable[[str, str, Any], argparse.ArgumentParser]
Load = Callable[[Sequence[str]], RunConfig]


def add_verbs(verb: Verb, recipe: Callable[[argparse.ArgumentParser], None], load: Load) -> None:
    """Add the verbs.

    Args:
        verb: makes a parser from a name, its help and what it does.
        recipe: gives a parser the argument ``settings``.
        load: makes a configuration of ``settings``.
    """

    def k8s(parsed: argparse.Namespace) -> None:
        from delia_ray.k8s.render import render, to_yaml

        sys.stdout.write(to_yaml(render(load(parsed.settings), parsed.kind)))

    made = verb("k8s", "manifests for KubeRay, from the recipe", k8s)
    made.add_argument("what", choices=["render"], help="render: print them")
    recipe(made)
    made.add_argument(
        "--kind", choices=["rayjob", "raycluster"], default="rayjob",
        help="a RayJob that runs the recipe (the default), or a RayCluster to submit jobs to",
    )  # fmt: skip
