"""The plan of one node: what its rules shall do to packets, in no syntax. `plan` makes it, `text` writes it down, faults edit it between.

A family is never named, it is that of the address; protocols are `tcp`, `udp`, `sctp`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from netproof.lab.seams import Object

Kind = Literal["cluster-ip", "node-port", "external-ip", "load-balancer", "host-port"]
Direction = Literal["ingress", "egress"]
ANY_PORT = (0, 65535)


def is_ipv6(address: str) -> bool:
    """Whether an address or network is of IPv6."""
    return ":" in address


def contains(network: str, address: str) -> bool:
    """Whether an address lies in a network; one of the other family never does."""
    return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)


def protocol_of(port: Object) -> str:
    """The protocol of a port of any object."""
    return str(port.get("protocol") or "TCP").lower()


@dataclass(frozen=True, slots=True)
class Pod:
    """A live pod with a network of its own: one that policies can select. `ports`: (name, protocol) -> number."""

    key: str
    node: str
    addresses: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.key.partition("/")[0]


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    """An endpoint that a frontend may lead to."""

    address: str
    port: int
    node: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Where new flows of one kind of source go: to one of the backends, at random. `otherwise` holds where there is none."""

    backends: tuple[Backend, ...]
    masquerade: bool = False
    otherwise: Literal["reject", "drop"] = "reject"


@dataclass(frozen=True, slots=True)
class Frontend:
    """An address and port that stand for others. `inside` is for this node and its pods, `outside` for all that comes from elsewhere.

    `name` is the Service's port, `namespace/service:port`; affinity is common to the frontends of one name. A client in none of the
    `source_ranges` is dropped (None: everybody may). `serving` has all endpoints that still answer, chosen or not: their UDP flows stay.
    """

    kind: Kind
    name: str
    address: str
    protocol: str
    port: int
    inside: Choice
    outside: Choice | None
    affinity: int | None = None
    source_ranges: tuple[str, ...] | None = None
    serving: tuple[Backend, ...] = ()

    @property
    def place(self) -> tuple[str, str, int]:
        """What a packet must be sent to; no two frontends of a plane share it."""
        return self.address, self.protocol, self.port

    def backends(self) -> frozenset[Backend]:
        """All that new flows may be led to."""
        return frozenset(self.inside.backends) | frozenset(self.outside.backends if self.outside else ())


@dataclass(frozen=True, slots=True)
class Peer:
    """A network without the excepted ones. `pod` is its key where a selector found it, empty for an ipBlock."""

    network: str
    excepts: tuple[str, ...] = ()
    pod: str = ""


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports of the destination pod. `name` is the policy's, where it named one; the numbers are what the name means there."""

    protocol: str
    first: int
    last: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Allow:
    """A rule of a policy: these peers, on these ports. None stands for all of them, an empty tuple for none."""

    policy: str
    peers: tuple[Peer, ...] | None
    ports: tuple[PortRange, ...] | None


@dataclass(frozen=True, slots=True)
class Isolation:
    """A pod of the node that accepts (ingress) or sends (egress) nothing but what one of `allows` names."""

    pod: str
    addresses: tuple[str, ...]
    direction: Direction
    allows: tuple[Allow, ...]


@dataclass(frozen=True, slots=True)
class Plane:
    """All that a node's rules are made from. `pods` are those of the whole cluster, for what must know the others."""

    node: str
    frontends: tuple[Frontend, ...]
    isolations: tuple[Isolation, ...]
    pods: tuple[Pod, ...]

    @property
    def own(self) -> tuple[Pod, ...]:
        """The pods of this node."""
        return tuple(pod for pod in self.pods if pod.node == self.node)
