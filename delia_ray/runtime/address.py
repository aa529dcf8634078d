"""Which cluster is meant, and whether it is there: asked before Ray, which waits for minutes."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from delia_ray.config import RunConfig
from delia_ray.errors import UserError

PATIENCE = 10.0
"""Seconds that a cluster has to answer."""
FORM = "host:port of its GCS, such as 10.0.0.5:6379"
TOKEN_FILE = "~/.ray/auth_token"
_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"


@dataclass(frozen=True)
class Address:
    """A cluster to join."""

    value: str
    """``host:port``, or ``auto``."""
    setting: str
    """What named it: ``cluster.address`` or ``RAY_ADDRESS``."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.value.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")

    def wrong(self, what: str) -> UserError:
        """An error that names the setting and its value, and what to do instead."""
        away = "unset it" if self.setting == "RAY_ADDRESS" else "leave it out"
        return UserError(f"{self.setting}={self.value}: {what}, or {away} to start a cluster here")


def of(config: RunConfig) -> Address | None:
    """The cluster to join; None where one is to be started here.

    Raises:
        UserError: what names it is no address of a cluster.
    """
    pairs = (("cluster.address", config.cluster.address or ""),
             ("RAY_ADDRESS", os.environ.get("RAY_ADDRESS", "")))  # fmt: skip
    found = next((Address(v.strip(), name) for name, v in pairs if v.strip()), None)
    if found is None or found.value == "local":
        return None
    if found.value != "auto":
        _check(found)
    return found


def _check(address: Address) -> None:
    scheme, _, rest = address.value.rpartition("://")
    if scheme in ("http", "https"):
        raise address.wrong(
            "this is the address of a dashboard, which jobs are handed in at (`delia submit "
            f"--address {address.value}`); a run needs {FORM}"
        )
    if scheme:
        raise address.wrong(
            f"a run does not go through {scheme}://; start it on one of the cluster's nodes with "
            f"{FORM}, or hand it in as a job (`delia submit --address http://HEAD:8265`)"
        )
    host, _, port = rest.rpartition(":")
    ends = re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+", host) and port.isdecimal()
    if not ends or not 0 < int(port) < 2**16:
        raise address.wrong(f"this is no address of a Ray cluster; give {FORM}")


def check_answers(address: Address) -> None:
    """Ask for a sign of life, for ``PATIENCE`` at most; sets RAY_AUTH_MODE where the cluster asks
    for a token and there is one.

    Raises:
        UserError: nobody answers, what answers is no Ray cluster, or the token is missing or
            refused.
    """
    if address.value == "auto" or os.environ.get("RAY_USE_TLS") == "1":
        return  # Ray finds it, or has the certificates
    mode = os.environ.get("RAY_AUTH_MODE")
    code = _ask(address, _token() if mode == "token" else None)
    if code == "UNAUTHENTICATED" and mode is None and (token := _token()):
        os.environ["RAY_AUTH_MODE"] = "token"
        code = _ask(address, token)
    if code == "UNAUTHENTICATED":
        raise address.wrong(
            "this cluster asks for a token, and "
            + ("refuses the one it was shown" if _token() else "there is none here")
            + f"; copy the cluster's to {TOKEN_FILE} or RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token"
        )
    if code == "UNIMPLEMENTED":
        raise address.wrong(f"what answers there is not the GCS of a Ray cluster; give {FORM}")
    if code not in ("OK", "CANCELLED"):
        raise address.wrong(
            f"no Ray cluster answers there within {PATIENCE:g} s; check that it is up and give "
            f"{FORM}"
        )


def _ask(address: Address, token: str | None) -> str:
    """The gRPC status of one question to the GCS."""
    import grpc

    # As Ray does: a proxy for web pages is none for a cluster.
    options = [("grpc.enable_http_proxy", 0), ("grpc.initial_reconnect_backoff_ms", 500),
               ("grpc.max_reconnect_backoff_ms", 2000)]  # fmt: skip
    header = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address.value, options) as channel:
        ask = channel.unary_unary(_ALIVE, request_serializer=bytes, response_deserializer=bytes)
        try:
            ask(b"", timeout=PATIENCE, metadata=header, wait_for_ready=True)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def _token() -> str | None:
    """The token that Ray would show, looked for where Ray does."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser(TOKEN_FILE))
    try:
        return file.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def protection(address: Address) -> str:
    """One line on what keeps others out of a cluster that is joined."""
    if os.environ.get("RAY_AUTH_MODE") == "token":
        return (
            f"cluster {address.value}: its token keeps out who lacks it and encrypts nothing; who "
            "has it, or is root on a node, can read and change this run and its secrets"
        )
    return (
        f"cluster {address.value}: it asks for no token; whoever reaches its ports can run code "
        "as you, and read and change this run and its secrets"
    )
