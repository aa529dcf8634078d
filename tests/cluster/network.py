"""Machines on one machine: network namespaces with addresses of their own, bridged.

Where this user may make none, all nodes share the loopback address and differ by their ports.
"""

import contextlib
import os
import socket
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Where a node runs."""

    address: str
    inside: tuple[str, ...]
    """What a command begins with that shall run there."""

    def ports(self, *options: str) -> list[str]:
        """Options of ``ray start`` for ports that would be taken on a shared address."""
        if self.inside:
            return ["--node-ip-address", self.address]
        return [word for option in options for word in (option, str(free_port()))]


class Network:
    """Machines that reach each other and this process, which is ``gateway`` to them."""

    def __init__(self) -> None:
        self.gateway, self._count = "127.0.0.1", 0
        own = os.getpid()
        self._name = f"dl{own % 100000}"
        self._subnet = f"10.{200 + own % 50}.{own // 50 % 250}"
        try:
            self._begin()
        except (OSError, subprocess.CalledProcessError):
            self.close()
            self.gateway = "127.0.0.1"

    @property
    def apart(self) -> bool:
        """Whether machines have addresses of their own."""
        return self.gateway != "127.0.0.1"

    def _begin(self) -> None:
        self.gateway = f"{self._subnet}.1"
        ip("link", "add", self._name, "type", "bridge")
        ip("addr", "add", f"{self.gateway}/24", "dev", self._name)
        ip("link", "set", self._name, "up")
        self._add(1)  # so that what is forbidden shows now
        self._remove(1)

    def add(self) -> Machine:
        """One more machine."""
        self._count += 1
        if not self.apart:
            return Machine("127.0.0.1", ())
        return self._add(self._count)

    def _add(self, number: int) -> Machine:
        space, address = f"{self._name}-{number}", f"{self._subnet}.{number + 1}"
        outer = f"{self._name}v{number}"
        ip("netns", "add", space)
        ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", outer, "master", self._name, "up")
        ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", space, "link", "set", "eth0", "up")
        ip("-n", space, "route", "add", "default", "via", self.gateway)
        # Gloo asks for the address of the host's name, which is that of another machine here.
        inside = ("ip", "netns", "exec", space, "env", "GLOO_SOCKET_IFNAME=eth0")
        subprocess.run([*inside, "true"], check=True, capture_output=True)
        return Machine(address, inside)

    def _remove(self, number: int) -> None:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            ip("netns", "del", f"{self._name}-{number}")

    def close(self) -> None:
        """Take it all away; processes inside must have ended."""
        for number in range(1, max(1, self._count) + 1):
            self._remove(number)
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            ip("link", "del", self._name)


def ip(*words: str) -> None:
    """iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind((address, 0))
        return int(one.getsockname()[1])
