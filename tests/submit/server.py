"""Ray's Jobs API as a dashboard serves it, with connections that break as planned.

Stands in for a Ray cluster, which tests of the real thing start; here the wire matters.
"""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "the-cluster's-token"


@dataclass
class Dashboard:
    """One job's life; runs in a thread of its own."""

    log: str = "a line\n"
    outcome: str = "SUCCEEDED"
    exit_code: int | None = 0
    breaks: list[int] = field(default_factory=list)
    """Characters of the log after which each of the first connections is cut."""
    lose_answers: int = 0
    """Submissions that arrive, but whose answer does not."""
    endless: bool = False
    """Whether the job runs until it is stopped."""
    submitted: list[dict[str, Any]] = field(default_factory=list)
    packages: dict[str, bytes] = field(default_factory=dict)
    headers: list[str] = field(default_factory=list)
    stopped: bool = False
    following: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Dashboard":
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(30)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(middlewares=[self._authenticated], client_max_size=2**28)
        app.add_routes([
            web.get("/api/version", self._version),
            web.get("/api/packages/gcs/{name}", self._has_package),
            web.put("/api/packages/gcs/{name}", self._put_package),
            web.post("/api/jobs/", self._submit),
            web.get("/api/jobs/{job}", self._info),
            web.get("/api/jobs/{job}/logs", self._logs),
            web.get("/api/jobs/{job}/logs/tail", self._tail),
            web.post("/api/jobs/{job}/stop", self._stop),
        ])  # fmt: skip
        runner = web.AppRunner(app, access_log=None)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self._port = runner.addresses[0][1]
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    @web.middleware
    async def _authenticated(self, request: web.Request, handler: Any) -> Any:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401, text="Unauthorized")
        return await handler(request)

    async def _version(self, request: web.Request) -> web.Response:
        found = {"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "s"}
        return web.json_response(found)

    async def _has_package(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["name"] in self.packages else 404)

    async def _put_package(self, request: web.Request) -> web.Response:
        self.packages[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _submit(self, request: web.Request) -> web.Response:
        self.submitted.append(await request.json())
        if self.lose_answers:
            self.lose_answers -= 1
            assert request.transport is not None
            request.transport.abort()
        job = self.submitted[-1]["submission_id"]
        return web.json_response({"job_id": job, "submission_id": job})

    def _known(self, request: web.Request) -> None:
        job = request.match_info["job"]
        if job not in {s["submission_id"] for s in self.submitted}:
            raise web.HTTPNotFound(text=f"Job {job} does not exist")

    async def _info(self, request: web.Request) -> web.Response:
        self._known(request)
        running = self.breaks or (self.endless and not self.stopped)
        status = "RUNNING" if running else "STOPPED" if self.stopped else self.outcome
        ended = status in ("SUCCEEDED", "FAILED")
        found = {
            "type": "SUBMISSION", "submission_id": request.match_info["job"], "status": status,
            "entrypoint": "delia", "message": "as planned", "metadata": {},
            "driver_exit_code": self.exit_code if ended else None,
        }  # fmt: skip
        return web.json_response(found)

    async def _logs(self, request: web.Request) -> web.Response:
        self._known(request)
        return web.json_response({"logs": self.log})

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        cut = self.breaks.pop(0) if self.breaks else None
        await socket.send_str(self.log[:cut])
        self.following.set()
        if cut is not None:
            assert request.transport is not None
            request.transport.abort()
            return socket
        while self.endless and not self.stopped:
            await asyncio.sleep(0.02)
        await socket.close()
        return socket

    async def _stop(self, request: web.Request) -> web.Response:
        self._known(request)
        self.stopped = True
        return web.json_response({"stopped": True})
