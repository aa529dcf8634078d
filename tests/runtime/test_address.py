"""Which cluster is meant, and how soon it is said that it is not there."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import grpc
import pytest

from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.runtime import address

NAMES = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what a test sets in it is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def config(value: str | None) -> RunConfig:
    return RunConfig(cluster={"address": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None), ("  ", None), ("local", None), (" local ", None),
        ("auto", "auto"), ("10.0.0.5:6379", "10.0.0.5:6379"), (" head:6379\n", "head:6379"),
        ("[::1]:6379", "[::1]:6379"), ("my-head_0.ns.svc:6379", "my-head_0.ns.svc:6379"),
    ],
)  # fmt: skip
def test_which_cluster_is_meant(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str | None
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", value)
    found = address.of(config(None))
    assert (found and found.value) == expected
    assert found is None or found.setting == "RAY_ADDRESS"


def test_the_recipe_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://old:8265")
    found = address.of(config("head:6379"))
    assert found == address.Address("head:6379", "cluster.address")
    assert address.of(config("local")) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("http://127.0.0.1:8265", "address of a dashboard.*delia submit --address http://127"),
        ("https://ray.example.com", "address of a dashboard"),
        ("ray://head:10001", "does not go through ray://.*cluster's nodes"),
        ("head", "no address of a Ray cluster"),
        ("head:", "no address"), ("head:port", "no address"), ("head:0", "no address"),
        ("head:70000", "no address"), ("a b:6379", "no address"), ("::1:6379", "no address"),
        ("head:6379/path", "no address"), ("LOCAL", "no address"), ("head:²", "no address"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("setting", ["RAY_ADDRESS", "cluster.address"])
def test_what_is_no_address_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str, setting: str
) -> None:
    if setting == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", value)
    with pytest.raises(UserError, match=rf"^{setting}={value}: .*{said}.*host:port") as error:
        address.of(config(value if setting == "cluster.address" else None))
    assert "\n" not in str(error.value)


# --- asking ---------------------------------------------------------------------------


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "PATIENCE", 1.5)


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _ask(where: str) -> None:
    address.check_answers(address.Address(where, "RAY_ADDRESS"))


def test_a_user_waits_less_than_half_a_minute() -> None:
    assert address.PATIENCE < 25


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "no.such.host.invalid", "[::1]"])
def test_nobody_there(patience: None, host: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=r"^RAY_ADDRESS=.*no Ray cluster answers.*unset it"):
        _ask(f"{host}:{_free()}")
    assert time.monotonic() - began < 6


def test_a_port_that_takes_and_never_answers(patience: None) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(UserError, match="no Ray cluster answers"):
            _ask(f"127.0.0.1:{deaf.getsockname()[1]}")


def test_a_web_server(patience: None) -> None:
    server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(UserError, match="no Ray cluster answers"):
            _ask(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


class _Gcs(grpc.GenericRpcHandler):
    """Answers as a GCS does, to who has the token."""

    def __init__(self, path: str, token: str) -> None:
        self.path, self.token = path, token

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if call.method != self.path:
            return None
        shown = dict(call.invocation_metadata).get("authorization", "Bearer ")

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            if shown != f"Bearer {self.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
            return b""

        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=bytes, response_serializer=bytes
        )


def _serve(path: str = "/ray.rpc.NodeInfoGcsService/CheckAlive", token: str = "") -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2), [_Gcs(path, token)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


@pytest.fixture
def other() -> Iterator[str]:
    yield from _serve("/some.Other/Service")


@pytest.fixture
def open_cluster() -> Iterator[str]:
    yield from _serve()


@pytest.fixture
def closed_cluster() -> Iterator[str]:
    yield from _serve(token="right")


def test_another_service(other: str) -> None:
    with pytest.raises(UserError, match="not the GCS of a Ray cluster"):
        _ask(other)


def test_a_cluster_without_a_token(open_cluster: str) -> None:
    _ask(open_cluster)
    assert "asks for no token" in address.protection(address.Address(open_cluster, "RAY_ADDRESS"))


def test_a_cluster_comes_up_while_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    port = _free()
    server = grpc.server(
        futures.ThreadPoolExecutor(2), [_Gcs("/ray.rpc.NodeInfoGcsService/CheckAlive", "")]
    )

    def late() -> None:
        time.sleep(1.0)
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()

    thread = threading.Thread(target=late)
    thread.start()
    try:
        _ask(f"127.0.0.1:{port}")
    finally:
        thread.join()
        server.stop(0)


def test_the_token_is_shown_to_who_asks(
    closed_cluster: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="asks for a token, and there is none here"):
        _ask(closed_cluster)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(UserError, match="refuses the one it was shown"):
        _ask(closed_cluster)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.delenv("RAY_AUTH_MODE")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("right\n")
    _ask(closed_cluster)
    said = address.protection(address.Address(closed_cluster, "RAY_ADDRESS"))
    assert "its token keeps out who lacks it and encrypts nothing" in said


def test_a_web_proxy_is_none_for_a_cluster(
    open_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{_free()}")
    monkeypatch.delenv("no_proxy", raising=False)
    _ask(open_cluster)
