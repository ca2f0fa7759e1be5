"""NetworkPolicy: which pods are isolated, and what is allowed to them all the same.

Written from https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/; "§" below quotes that text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from netproof.lab.facts import among, is_part
from netproof.lab.plane.model import ANY_PORT, Allow, Direction, Isolation, Peer, Pod, PortRange, contains
from netproof.lab.seams import Object, Snapshot

Labels = Mapping[str, str]
_SIDES: tuple[tuple[Direction, str, str], ...] = (("ingress", "Ingress", "from"), ("egress", "Egress", "to"))


def pods(snapshot: Snapshot) -> tuple[Pod, ...]:
    """The pods that policies can select: alive, with an address, and not on their node's network."""
    return tuple(sorted((_pod(pod) for pod in snapshot.get("Pod", ()) if _has_network(pod)), key=lambda pod: pod.key))


def isolations(snapshot: Snapshot, node: str) -> tuple[Isolation, ...]:
    """The isolated pods of a node, by direction."""
    world = _World(
        pods(snapshot), {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in snapshot.get("Namespace", ())}
    )
    sides = [side for policy in snapshot.get("NetworkPolicy", ()) for side in _sides(policy, world, node)]
    return tuple(isolation for pod in world.pods if pod.node == node for isolation in _of_pod(pod, sides, world))


def matches(selector: Object, labels: Labels) -> bool:
    """Whether labels satisfy a label selector. An empty one matches everything."""
    return is_part(selector.get("matchLabels") or {}, labels) and among(labels, selector.get("matchExpressions") or ())


def _has_network(pod: Object) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("podIPs")) and status.get("phase") not in ("Succeeded", "Failed") and not pod["spec"].get("hostNetwork")


def _pod(pod: Object) -> Pod:
    meta, spec = pod["metadata"], pod["spec"]
    numbers: dict[tuple[str, str], int] = {}
    for port in (port for container in spec["containers"] for port in container.get("ports") or () if port.get("name")):
        numbers.setdefault((port["name"], _protocol(port)), port["containerPort"])
    addresses = tuple(entry["ip"] for entry in pod["status"]["podIPs"])
    return Pod(f"{meta['namespace']}/{meta['name']}", spec.get("nodeName", ""), addresses, meta.get("labels") or {}, numbers)


def _protocol(port: Object) -> str:
    return str(port.get("protocol") or "TCP").lower()


def _types(spec: Object) -> Sequence[str]:
    """§ "policies that contain an egress section are assumed to affect egress, and all policies ... ingress"."""
    given: Sequence[str] = spec.get("policyTypes") or ()
    return given or (("Ingress", "Egress") if spec.get("egress") else ("Ingress",))


@dataclass(frozen=True, slots=True)
class _World:
    """Who there is to be selected."""

    pods: tuple[Pod, ...]
    namespaces: Mapping[str, Labels]

    def subjects(self, policy: Object, node: str) -> frozenset[str]:
        """The pods of the node that the policy applies to."""
        selector, namespace = policy["spec"].get("podSelector") or {}, policy["metadata"]["namespace"]
        return frozenset(pod.key for pod in self.pods if pod.node == node and pod.namespace == namespace and matches(selector, pod.labels))

    def peers(self, given: Object, namespace: str) -> Iterator[Peer]:
        """§ "If both are set, selects the pods matching podSelector in the namespaces selected by namespaceSelector"."""
        if block := given.get("ipBlock"):
            yield Peer(block["cidr"], tuple(block.get("except") or ()))
            return
        if "podSelector" not in given and "namespaceSelector" not in given:
            return
        for pod in self.pods:
            if self._selected(pod, given, namespace):
                yield from (Peer(address, pod=pod.key) for address in pod.addresses)

    def _selected(self, pod: Pod, given: Object, namespace: str) -> bool:
        where = given.get("namespaceSelector")
        if pod.namespace != namespace if where is None else not matches(where, self.namespaces.get(pod.namespace, {})):
            return False
        return matches(given.get("podSelector") or {}, pod.labels)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule of a policy, with its peers found. `ports` are still the policy's: what a name means depends on the destination."""

    policy: str
    peers: tuple[Peer, ...] | None
    ports: Sequence[Object]


@dataclass(frozen=True, slots=True)
class _Side:
    """What a policy says of one direction, and to which pods of the node."""

    subjects: frozenset[str]
    direction: Direction
    rules: tuple[_Rule, ...]


def _sides(policy: Object, world: _World, node: str) -> Iterator[_Side]:
    subjects = world.subjects(policy, node)
    for direction, type_, end in _SIDES:
        if subjects and type_ in _types(policy["spec"]):
            rules = policy["spec"].get(direction) or ()
            yield _Side(subjects, direction, tuple(_rule(policy["metadata"], rule, end, world) for rule in rules))


def _rule(meta: Object, rule: Object, end: str, world: _World) -> _Rule:
    """§ "If this field is empty or missing, this rule matches all": of peers as of ports."""
    given = rule.get(end) or ()
    peers = tuple(peer for one in given for peer in world.peers(one, meta["namespace"])) if given else None
    return _Rule(f"{meta['namespace']}/{meta['name']}", peers, rule.get("ports") or ())


def _of_pod(pod: Pod, sides: Iterable[_Side], world: _World) -> Iterator[Isolation]:
    for direction, *_ in _SIDES:
        acting = [side for side in sides if side.direction == direction and pod.key in side.subjects]
        if acting:
            find = _inward if direction == "ingress" else _outward
            allows = tuple(allow for side in acting for rule in side.rules for allow in find(rule, pod, world))
            yield Isolation(pod.key, pod.addresses, direction, allows)


def _inward(rule: _Rule, destination: Pod, _world: _World) -> Iterator[Allow]:
    ports = tuple(found for port in rule.ports for found in _ports(port, destination)) if rule.ports else None
    yield Allow(rule.policy, rule.peers, ports)


def _outward(rule: _Rule, source: Pod, world: _World) -> Iterator[Allow]:
    named = [port for port in rule.ports if isinstance(port.get("port"), str)]
    numbered = tuple(found for port in rule.ports if port not in named for found in _ports(port, source))
    if numbered or not named:
        yield Allow(rule.policy, rule.peers, numbered if rule.ports else None)
    yield from (allow for port in named for allow in _by_name(rule, port, world.pods))


def _ports(port: Object, destination: Pod) -> Iterator[PortRange]:
    """The numbers of a policy's port at a pod: none where the pod has no port of that name and protocol."""
    protocol, number = _protocol(port), port.get("port")
    if isinstance(number, str):
        if found := destination.ports.get((number, protocol)):
            yield PortRange(protocol, found, found, number)
    elif number is None:
        yield PortRange(protocol, *ANY_PORT)
    else:
        yield PortRange(protocol, number, port.get("endPort") or number)


def _by_name(rule: _Rule, port: Object, known: Iterable[Pod]) -> Iterator[Allow]:
    """A named port on the way out: the number depends on who is sent to, so there is a rule for each number."""
    reached: dict[PortRange, list[Peer]] = {}
    for pod in known:
        addresses = [address for address in pod.addresses if rule.peers is None or any(_covers(peer, address) for peer in rule.peers)]
        for found in _ports(port, pod):
            reached.setdefault(found, []).extend(Peer(address, pod=pod.key) for address in addresses)
    yield from (Allow(rule.policy, tuple(found), (range_,)) for range_, found in reached.items())


def _covers(peer: Peer, address: str) -> bool:
    """Whether a peer includes an address of a pod."""
    if peer.pod:
        return peer.network == address
    return contains(peer.network, address) and not any(contains(network, address) for network in peer.excepts)
