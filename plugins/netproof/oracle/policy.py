"""What the parts of a NetworkPolicy mean.

Quotations are of the field's own text in the API reference, unless another source is named:

- https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/
- concepts: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from netproof.model.flow import Port, Protocol
from netproof.oracle.fields import Field
from netproof.oracle.selector import Selector, matches, selector, words
from netproof.oracle.values import Clause, Direction, Pod

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PortNames = frozenset[tuple[str, Port]]  # of the destination pod

_LAST_PORT = 65535
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")  # RFC 6335, section 5.1, in lower case
_CIDR = re.compile(r"[^/]+/[0-9]{1,3}")
_PEERS_OF = {Direction.INGRESS: "from", Direction.EGRESS: "to"}


@dataclass(frozen=True, slots=True)
class Population:
    """The pods that a selector can select, and the labels of their namespaces."""

    pods: Sequence[Pod]
    namespaces: Mapping[str, Mapping[str, str]]

    def within(self, namespaces: Collection[str], wanted: Selector) -> frozenset[str]:
        """The keys of the pods of these namespaces that a selector matches."""
        return frozenset(pod.key for pod in self.pods if pod.namespace in namespaces and matches(wanted, pod.labels))

    def chosen(self, wanted: Selector) -> frozenset[str]:
        """The namespaces that a selector matches."""
        return frozenset(name for name, labels in self.namespaces.items() if matches(wanted, labels))


@dataclass(frozen=True, slots=True)
class Selected:
    """A peer given by selectors: the pods that they match now."""

    pods: frozenset[str]
    text: str

    def covers(self, pod: str, _address: Address) -> bool:
        """Whether the peer is this pod; `pod` is empty for an end outside."""
        return pod in self.pods


@dataclass(frozen=True, slots=True)
class Block:
    """A peer given by addresses, whoever has them: "a particular CIDR ... that is allowed"."""

    network: Network
    excepted: tuple[Network, ...]
    text: str

    def covers(self, _pod: str, address: Address) -> bool:
        """Whether the peer has this address. `except`: "CIDRs that should not be included within this rule"."""
        return address in self.network and not any(address in hole for hole in self.excepted)


@dataclass(frozen=True, slots=True)
class Anybody:
    """`from`: "If this field is empty or missing, this rule matches all sources"; `to`: "... all destinations"."""

    text: str = "anybody"

    def covers(self, _pod: str, _address: Address) -> bool:
        """Always."""
        return True


Peer = Selected | Block | Anybody


def _peer(field: Field, home: str, population: Population) -> Peer:
    field.only("podSelector", "namespaceSelector", "ipBlock")
    pods, namespaces, block = field.at("podSelector"), field.at("namespaceSelector"), field.at("ipBlock")
    if block.given:
        if pods.given or namespaces.given:  # "If this field is set then neither of the other fields can be."
            raise field.wrong("ipBlock alone, or selectors without it")
        return _block(block)
    if not pods.given and not namespaces.given:
        raise field.wrong("a podSelector, a namespaceSelector, both, or an ipBlock")
    # podSelector: "if present but empty, it selects all pods"; without it namespaceSelector "selects all pods in the namespaces selected".
    who = selector(pods)
    named = f"pods {words(who)}" if who else "all pods"
    if not namespaces.given:  # podSelector: "Otherwise it selects the pods matching podSelector in the policy's own namespace."
        return Selected(population.within({home}, who), f"{named} of {home}")
    # namespaceSelector: "if present but empty, it selects all namespaces"; "If podSelector is also set, then the NetworkPolicyPeer as
    # a whole selects the pods matching podSelector in the namespaces selected by namespaceSelector."
    where = selector(namespaces)
    which = f"namespaces {words(where)}" if where else "all namespaces"
    return Selected(population.within(population.chosen(where), who), f"{named} of {which}")


def _block(field: Field) -> Block:
    field.only("cidr", "except")
    network = _network(field.at("cidr"))
    holes = [(entry, _network(entry)) for entry in field.at("except").items()]
    for entry, hole in holes:  # "Except values will be rejected if they are outside the cidr range"
        if hole.version != network.version or hole.prefixlen <= network.prefixlen or hole.network_address not in network:
            raise entry.wrong(f"a smaller block within {network}")
    but = f" but {', '.join(str(hole) for _, hole in holes)}" if holes else ""
    return Block(network, tuple(hole for _, hole in holes), f"{network}{but}")


def _network(field: Field) -> Network:
    """A CIDR; bits beyond the prefix are no part of it, as the API server takes them too."""
    try:
        if _CIDR.fullmatch(field.text()):
            return ipaddress.ip_network(field.text(), strict=False)
    except ValueError:
        pass
    raise field.wrong('a block like "192.168.1.0/24" or "2001:db8::/64"')


@dataclass(frozen=True, slots=True)
class Opening:
    """An element of `ports`."""

    protocol: Protocol
    first: int
    last: int
    name: str = ""

    def admits(self, port: Port, names: PortNames) -> bool:
        """Whether a destination port is meant.

        `port`: "This can either be a numerical or named port on a pod."; egress `ports` is "a list of destination ports for outgoing
        traffic", so a name is the destination's in both directions, and means nothing where that is no pod.
        "If present, only traffic on the specified protocol AND port will be matched."
        """
        if port.protocol is not self.protocol:
            return False
        return (self.name, port) in names if self.name else self.first <= port.number <= self.last

    def __str__(self) -> str:
        if self.name or (self.first, self.last) == (1, _LAST_PORT):
            return f"{self.protocol}/{self.name}" if self.name else f"any {self.protocol} port"
        return f"{self.protocol}/{self.first}" + (f"-{self.last}" if self.last > self.first else "")


# `ports`: "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
_ANY_PORT = tuple(Opening(protocol, 1, _LAST_PORT) for protocol in Protocol)


def _opening(field: Field) -> Opening:
    field.only("protocol", "port", "endPort")
    protocol, port, end = _protocol(field.at("protocol")), field.at("port"), field.at("endPort")
    if end.given and (not port.given or isinstance(port.value, str)):
        # "This field cannot be defined if the port field is not defined or if the port field is defined as a named (string) port."
        raise end.wrong("no endPort where port is not a number")
    if not port.given:  # "If this field is not provided, this matches all port names and numbers."
        return Opening(protocol, 1, _LAST_PORT)
    if isinstance(port.value, str):
        if not _PORT_NAME.fullmatch(port.value):
            raise port.wrong("a number, or a name of at most 15 of a-z, 0-9 and -, one letter among them")
        return Opening(protocol, 0, 0, port.value)
    first = _port_number(port, 1)
    # "the range of ports from port to endPort if set, inclusive, should be allowed"; "The endPort must be equal or greater than port."
    return Opening(protocol, first, _port_number(end, first) if end.given else first)


def _protocol(field: Field) -> Protocol:
    if not field.given:  # "If not specified, this field defaults to TCP."
        return Protocol.TCP
    if field.value not in list(Protocol):
        raise field.wrong("TCP, UDP or SCTP")
    return Protocol(field.text())


def _port_number(field: Field, least: int) -> int:
    if not least <= field.number() <= _LAST_PORT:
        raise field.wrong(f"{least} to {_LAST_PORT}")
    return field.number()


@dataclass(frozen=True, slots=True)
class Rule:
    """An element of `ingress` or `egress`: "The traffic must match both ports and from.", or `to`."""

    peers: tuple[Peer, ...]
    openings: tuple[Opening, ...]
    clause: Clause

    def allowing(self, pod: str, address: Address, port: Port, names: PortNames) -> list[Peer]:
        """The peers by which this rule allows such traffic: "Items in this list are combined using a logical OR operation."."""
        for opening in self.openings:  # `ports`: "combined using a logical OR"
            if opening.admits(port, names):
                return [peer for peer in self.peers if peer.covers(pod, address)]
        return []


@dataclass(frozen=True, slots=True)
class Policy:
    """A NetworkPolicy, read: the pods that it isolates, in which directions, and what it lets through there."""

    name: str  # namespace/name
    subjects: frozenset[str]
    rules: Mapping[Direction, tuple[Rule, ...]]  # a direction of its policyTypes -> the rules


def read(obj: Mapping[str, object], population: Population) -> Policy:
    """The meaning of a NetworkPolicy in this world. Raises PolicyError."""
    meta = Field("NetworkPolicy", "", obj).at("metadata")
    home = meta.at("namespace").text()
    name = f"{home}/{meta.at('name').text()}"
    whole = Field(f"NetworkPolicy {name}", "", obj)
    for key, expected in (("apiVersion", "networking.k8s.io/v1"), ("kind", "NetworkPolicy")):
        if whole.at(key).value not in (None, expected):
            raise whole.at(key).wrong(expected)
    if home not in population.namespaces:
        raise whole.at("metadata").at("namespace").wrong(f"one of the namespaces there are: {', '.join(sorted(population.namespaces))}")
    spec = whole.at("spec").only("podSelector", "policyTypes", "ingress", "egress")
    # podSelector: "An empty selector matches all pods in the policy's namespace."; "If it is not specified, it defaults to an empty
    # selector."
    subjects = population.within({home}, selector(spec.at("podSelector")))
    rules = {direction: _rules(spec, direction, name, population) for direction in Direction}
    return Policy(name, subjects, {direction: rules[direction] for direction in _types(spec)})


def directions(policy: Mapping[str, object]) -> frozenset[Direction]:
    """Which directions a NetworkPolicy is about. Raises PolicyError."""
    return frozenset(_types(Field("NetworkPolicy", "", policy).at("spec")))


def _types(spec: Field) -> list[Direction]:
    """Which directions a policy is about.

    policyTypes: "If this field is not specified, it will default based on the existence of ingress or egress rules; policies that
    contain an egress section are assumed to affect egress, and all policies (whether or not they contain an ingress section) are
    assumed to affect ingress."; concepts: "`Egress` will be set if the NetworkPolicy has any egress rules", so an empty list is none.
    """
    given = spec.at("policyTypes").items()
    for entry in given:
        if entry.value not in list(Direction):
            raise entry.wrong("Ingress or Egress")
    if len(given) > len(Direction):
        raise spec.at("policyTypes").wrong("at most two types")
    if given:
        return [Direction(entry.text()) for entry in given]
    return [Direction.INGRESS, *([Direction.EGRESS] if spec.at("egress").items() else [])]


def _rules(spec: Field, direction: Direction, name: str, population: Population) -> tuple[Rule, ...]:
    """All rules of a section, whether or not the policy is about that direction: the API server refuses malformed ones in any case."""
    listed = spec.at(direction.lower()).items()
    return tuple(_rule(entry, direction, name, index, population) for index, entry in enumerate(listed))


def _rule(field: Field, direction: Direction, name: str, index: int, population: Population) -> Rule:
    key = _PEERS_OF[direction]
    field.only(key, "ports")
    peers = tuple(_peer(entry, name.partition("/")[0], population) for entry in field.at(key).items()) or (Anybody(),)
    openings = tuple(_opening(entry) for entry in field.at("ports").items())
    where = f"on {' or '.join(map(str, openings))}" if openings else "on any port"
    clause = Clause(name, direction, index, f"{key} {' or '.join(peer.text for peer in peers)} {where}")
    return Rule(peers, openings or _ANY_PORT, clause)
