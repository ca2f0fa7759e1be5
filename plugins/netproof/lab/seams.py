"""What the parts of the lab know of each other: its addresses, a pod to be started, and what the machine below can do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Object = dict[str, Any]  # a Kubernetes object as the API shows it; never changed in place once it is in the store
Snapshot = Mapping[str, Sequence[Object]]  # kind -> its objects, of all namespaces

NODES = ("lab-1", "lab-2", "lab-3")
OUTSIDERS = ("a", "b")
DOMAIN = "cluster.local"
POD_NETWORKS = ("10.244.0.0/16", "fd00:244::/48")
SERVICE_NETWORKS = ("10.96.0.0/16", "fd00:96::/112")
NODE_NETWORKS = ("172.30.0.0/24", "fd00:30::/64")
BALANCER_NETWORKS = ("172.31.0.0/24", "fd00:31::/64")  # each address is led to one node
NODE_PORTS = range(30000, 32768)
API_SERVICE = ("10.96.0.1", "fd00:96::1")
DNS_SERVICE = ("10.96.0.10", "fd00:96::a")


def node_addresses(node: str) -> tuple[str, str]:
    """A node's IPv4 and IPv6 address."""
    return _addresses(11 + NODES.index(node))


def outsider_addresses(name: str) -> tuple[str, str]:
    """The addresses of a machine that is none of the cluster's."""
    return _addresses(100 + OUTSIDERS.index(name))


def _addresses(number: int) -> tuple[str, str]:
    return f"172.30.0.{number}", f"fd00:30::{number:x}"


def pod_networks(node: str) -> tuple[str, str]:
    """The two networks from which a node's pods have their addresses."""
    number = NODES.index(node) + 1
    return f"10.244.{number}.0/24", f"fd00:244:0:{number:x}::/64"


@dataclass(frozen=True, slots=True)
class Launch:
    """A pod to be started. `key` is `namespace/name`; an outsider is a Launch without a node, at its own addresses.

    `files`: folder in the pod -> file name -> text; those without a file can be written to, and are shared by all that is started under
    the key until `Runtime.discard`. `addresses`: IPv4, IPv6, or fewer.
    """

    key: str
    node: str
    addresses: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    resolv_conf: str = ""
    hosts: str = ""
    hostname: str = ""
    host_network: bool = False


class RulesRefused(Exception):  # noqa: N818
    """nft did not take a rule set; the text is what it said. What was in force before still is."""


class Runtime(Protocol):
    """The machine below: pods as processes in namespaces, and rules on nodes. Everything is called in one event loop."""

    async def start(self, launch: Launch) -> None:
        """Make the pod's namespaces, addresses and process, whose program has begun then. Raises OSError, and nothing of it is left."""

    async def stop(self, key: str, grace: float) -> None:
        """End the process (SIGTERM, after `grace` seconds SIGKILL) and remove all that is its, if it is there. It may be cancelled."""

    def discard(self, key: str) -> None:
        """Remove what the containers of a pod shared; no error where there is nothing."""

    async def wait(self, key: str) -> int:
        """The exit code of a pod's process, once it has ended, as a shell counts. Raises KeyError for a pod that is not there."""

    def log(self, key: str) -> bytes:
        """What its process has written to stdout and stderr, the last 256 KiB."""

    async def dial(self, key: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the pod's loopback, from inside. Raises OSError, KeyError."""

    async def execute(self, key: str, command: Sequence[str], *, stdin: bool) -> asyncio.subprocess.Process:
        """Run a command in the pod's namespaces, with pipes. Raises OSError where it can't be run, KeyError."""

    def socket_in(self, key: str, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A socket that stays in the network namespace of a pod (`namespace/name`) or of a node (its name). Raises KeyError."""

    async def apply(self, node: str, rules: str) -> None:
        """Give a node a rule set (input of `nft -f`), all of it or nothing. Raises RulesRefused."""

    def forget(self, node: str, address: str, port: int, protocol: str) -> int:
        """Delete a node's conntrack entries whose original destination is that address and port; how many there were."""

    def announce(self, address: str, node: str) -> None:
        """Lead an address of a load balancer to a node, as seen by the outsiders; an empty node withdraws it."""
