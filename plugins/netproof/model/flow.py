"""What is probed: ports, questions and flows."""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass


class Protocol(enum.StrEnum):
    """A transport protocol as the Kubernetes API spells it; calling it with a number gives a `Port`: `TCP(8080)`."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"

    def __call__(self, number: int) -> Port:
        return Port(self, number)


class Family(enum.StrEnum):
    """An IP family as the Kubernetes API spells it (`Service.spec.ipFamilies`)."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @staticmethod
    def of(address: str) -> Family:
        """The family of an address text. Raises ValueError where it is none."""
        return Family.IPV4 if ipaddress.ip_address(address).version == 4 else Family.IPV6


TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port number of a protocol."""

    protocol: Protocol
    number: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.number}"


@dataclass(frozen=True, slots=True)
class Question:
    """A DNS question. `names` are asked in this order until one has an answer of that type, as a resolver walks its search list."""

    names: tuple[str, ...]
    type: str  # A, AAAA, SRV, PTR


@dataclass(frozen=True, slots=True)
class Flow:
    """Who talks to what: the source agent's name (`x/a`, `outside/a`), the destination's name for people, and where the packets go.

    With a `question` the probe is one DNS query to that address instead of a connection. With `held`, a number of its own in its world,
    all attempts share one connection that the first of them opens: each is then a message and its answer. With `echo` each is an ICMP
    echo request, and the port says nothing.
    """

    source: str
    destination: str
    address: str
    port: Port
    family: Family = Family.IPV4
    question: Question | None = None
    held: int = 0
    echo: bool = False

    def __str__(self) -> str:
        asked = f" {self.question.type} {self.question.names[-1]}" if self.question else ""
        what = "ICMP echo" if self.echo else f"{self.port}{asked}"
        return f"{self.source} -> {self.destination} {what}" + (" (held)" if self.held else "")
