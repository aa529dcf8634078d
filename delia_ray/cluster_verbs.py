"""The verbs of ``delia`` for clusters; ``cli`` adds them to its own."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from delia_ray.config import RunConfig
from delia_ray.console import INSIDE_A_JOB
from delia_ray.errors import UserError

Verb = Callable[[str, str, Any], argparse.ArgumentParser]
Load = Callable[[Sequence[str]], RunConfig]


def add_verbs(
    verb: Verb, recipe: Callable[[argparse.ArgumentParser], None], load: Load,
    stages: Sequence[str],
) -> None:  # fmt: skip
    """Add the verbs.

    Args:
        verb: makes a parser from a name, its help and what it does.
        recipe: gives a parser the argument ``settings``.
        load: makes a configuration of ``settings``.
        stages: verbs that a job may run.
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

    made = verb(
        "submit", "run the recipe as a job of a Ray cluster, and follow it to its end",
        lambda parsed: _submit(parsed, load),
    )  # fmt: skip
    recipe(made)
    _address(made)
    made.add_argument(
        "--secret", action="append", default=[], metavar="NAME",
        help="environment variable whose value the job gets too, such as HF_TOKEN; repeatable",
    )  # fmt: skip
    made.add_argument("--stage", choices=stages, default="run", help="up to where; all by default")
    made.add_argument(
        "--python", default="python", metavar="PATH", help="Python of the cluster's nodes"
    )
    made.add_argument("--no-wait", action="store_true", help="hand it in and return")
    made.add_argument("--follow", metavar="JOB", help="follow a job that runs already")
    made.add_argument("--stop", metavar="JOB", help="stop a job")

    made = verb(
        "doctor", "whether a cluster can run the recipe, and what to change",
        lambda parsed: _doctor(parsed, load),
    )  # fmt: skip
    recipe(made)
    _address(made)
    made.add_argument(
        "--python", default="python", metavar="PATH", help="Python of the cluster's nodes"
    )
    made.add_argument(
        "--secret", action="append", default=[], metavar="NAME", help="as for delia submit"
    )

    made = verb(
        "drill", "run the recipe while things are killed around it, and compare", _drill
    )  # fmt: skip
    recipe(made)
    made.add_argument("--drills", type=int, default=30, metavar="N", help="how many; 30")
    made.add_argument("--seed", type=int, default=0, help="of what is struck when; 0")
    made.add_argument("--kinds", default="", metavar="A,B", help="what to strike; all by default")
    made.add_argument("--cpus", type=int, default=2, help="of the raylet that does the work; 2")
    made.add_argument("--out", metavar="FOLDER", help="where drill.md and drill.json go")


def _address(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--address", metavar="URL", default=os.environ.get("RAY_API_SERVER_ADDRESS"),
        help="the cluster's dashboard, such as http://head:8265; else RAY_API_SERVER_ADDRESS",
    )  # fmt: skip


def _submit(parsed: argparse.Namespace, load: Load) -> int:
    from delia_ray.submit.secrets import use_token, values_of

    if not parsed.address:
        raise UserError("give --address, such as http://head:8265, or set RAY_API_SERVER_ADDRESS")
    if parsed.follow and parsed.stop:
        raise UserError("--follow and --stop: one of the two")
    running = parsed.follow or parsed.stop
    if running and parsed.settings:
        raise UserError(f"{parsed.settings[0]}: --follow and --stop take the job's id only")
    config = None if running else load(parsed.settings)
    secrets = values_of(parsed.secret)
    use_token()  # before Ray is imported, which reads it then
    from delia_ray.submit.client import Cluster
    from delia_ray.submit.run import hand_in, stop, watch

    cluster = Cluster(parsed.address)
    if parsed.stop:
        return stop(cluster, parsed.stop)
    if config is None:
        return watch(cluster, parsed.follow, parsed.address)
    job = hand_in(cluster, config, secrets, parsed.python, parsed.stage)
    if parsed.no_wait:
        print(job)
        return 0
    return watch(cluster, job, parsed.address)


def _doctor(parsed: argparse.Namespace, load: Load) -> int:
    """Look from inside the cluster: as a job where ``--address`` is given, else from here."""
    config = load(parsed.settings)
    if not parsed.address or INSIDE_A_JOB in os.environ:
        from delia_ray.doctor.run import examine

        return examine(config, lambda line: print(line, flush=True))
    from delia_ray.submit.secrets import use_token, values_of

    secrets = values_of(parsed.secret)
    use_token()
    from delia_ray.submit.client import Cluster
    from delia_ray.submit.run import hand_in, watch

    cluster = Cluster(parsed.address)
    job = hand_in(cluster, config, secrets, parsed.python, "doctor")
    return watch(cluster, job, parsed.address)


def _drill(parsed: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from delia_ray.drill.run import drill

    figures = drill(
        parsed.settings, parsed.drills, parsed.seed, [k for k in parsed.kinds.split(",") if k],
        parsed.cpus, Path(parsed.out) if parsed.out else None,
        lambda text: print(text, flush=True),
    )  # fmt: skip
    print(json.dumps(figures))
    return int(figures["broken"] > 0)
