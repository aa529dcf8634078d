"""Ray's Jobs API, with what can go wrong on the way in two kinds: lost connections, which pass,
and everything else, which does not."""

import asyncio
import contextlib
import logging
import os
import shlex
from collections.abc import Iterator
from typing import Any

from delia_ray.errors import DeliaError, UserError
from delia_ray.submit.follow import ConnectionLost, State
from delia_ray.submit.package import RECIPE, Package

TRIES = 5
SILENCE = 60.0
"""Seconds without a word after which the log is asked for again: a connection that a firewall
dropped looks like a silent job."""


class Cluster:
    """The jobs of one cluster; see ``follow.Jobs``."""

    def __init__(self, address: str) -> None:
        """Connect to the dashboard at ``address``, such as http://head:8265.

        Raises:
            UserError: nobody answers there, or the token is refused.
        """
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard").setLevel(logging.WARNING)
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            os.environ.pop(name, None)  # Ray would prefer them to the address that was given
        if not address.startswith(("http://", "https://")):
            raise UserError(
                f"--address {address}: give the dashboard's address, such as http://head:8265"
            )
        try:
            self.client = JobSubmissionClient(address)
        except AuthenticationError as error:
            raise UserError(
                f"--address {address} does not take this token; copy the cluster's to "
                f"~/.ray/auth_token or RAY_AUTH_TOKEN ({_first_line(error)})"
            ) from None
        except (ConnectionError, OSError, RuntimeError) as error:
            raise UserError(
                f"--address {address}: no Ray dashboard answers there ({_first_line(error)}). On "
                "Kubernetes, forward it first: kubectl port-forward service/...-head-svc 8265"
            ) from None

    def submit(
        self, job: str, package: Package, secrets: dict[str, str], python: str, verb: str
    ) -> None:
        """Upload ``package`` and start ``delia <verb> recipe.yaml`` as ``job``; a connection
        that is lost on the way does not start it twice.

        Raises:
            DeliaError: the cluster refused it or stayed away.
        """
        entrypoint = f"{shlex.quote(python)} -P -m delia_ray.cli {verb} {RECIPE}"
        runtime_env: dict[str, Any] = {"working_dir": str(package.folder)}
        if secrets:
            runtime_env["env_vars"] = secrets
        for left in reversed(range(TRIES)):
            try:
                with _connection():
                    self.client.submit_job(
                        entrypoint=entrypoint, submission_id=job, runtime_env=runtime_env,
                        metadata={"delia_run": job.rpartition("-")[0]},
                    )  # fmt: skip
                return
            except ConnectionLost as lost:
                with contextlib.suppress(ConnectionLost, DeliaError):
                    self.state(job)
                    return  # it had arrived, and only the answer was lost
                if not left:
                    raise DeliaError(f"the job could not be handed in: {lost}") from None
            except RuntimeError as error:
                text = _without(str(error), secrets)
                raise DeliaError(f"the cluster refused the job: {text}") from None

    def state(self, job: str) -> State:
        """How ``job`` is.

        Raises:
            UserError: there is no such job.
        """
        with _connection(), _known(job):
            info = self.client.get_job_info(job)
            return State(str(info.status.value), info.driver_exit_code, info.message or "")

    def log(self, job: str) -> str:
        with _connection(), _known(job):
            return str(self.client.get_job_logs(job))

    def tail(self, job: str) -> Iterator[str]:
        pieces = self.client.tail_job_logs(job)

        async def next_piece() -> str | None:
            return await asyncio.wait_for(anext(pieces, None), SILENCE)

        # A runner, because Ctrl-C then ends the wait and leaves the connection closed.
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(_tell_unless_stopped)
            while True:
                try:
                    with _connection():
                        piece = runner.run(next_piece())
                except TimeoutError:
                    return
                except RuntimeError as error:  # how Ray tells of a websocket that broke
                    raise ConnectionLost(_first_line(error)) from None
                if piece is None:
                    return
                yield str(piece)

    def stop(self, job: str) -> bool:
        """Ask ``job`` to end; False if it had ended already."""
        with _connection(), _known(job):
            return bool(self.client.stop_job(job))


def _tell_unless_stopped(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A signal that comes while a task runs is that task's error, too, which nobody asks for: the
    caller has it already."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


@contextlib.contextmanager
def _connection() -> Iterator[None]:
    import aiohttp
    import requests

    try:
        yield
    except (requests.RequestException, aiohttp.ClientError, ConnectionError) as error:
        raise ConnectionLost(type(error).__name__) from None


@contextlib.contextmanager
def _known(job: str) -> Iterator[None]:
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise UserError(f"the cluster does not take this token: {_first_line(error)}") from None
    except RuntimeError as error:
        if "404" in str(error) or "does not exist" in str(error):
            raise UserError(f"the cluster knows no job {job}; `ray job list` shows them") from None
        if any(f"status code {code}" in str(error) for code in (500, 502, 503, 504)):
            raise ConnectionLost(_first_line(error)) from None
        raise DeliaError(_first_line(error)) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _without(text: str, secrets: dict[str, str]) -> str:
    for name, value in secrets.items():
        text = text.replace(value, f"<{name}>")
    return text
