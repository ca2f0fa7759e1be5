"""NetworkPolicy: which pods are isolated, and what is allowed to them all the same.

Written from https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/; "§" below quotes that text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product

from netproof.lab.facts import FINISHED, among, is_part, key
from netproof.lab.plane.model import ANY_PORT, Allow, Direction, Isolation, Peer, Pod, PortRange, contains, protocol_of
from netproof.lab.seams import Object, Snapshot

Labels = Mapping[str, str]
Peers = tuple[Peer, ...] | None
Placed = Mapping[str, Sequence[Pod]]  # by namespace
Said = Sequence[tuple[Pod, Direction, Sequence[Allow]]]  # what a policy says: the pods that it isolates, and what it allows them
_ENDS: Mapping[Direction, str] = {"ingress": "from", "egress": "to"}


class _Known:
    """What was read off the objects last: most of them are the same for all nodes, and after a change."""

    objects: Sequence[Object] = ()
    pods: tuple[Pod, ...] = ()
    ground: tuple[Sequence[Pod], Sequence[Object]] = ((), ())  # the pods and namespaces that policies were read with
    policies: Mapping[int, tuple[Object, Said]] = {}  # by the identity of a policy: the policy, so that it stays the only one of it


def pods(snapshot: Snapshot) -> tuple[Pod, ...]:
    """The pods that policies can select: alive, with an address, and not on their node's network."""
    objects = snapshot.get("Pod", ())
    if objects is not _Known.objects:
        _Known.pods = tuple(sorted((_pod(pod) for pod in objects if _has_network(pod)), key=lambda pod: pod.key))
        _Known.objects = objects
    return _Known.pods


def isolations(snapshot: Snapshot, node: str, world: Sequence[Pod]) -> tuple[Isolation, ...]:
    """The isolated pods of a node, by direction; `world`: those that policies can select."""
    found = dict[tuple[str, Direction], list[Allow]]()
    for said in _said(snapshot, world):
        for pod, direction, allows in said:
            if pod.node == node:
                found.setdefault((pod.key, direction), []).extend(allows)
    places = [(pod, direction) for pod in world for direction in _ENDS if (pod.key, direction) in found]
    return tuple(Isolation(pod.key, pod.addresses, direction, tuple(found[pod.key, direction])) for pod, direction in places)


def _said(snapshot: Snapshot, world: Sequence[Pod]) -> Iterator[Said]:
    """What each policy says. One that is the same object as before, among the same pods and namespaces, says the same."""
    spaces = snapshot.get("Namespace", ())
    if world is not _Known.ground[0] or spaces is not _Known.ground[1]:
        _Known.ground, _Known.policies = (world, spaces), {}
    placed = defaultdict[str, list[Pod]](list)
    for pod in world:
        placed[pod.namespace].append(pod)
    namespaces = {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in spaces}
    known = _Known.policies
    _Known.policies = {
        id(policy): known.get(id(policy)) or (policy, tuple(_read(policy, world, placed, namespaces)))
        for policy in snapshot.get("NetworkPolicy", ())
    }
    return (said for _, said in _Known.policies.values())


def _read(
    policy: Object, world: Sequence[Pod], placed: Placed, namespaces: Mapping[str, Labels]
) -> Iterator[tuple[Pod, Direction, Sequence[Allow]]]:
    spec, home = policy["spec"], policy["metadata"]["namespace"]
    subjects = [pod for pod in placed.get(home, ()) if matches(spec.get("podSelector") or {}, pod.labels)]
    for direction in _directions(spec) if subjects else ():
        given = [(rule.get(_ENDS[direction]), rule.get("ports") or ()) for rule in spec.get(direction) or ()]
        rules = [(_peers(peers, home, placed, namespaces), ports) for peers, ports in given]
        for pod in subjects:
            destination = pod if direction == "ingress" else None
            yield pod, direction, tuple(allow for peers, ports in rules for allow in _allows(key(policy), peers, ports, destination, world))


def matches(selector: Object, labels: Labels) -> bool:
    """Whether labels satisfy a label selector. An empty one matches everything."""
    return is_part(selector.get("matchLabels") or {}, labels) and among(labels, selector.get("matchExpressions") or ())


def _has_network(pod: Object) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("podIPs")) and status.get("phase") not in FINISHED and not pod["spec"].get("hostNetwork")


def _pod(pod: Object) -> Pod:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or () if port.get("name")]
    numbers = {(port["name"], protocol_of(port)): port["containerPort"] for port in reversed(ports)}  # the first of a name counts
    addresses = tuple(entry["ip"] for entry in pod["status"]["podIPs"])
    return Pod(key(pod), pod["spec"].get("nodeName", ""), addresses, pod["metadata"].get("labels") or {}, numbers)


def _directions(spec: Object) -> list[Direction]:
    """§ "policies that contain an egress section are assumed to affect egress, and all policies ... ingress"."""
    given = spec.get("policyTypes") or ("Ingress", "Egress" if spec.get("egress") else "")
    return [direction for direction in _ENDS if direction.title() in given]


def _peers(given: Sequence[Object] | None, home: str, placed: Placed, namespaces: Mapping[str, Labels]) -> Peers:
    """§ "If this field is empty or missing, this rule matches all"."""
    if not given:
        return None
    return tuple(peer for one in given for peer in _peer(one, home, placed, namespaces))


def _peer(given: Object, home: str, placed: Placed, namespaces: Mapping[str, Labels]) -> Iterator[Peer]:
    """§ "If both are set, selects the pods matching podSelector in the namespaces selected by namespaceSelector"."""
    if block := given.get("ipBlock"):
        yield Peer(block["cidr"], tuple(block.get("except") or ()))
        return
    where = given.get("namespaceSelector")
    near = [home] if where is None else [name for name in placed if matches(where, namespaces.get(name, {}))]
    for pod in chain.from_iterable(placed.get(name, ()) for name in near if given):
        if matches(given.get("podSelector") or {}, pod.labels):
            yield from (Peer(address, pod=pod.key) for address in pod.addresses)


def _allows(policy: str, peers: Peers, ports: Sequence[Object], destination: Pod | None, world: Sequence[Pod]) -> Iterator[Allow]:
    """What a rule allows; on the way out, where a port's name means another number at each peer, it is one allow for each of them."""
    named = [] if destination else [port for port in ports if isinstance(port.get("port"), str)]
    numbered = tuple(found for port in ports for found in _numbers(port, destination))
    if numbered or not named:
        yield Allow(policy, peers, numbered if ports else None)
    for port, pod in product(named, world):
        reached = tuple(Peer(one, pod=pod.key) for one in pod.addresses if peers is None or any(_covers(peer, one) for peer in peers))
        yield from (Allow(policy, reached, (found,)) for found in _numbers(port, pod) if reached)


def _numbers(port: Object, destination: Pod | None) -> Iterator[PortRange]:
    """What a policy's port means at a pod: nothing where the pod has no port of that name and protocol."""
    protocol, number = protocol_of(port), port.get("port")
    if not isinstance(number, str):
        yield PortRange(protocol, *((number, port.get("endPort") or number) if number else ANY_PORT))
    elif found := destination and destination.ports.get((number, protocol)):
        yield PortRange(protocol, found, found, number)


def _covers(peer: Peer, address: str) -> bool:
    """Whether a peer includes an address of a pod."""
    if peer.pod:
        return peer.network == address
    return contains(peer.network, address) and not any(contains(network, address) for network in peer.excepts)
