"""Secrets by name: their values go from this environment into the job's, and nowhere else."""

import os
from collections.abc import Mapping, Sequence

from delia_ray.errors import UserError

TOKEN_FILE = "~/.ray/auth_token"


def values_of(names: Sequence[str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables ``names`` of ``environment``.

    Raises:
        UserError: one is not set, or a value was given in place of a name.
    """
    for name in names:
        if not name.isidentifier():
            raise UserError(
                "--secret takes the name of an environment variable, as in --secret HF_TOKEN; a "
                "value on the command line would end up in the shell's history"
            )
    if missing := [name for name in names if not environment.get(name)]:
        raise UserError(
            f"--secret {missing[0]}: there is no such variable in this environment; export it "
            "first, or have the cluster's nodes set it"
        )
    return {name: environment[name] for name in names}


def use_token(environment: Mapping[str, str] = os.environ) -> None:
    """Authenticate by Ray's token unless RAY_AUTH_MODE says otherwise; before Ray is imported.

    Raises:
        UserError: there is no token.
    """
    if environment is os.environ:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if environment.get("RAY_AUTH_MODE", "token") != "token":
        return
    file = environment.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser(TOKEN_FILE)
    if environment.get("RAY_AUTH_TOKEN") or os.path.exists(file):
        return
    raise UserError(
        f"there is no token for the cluster: neither RAY_AUTH_TOKEN nor {file} holds one. Copy "
        "the cluster's (`ray get-auth-token --generate` on its head shows or makes it), or set "
        "RAY_AUTH_MODE=disabled for a cluster that takes none"
    )
