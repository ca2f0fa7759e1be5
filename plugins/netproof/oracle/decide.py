"""The decision on a flow: who is isolated, which rules let it pass, and what is not promised at all.

Quotations are from https://kubernetes.io/docs/concepts/services-networking/network-policies/ unless they name a field.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from netproof.model.flow import Family, Port
from netproof.model.history import Decision
from netproof.oracle.policy import Address, Block, Policy, Population, PortNames, Rule, read
from netproof.oracle.values import Clause, Direction, Endpoint, Isolation, Outside, Pod, Ruling

NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a flow. `pod` is empty for an end outside; `node` is where a pod runs, or the node that the address belongs to."""

    name: str
    pod: str
    address: Address
    node: str
    kind: str  # pod, node, outside


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What was worked out of a snapshot once."""

    pods: Mapping[str, Pod]
    ends: Mapping[tuple[str, Family], _End]  # of the pods
    holders: Mapping[Address, tuple[Pod, ...]]  # the living pods of the pod network by their addresses
    nodes: Mapping[Address, str]  # the nodes by theirs
    isolated: Mapping[tuple[str, Direction], tuple[Isolation, tuple[Rule, ...]]]  # pods, and all rules for them in that direction


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of a cluster: the policies as the API holds them, the pods, each namespace's labels, and the nodes' addresses, if known.

    It is worked out at once and does not follow later changes of what it was made from. Raises PolicyError for a policy that the API
    server would refuse, ValueError for pods that cannot be: twice the same (policies likewise), or in a namespace that is not there.
    """

    policies: Sequence[Mapping[str, object]]
    pods: Sequence[Pod]
    namespaces: Mapping[str, Mapping[str, str]]
    nodes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _meaning: _Meaning = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_meaning", _work_out(self))

    def pod(self, key: str) -> Pod:
        """The pod `namespace/name`. Raises ValueError where there is none."""
        try:
            return self._meaning.pods[key]
        except KeyError:
            raise ValueError(f"there is no pod {key}; there are {', '.join(sorted(self._meaning.pods))}") from None

    def at(self, address: str) -> Endpoint:
        """Who has an address now: a pod of the pod network that has not ended, or else somebody outside.

        Raises ValueError where two pods have it.
        """
        holders = self._meaning.holders.get(ipaddress.ip_address(address), ())
        if len(holders) > 1:
            raise ValueError(f"{address} is the address of {' and of '.join(pod.key for pod in holders)}")
        return holders[0] if holders else Outside(address)


@dataclass(frozen=True, slots=True)
class _Side:
    """What the policies of one end say of a flow."""

    isolation: Isolation | None
    allowed_by: tuple[Clause, ...] = ()
    blocks_only: bool = False  # what allows it are ipBlocks alone

    @property
    def denies(self) -> bool:
        return self.isolation is not None and not self.allowed_by


_OPEN = _Side(None)


def decide(world: Snapshot, source: Endpoint, destination: Endpoint, port: Port, family: Family | None = None) -> Ruling:
    """What the policies of a world make of a new connection, or a first datagram, to that port of the destination.

    `family` need be named only between two pods that shall use their IPv6 addresses; else it is that of the end outside, or IPv4.
    Raises ValueError for ends that cannot be: a pod without an address of the family, an `Outside` that is a pod.
    """
    family = family or _family(source, destination)
    here, there = _end(world, source, family), _end(world, destination, family)
    unpromised = _unpromised(source, destination, here, there)
    if unpromised:
        return Ruling(Decision.OBSERVE, unpromised, not_judged_because=unpromised)
    names = destination.ports if isinstance(destination, Pod) else frozenset()
    # The two sorts of isolation "are declared independently, and are both relevant for a connection from one pod to another".
    egress = _side(world._meaning.isolated.get((here.pod, Direction.EGRESS)), there, port, names)
    ingress = _side(world._meaning.isolated.get((there.pod, Direction.INGRESS)), here, port, names)
    # "both the egress policy on the source pod and the ingress policy on the destination pod need to allow the connection.
    # If either side does not allow the connection, it will not happen."
    denied_by = tuple(side.isolation for side in (egress, ingress) if side.isolation and side.denies)
    allowed_by = egress.allowed_by + ingress.allowed_by
    if denied_by:
        return Ruling(Decision.DENY, _denied(denied_by, here, there, port), allowed_by, denied_by)
    return Ruling(
        Decision.ALLOW, _allowed((egress, ingress), here, there), allowed_by, rests_on_block=_rests_on(egress, ingress, here, there)
    )


def _side(isolated: tuple[Isolation, tuple[Rule, ...]] | None, peer: _End, port: Port, names: PortNames) -> _Side:
    """One direction: a pod, by what isolates it if anything does, and its peer.

    "By default, a pod is non-isolated for egress; all outbound connections are allowed." Isolated, "the only allowed connections from the
    pod are those allowed by the `egress` list of some NetworkPolicy that applies to the pod for egress"; the lists "combine additively".
    The same is said of ingress.
    """
    if isolated is None:
        return _OPEN
    isolation, rules = isolated
    ways = [(rule.clause, peers) for rule in rules if (peers := rule.allowing(peer.pod, peer.address, port, names))]
    blocks_only = bool(ways) and all(isinstance(entry, Block) for _, peers in ways for entry in peers)
    return _Side(isolation, tuple(clause for clause, _ in ways), blocks_only)


def _unpromised(source: Endpoint, destination: Endpoint, here: _End, there: _End) -> str:
    """Why nothing is promised of a flow; empty where something is."""
    pods = [end for end in (source, destination) if isinstance(end, Pod)]
    for pod in pods:
        if pod.ended:
            return f"{pod.key} has ended ({pod.phase}): nothing is sent from or to it"
    if here.pod and here.pod == there.pod:  # "a pod cannot block access to itself"
        return f"{here.name} talks to itself, which no policy can forbid"
    for pod in pods:
        if pod.host_network:  # "NetworkPolicy behaviour for `hostNetwork` pods is undefined"
            return f"{pod.key} is on its node's network: what a policy does with it is left to the implementation"
    # "traffic to and from the node where a Pod is running is always allowed". The field `ingress` says so too ("OR if the traffic source is
    # the pod's local node"), `egress` does not, and which packets are the node's own is said nowhere.
    if pods and here.node == there.node and "node" in (here.kind, there.kind):
        return f"{here.name} and {there.name} are a pod and its own node, whose traffic policies do not restrict"
    return ""


def _rests_on(egress: _Side, ingress: _Side, here: _End, there: _End) -> str:
    """Whose address an ipBlock must hold for an allowed flow to be allowed.

    "These should be cluster-external IPs, since Pod IPs are ephemeral and unpredictable."
    """
    peers = [peer.kind for side, peer in ((egress, there), (ingress, here)) if side.blocks_only]
    return next((kind for kind in ("pod", "node") if kind in peers), "")


def _allowed(sides: Sequence[_Side], here: _End, there: _End) -> str:
    """The first rule of each side is enough to be named."""
    firsts = [f"{side.allowed_by[0]}{_more(len(side.allowed_by) - 1)}" for side in sides if side.allowed_by]
    return f"allowed by {' and by '.join(firsts)}" if firsts else f"no policy isolates {here.name} for egress or {there.name} for ingress"


def _more(number: int) -> str:
    return f" (and {number} more)" if number else ""


def _denied(isolations: Sequence[Isolation], here: _End, there: _End, port: Port) -> str:
    other = {Direction.EGRESS: f"to {there.name}", Direction.INGRESS: f"from {here.name}"}
    return "; ".join(f"{isolation}, and no rule there allows {port} {other[isolation.direction]}" for isolation in isolations)


def _family(source: Endpoint, destination: Endpoint) -> Family:
    return next((Family.of(end.address) for end in (source, destination) if isinstance(end, Outside)), Family.IPV4)


def _end(world: Snapshot, end: Endpoint, family: Family) -> _End:
    if isinstance(end, Pod):
        if world.pod(end.key) != end:
            raise ValueError(f"{end.key} is not the pod of that name in the snapshot")
        try:
            return world._meaning.ends[end.key, family]
        except KeyError:
            raise ValueError(f"{end.key} has no {family} address, but {', '.join(end.addresses.values()) or 'none at all'}") from None
    address = ipaddress.ip_address(end.address)
    if Family.of(end.address) is not family:
        raise ValueError(f"{end.address} is not an {family} address")
    if address in world._meaning.holders:
        raise ValueError(f"{end.address} is not outside: it is the address of {world._meaning.holders[address][0].key}")
    node = world._meaning.nodes.get(address, "")
    return _End(end.name or end.address, "", address, node, "node" if node else "outside")


def _work_out(world: Snapshot) -> _Meaning:
    pods = {pod.key: pod for pod in world.pods}
    if len(pods) < len(world.pods):
        raise ValueError("a pod stands twice in the snapshot")
    for pod in world.pods:
        if pod.namespace not in world.namespaces:
            raise ValueError(f"{pod.key} is in a namespace that the snapshot does not hold")
    # "The Kubernetes control plane sets an immutable label `kubernetes.io/metadata.name` on all namespaces, the value of the label is the
    # namespace name."
    labels = {name: {**own, NAME_LABEL: name} for name, own in world.namespaces.items()}
    population = Population(world.pods, labels)
    policies = [read(policy, population) for policy in world.policies]
    if len({policy.name for policy in policies}) < len(policies):
        raise ValueError("a policy stands twice in the snapshot")
    ends = {
        (pod.key, family): _End(pod.key, pod.key, ipaddress.ip_address(address), pod.node, "pod")
        for pod in world.pods
        for family, address in pod.addresses.items()
    }
    return _Meaning(pods, ends, _holders(world.pods), _nodes(world), _isolated(policies))


def _isolated(policies: Sequence[Policy]) -> dict[tuple[str, Direction], tuple[Isolation, tuple[Rule, ...]]]:
    """Who is isolated, and by what: in the order of the policies' names, as "order of evaluation does not affect the policy result".

    "A pod is isolated for egress if there is any NetworkPolicy that both selects the pod and has "Egress" in its `policyTypes`", and
    likewise for ingress.
    """
    selecting: dict[tuple[str, Direction], list[Policy]] = {}
    for policy in sorted(policies, key=lambda policy: policy.name):
        for direction, subject in itertools.product(policy.rules, policy.subjects):
            selecting.setdefault((subject, direction), []).append(policy)
    return {
        (pod, direction): (
            Isolation(pod, direction, tuple(policy.name for policy in those)),
            tuple(rule for policy in those for rule in policy.rules[direction]),
        )
        for (pod, direction), those in selecting.items()
    }


def _holders(pods: Sequence[Pod]) -> dict[Address, tuple[Pod, ...]]:
    found: dict[Address, tuple[Pod, ...]] = {}
    for pod in pods:
        for address in () if pod.ended or pod.host_network else pod.addresses.values():
            key = ipaddress.ip_address(address)
            found[key] = (*found.get(key, ()), pod)
    return found


def _nodes(world: Snapshot) -> dict[Address, str]:
    """ "`hostNetwork` pods have the same IP addresses as the nodes they reside on"."""
    shared = [(pod.node, address) for pod in world.pods if pod.host_network and not pod.ended for address in pod.addresses.values()]
    own = [(node, address) for node, addresses in world.nodes.items() for address in addresses]
    return {ipaddress.ip_address(address): node for node, address in shared + own}
