"""What another user of the machine tries while somebody's run is going; a program of its own.

    python stranger.py UID < {"pids": [...], "folders": [...], "private": ...}

Prints what it got as JSON: each list names what it should not have got.
"""

import contextlib
import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import grpc
import psutil

METHODS = (
    "InternalKVGcsService/InternalKVKeys", "InternalKVGcsService/InternalKVGet",
    "InternalKVGcsService/InternalKVPut", "NodeInfoGcsService/GetAllNodeInfo",
    "JobInfoGcsService/GetAllJobInfo", "ActorInfoGcsService/GetAllActorInfo",
    "NodeManagerService/GetNodeStats", "NodeManagerService/RequestWorkerLease",
    "ObjectManagerService/Pull", "ObjectManagerService/Push", "CoreWorkerService/PushTask",
    "CoreWorkerService/GetCoreWorkerStats", "CoreWorkerService/Exit",
    "ReporterService/ReportOCMetrics", "LogService/ListLogs", "LogService/StreamLog",
    "events.EventAggregatorService/AddEvents",
)  # fmt: skip
"""Of Ray's services: reading, writing, running code, ending."""
PATHS = ("/", "/api/version", "/logs", "/api/job_agent/jobs/x/logs", "/get_runtime_envs_info")


def call(port: int, token: str | None = None) -> dict[str, list[str]] | None:
    """Status -> the methods that ended with it; None where no gRPC is spoken."""
    found: dict[str, list[str]] = {}
    header = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=2)
        except grpc.FutureTimeoutError:
            return None
        for method in METHODS:
            ask = channel.unary_unary(f"/ray.rpc.{method}", bytes, bytes)
            try:
                ask(b"", timeout=3, metadata=header)
                status = "OK"
            except grpc.RpcError as error:
                status = error.code().name
            found.setdefault(status, []).append(method)
    return found


def page(port: int, path: str) -> tuple[int, str]:
    """Status and text of a page; 0 where no HTTP is spoken."""
    try:
        there = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
        there.request("GET", path)
        answer = there.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""


def read_all(folder: Path) -> list[str]:
    """What can be read or written below ``folder``."""
    got = []
    for root, folders, files in os.walk(folder):
        got += [f"{root}/" for _ in [0] if files or folders]
        for name in files:
            with contextlib.suppress(OSError):
                open(Path(root, name), "rb").close()
                got.append(f"{root}/{name}")
    with contextlib.suppress(OSError):
        (folder / "planted").symlink_to("/etc/passwd")
        got.append(f"{folder}/planted was made")
    return got


def replace(folder: Path) -> list[str]:
    """What could be put in the place of ``folder``."""
    got = []
    for what in (lambda: os.rename(folder, f"{folder}-gone"), lambda: os.rmdir(folder),
                 lambda: os.chmod(folder, 0o777)):  # fmt: skip
        with contextlib.suppress(OSError):
            what()
            got.append(f"{folder} was replaced")
    return got


def of_process(pid: int) -> list[str]:
    """What can be seen of the inside of a process."""
    got = []
    for name in ("environ", "maps", "mem", "io"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as stream:
            if stream.read(1):
                got.append(f"/proc/{pid}/{name}")
    with contextlib.suppress(OSError):
        got += [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")]
    return got


def knock(address: str) -> list[str]:
    """Whether a socket of the file system, or an abstract one, lets us in."""
    with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
        one.connect("\0" + address[1:] if address.startswith("@") else address)
        return [address]
    return []


def main() -> None:
    told: dict[str, Any] = json.load(sys.stdin)
    processes = [psutil.Process(pid) for pid in told["pids"]]
    sockets = {k.laddr for p in processes for k in p.net_connections("unix") if k.laddr}
    listening = {
        (k.laddr.ip, k.laddr.port)
        for p in processes
        for k in p.net_connections("inet")
        if k.status == psutil.CONN_LISTEN
    }
    call(1)  # grpc imports as it goes, which this user could not
    page(1, "/")
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
    ports = sorted({port for _, port in listening})
    calls = {port: call(port) for port in ports}
    pages = {port: {p: page(port, p) for p in PATHS} for port in ports if calls[port] is None}
    print(json.dumps({
        "addresses": sorted({ip for ip, _ in listening}),
        "sockets": len(sockets),
        "files": [got for folder in told["folders"] for got in read_all(Path(folder))],
        "replaced": [got for folder in told["folders"] for got in replace(Path(folder))],
        "memory": [str(f) for f in Path("/dev/shm").iterdir() if os.access(f, os.R_OK)],
        "processes": [got for pid in told["pids"] for got in of_process(pid)],
        "let in": [got for address in sorted(sockets) for got in knock(address)],
        "calls": calls,
        "pages": pages,
        "command lines": [p.cmdline() for p in processes if p.is_running()],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
