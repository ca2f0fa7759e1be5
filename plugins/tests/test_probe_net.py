"""A network of namespaces for the probe's tests: one router, and pods behind it that hold real agents. Nothing leaves the machine.

A pod `a` has 10.97.1.2 and fd97:1::2, `b` 10.97.2.2 and so on. The router drops, or answers with ICMP errors, by policy routing
rules, so neither iptables nor nftables is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from netproof.model.flow import TCP, UDP, Family, Flow, Port, Question
from netproof.probe import agent as program
from netproof.probe.local import dial_process, dial_socket
from netproof.probe.stream import Dial

TOKEN, RUN = "a token of the tests", "run-1"
WEB = TCP(8080)
AGENT = Path(program.__file__)
PORTS = ("TCP/8080", "UDP/8080", "TCP/8081", "UDP/8081")
_CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def oldest_python() -> str:
    """The oldest Python here that the agent promises to run on."""
    found = sorted(Path("~/.pyenv/versions").expanduser().glob("3.9*/bin/python3"))
    return str(found[0]) if found else sys.executable


def skip_reason() -> str:
    """Why no namespaces can be made here; "" where they can."""
    if os.geteuid():
        return "making network namespaces needs root"
    return "" if shutil.which("ip") else "there is no `ip` command (iproute2)"


needs_namespaces = pytest.mark.skipif(bool(skip_reason()), reason=skip_reason())


class Net:
    """The router and its pods; a context manager that removes all of it."""

    def __init__(self, *pods: str) -> None:
        self.prefix = f"np{os.getpid()}"
        self.pods = pods
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._rules = 0

    def __enter__(self) -> Net:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        # Refusals must be seen whatever went before them: the kernel limits ICMP errors by default.
        unlimited = ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]
        for name in ("hub", *self.pods):
            forwards = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] if name == "hub" else []
            subprocess.run(["ip", "netns", "exec", self.space(name), "sysctl", "-qw", *forwards, *unlimited], check=True)
        return self

    def __exit__(self, *_exception: object) -> None:
        for name in list(self.processes):
            self.end(name)
        for name in ("hub", *self.pods):
            subprocess.run(["ip", "netns", "del", self.space(name)], check=False)

    def space(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def address(self, name: str, family: Family = Family.IPV4) -> str:
        number = self.pods.index(name) + 1
        return f"10.97.{number}.2" if family is Family.IPV4 else f"fd97:{number}::2"

    def flow(self, source: str, destination: str, port: Port = WEB, family: Family = Family.IPV4, question: Question | None = None) -> Flow:
        return Flow(source, destination, self.address(destination, family), port, family, question)

    def agent(
        self,
        name: str,
        *,
        python: str = "",
        wrap: tuple[str, ...] = (),
        ports: tuple[str, ...] = PORTS,
        silence: float = 60,
        path: Path = AGENT,
        first: str = "",
        mode: str = "serve",
    ) -> Dial:
        """Start the pod's agent, in place of one that is there; how to dial it. `first` is what it shall do first, as it is told."""
        self.end(name)
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        settings = {"run": RUN, "token_sha256": digest, "control": 9600, "ports": list(ports), "silence": silence}
        identity = {"NETPROOF_POD": f"test/{name}", "NETPROOF_UID": f"uid-{name}", "NETPROOF_NODE": "node-1"}
        command = ["ip", "netns", "exec", self.space(name), *wrap, python or oldest_python(), "-I", str(path), mode]
        environment = {"PATH": os.environ["PATH"], "NETPROOF_AGENT": json.dumps(settings), **identity} | (
            {"NETPROOF_FIRST": first} if first else {}
        )
        self.processes[name] = subprocess.Popen(command, env=environment, cwd="/")
        return self.dial(name)

    def dial(self, name: str) -> Dial:
        return dial_socket(lambda: self.connect(name))

    def relay(self, name: str) -> Dial:
        return dial_process(["ip", "netns", "exec", self.space(name), oldest_python(), "-I", str(AGENT), "relay", "9600"])

    def end(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process:
            process.kill()
            process.wait()

    def connect(self, name: str, port: int = 9600) -> socket.socket:
        """A connection to a port on the pod's loopback."""
        sock = self.socket(name)
        sock.settimeout(2)
        try:
            sock.connect(("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        return sock

    def socket(self, name: str, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> socket.socket:
        """A socket inside the pod."""
        return self.inside(name, lambda: socket.socket(family, kind))

    def inside(self, name: str, action: Callable[[], T]) -> T:
        """Call something in a thread that has entered the pod."""
        results: list[T] = []

        def enter() -> None:
            with Path("/run/netns", self.space(name)).open() as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            results.append(action())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return results[0]

    @contextlib.contextmanager
    def rule(self, source: str, destination: str, *match: str, how: str = "blackhole", family: Family = Family.IPV4) -> Iterator[None]:
        """Have the router drop (blackhole) or refuse (unreachable, prohibit) what matches, such as `ipproto tcp dport 8080`."""
        self._rules += 1
        ends = ["from", self.address(source, family), "to", self.address(destination, family)]
        rule = ["pref", str(self._rules), *ends, *match, how]
        number = "-4" if family is Family.IPV4 else "-6"
        _ip(number, "-n", self.space("hub"), "rule", "add", *rule)
        try:
            yield
        finally:
            _ip(number, "-n", self.space("hub"), "rule", "del", *rule)

    def _build(self) -> None:
        names = ("hub", *self.pods)
        links = [f"link add to-{name} netns {self.space('hub')} type veth peer name eth0 netns {self.space(name)}" for name in self.pods]
        _batch(*(f"netns add {self.space(name)}" for name in names), *links)
        _batch(
            "link set lo up", *(line for i, name in enumerate(self.pods, 1) for line in _up(f"to-{name}", i, 1)), space=self.space("hub")
        )
        for i, name in enumerate(self.pods, 1):
            routes = [f"route add default via {gateway}" for gateway in (f"10.97.{i}.1", f"fd97:{i}::1")]
            _batch("link set lo up", *_up("eth0", i, 2), *routes, space=self.space(name))


def _up(link: str, net: int, host: int) -> Iterator[str]:
    yield f"addr add 10.97.{net}.{host}/24 dev {link}"
    yield f"addr add fd97:{net}::{host}/64 dev {link} nodad"
    yield f"link set {link} up"


def _batch(*lines: str, space: str = "") -> None:
    _ip(*(["-n", space] if space else []), "-batch", "-", given="\n".join(lines))


def _ip(*arguments: str, given: str = "") -> None:
    subprocess.run(["ip", *arguments], input=given.encode(), check=True)


def eventually(condition: Callable[[], bool], limit: float = 5.0) -> bool:
    """Whether the condition came true within that time."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def all_ports(net: Net, source: str, destination: str) -> list[Flow]:
    """TCP and UDP, IPv4 and IPv6, between two pods."""
    return [net.flow(source, destination, port, family) for family in Family for port in (TCP(8080), UDP(8080))]
