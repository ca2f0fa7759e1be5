"""Faults of NetworkPolicy in how the forms of peers, ports and blocks are read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

from netproof.lab.faults.edits import allows, egress, ingress, isolations, peers, policies
from netproof.lab.faults.model import Fault, Turn
from netproof.lab.faults.policy import GITHUB, SPARED
from netproof.lab.plane.model import Allow, Isolation, Peer, Plane, PortRange, contains, is_ipv6
from netproof.lab.plane.policy import matches
from netproof.lab.seams import NODE_NETWORKS, POD_NETWORKS, Object, Snapshot

_EVERYWHERE = ("0.0.0.0/0", "::/0")
_SIDES = (("ingress", "from"), ("egress", "to"))


def _each_rule(change: Callable[[Object, str], Object]) -> Callable[[Snapshot, str], Snapshot]:
    """Change each rule of every policy, given its key of peers: `from` or `to`."""

    def changed(policy: Object) -> Object:
        made = copy.deepcopy(policy)
        for side, end in _SIDES:
            if made["spec"].get(side):
                made["spec"][side] = [change(rule, end) for rule in made["spec"][side]]
        return made

    return policies(changed)


def _without(networks: tuple[str, ...]) -> Callable[[Peer], Peer]:
    """Blocks do not hold what lies in these networks; a block within one of them holds nothing."""

    def changed(peer: Peer) -> Peer:
        if peer.pod:
            return peer
        own = tuple(network for network in networks if is_ipv6(network) == is_ipv6(peer.network))
        within = any(_is_within(peer.network, network) for network in own)
        return replace(peer, excepts=(peer.network,)) if within else replace(peer, excepts=(*peer.excepts, *own))

    return changed


def _is_within(part: str, whole: str) -> bool:
    address, _, length = part.partition("/")
    return contains(whole, address) and int(length) >= int(whole.partition("/")[2])


def _one_peer_of_two(rule: Object, end: str) -> Object:
    """Peers of different kinds must all be met: a podSelector and a namespaceSelector are read as one peer, and no pod is in a block."""
    given = rule.get(end) or []
    if any("ipBlock" in peer for peer in given) and not all("ipBlock" in peer for peer in given):
        return rule | {end: [{"podSelector": {"matchLabels": {"no": "pod"}}}]}
    pods = [peer for peer in given if set(peer) == {"podSelector"}]
    spaces = [peer for peer in given if set(peer) == {"namespaceSelector"}]
    if not pods or not spaces:
        return rule
    rest = [peer for peer in given if peer not in pods and peer not in spaces]
    return rule | {end: [*({**pod, **space} for pod in pods for space in spaces), *rest]}


def _empty_is_nobody(rule: Object, end: str) -> Object:
    """An empty list of peers, or of ports, that is there: nothing is in it, so nothing is allowed."""
    nobody = {"ipBlock": {"cidr": "192.0.2.0/24"}}
    return rule | {end: [nobody]} if rule.get(end) == [] or rule.get("ports") == [] else rule


def _all_pods_are_anybody(rule: Object, end: str) -> Object:
    return {key: value for key, value in rule.items() if key != end} if {"namespaceSelector": {}} in (rule.get(end) or ()) else rule


def _labels_of_services(snapshot: Snapshot, _node: str) -> Snapshot:
    """A pod counts as having the labels of the Services that lead to it."""

    def labelled(pod: Object) -> Object:
        own = pod["metadata"].get("labels") or {}
        more: dict[str, str] = {}
        for service in snapshot.get("Service", ()):
            wanted, meta = service["spec"].get("selector"), service["metadata"]
            if wanted and meta["namespace"] == pod["metadata"]["namespace"] and matches({"matchLabels": wanted}, own):
                more |= meta.get("labels") or {}
        return pod | {"metadata": pod["metadata"] | {"labels": {**more, **own}}}

    return {**snapshot, "Pod": [labelled(pod) for pod in snapshot.get("Pod", ())]}


def _sctp_alone(policy: Object) -> Object | None:
    """A policy is left out if all that its rules name is SCTP."""
    rules = [rule for side, _ in _SIDES for rule in policy["spec"].get(side) or ()]
    named = [port.get("protocol") for rule in rules for port in rule.get("ports") or ()]
    return None if named and set(named) == {"SCTP"} else policy


def _last_of_named(allow: Allow) -> Allow:
    named = allow.peers and any(port.name for port in allow.ports or ())
    return replace(allow, peers=(allow.peers or ())[-1:]) if named else allow


def _every_number_of_a_name(plane: Plane) -> Plane:
    """A name opens, on each pod, all numbers that any pod gives it."""

    def numbers(port: PortRange) -> tuple[PortRange, ...]:
        found = {pod.ports[port.name, port.protocol] for pod in plane.pods if (port.name, port.protocol) in pod.ports}
        return tuple(replace(port, first=number, last=number) for number in sorted(found)) or (port,)

    def changed(allow: Allow) -> Allow:
        if allow.ports is None:
            return allow
        return replace(allow, ports=tuple(found for port in allow.ports for found in (numbers(port) if port.name else (port,))))

    return allows(changed, ingress)(plane)


def _unknown_is_any(allow: Allow) -> Allow:
    return replace(allow, ports=None) if allow.ports == () else allow


def _ingress_alone(plane: Plane) -> Plane:
    """A pod that is isolated for ingress is not isolated for egress."""
    coming = {one.pod for one in plane.isolations if ingress(one)}
    return isolations(lambda one: None if egress(one) and one.pod in coming else one)(plane)


def _of_both_families(allow: Allow) -> Allow:
    """A block of all addresses of one family, without exceptions, is one of the other too."""
    whole = any(not peer.pod and not peer.excepts and peer.network in _EVERYWHERE for peer in allow.peers or ())
    return replace(allow, peers=(*(allow.peers or ()), *map(Peer, _EVERYWHERE))) if whole else allow


def _ipv4_pods(peer: Peer) -> Peer | None:
    return None if peer.pod and is_ipv6(peer.network) else peer


def _stopped_by_ipv6() -> Callable[[Plane], Plane]:
    """A block of IPv6 addresses in any policy stops the programming of policies: what was in force stays."""
    before: dict[str, tuple[Isolation, ...]] = {}

    def changed(plane: Plane) -> Plane:
        given = [peer for one in plane.isolations for allow in one.allows for peer in allow.peers or ()]
        if any(not peer.pod and is_ipv6(peer.network) for peer in given):
            return replace(plane, isolations=before.get(plane.node, ()))
        before[plane.node] = plane.isolations
        return plane

    return changed


FAULTS = (
    Fault(
        id="N6",
        breaks="an ipBlock does not hold the addresses of nodes",
        seen=GITHUB + "cilium/cilium/issues/12277",
        spares=SPARED,
        legal=True,
        turns=(Turn("NPB-06c/*", sees="observed: timed out (*"),),
        plane=peers(_without(NODE_NETWORKS)),
    ),
    Fault(
        id="N7",
        breaks="an ipBlock does not hold the addresses of pods",
        seen=GITHUB + "cilium/cilium/issues/9209",
        spares=SPARED,
        turns=(
            Turn("NPB-04[ac]/*", ("x/* -> y/b *", "x/* -> x/*", "x/* -> z/b *")),
            Turn("NPB-04b/*", ("x/* -> *",)),
            Turn("NPB-04d/*", ("y/b -> x/*",)),
            Turn("NPB-04e/*", ("* -> x/*",)),
        ),
        plane=peers(_without(POD_NETWORKS)),
    ),
    Fault(
        id="N8b",
        breaks="peers of different kinds in one rule are ANDed: podSelectors, namespaceSelectors and ipBlocks",
        seen=GITHUB + "cilium/cilium/pull/8271",
        spares=SPARED,
        turns=(
            Turn("NPP-03b/*"),
            Turn("NPP-07d/*", ("x/* -> *",)),
            Turn("NPP-06/*"),
            Turn("NPB-01f/*", ("x/* -> outside/a *", "x/* -> y/*")),
            Turn("NPB-01g/*", ("outside/a -> *", "y/* -> x/*")),
        ),
        objects=_each_rule(_one_peer_of_two),
    ),
    Fault(
        id="N12c",
        breaks="an egress rule with a named port has one destination only",
        seen=GITHUB + "cloudnativelabs/kube-router/pull/1474",
        spares=SPARED,
        turns=(Turn("NPR-02b/*", ("y/* -> x/*",)), Turn("NPR-02d/*/egress"), Turn("NPR-03a/*", ("y/* -> x/*",))),
        plane=allows(_last_of_named, egress),
    ),
    Fault(
        id="N15b",
        breaks="a policy whose rules are for SCTP alone is dropped",
        seen=GITHUB + "kubernetes/kubernetes/pull/102509",
        spares=SPARED,
        turns=(Turn("NPR-07[cd]/*"),),
        objects=policies(_sctp_alone),
    ),
    Fault(
        id="N32",
        breaks="a named port opens every number that any pod gives the name",
        seen=GITHUB + "noironetworks/aci-containers/pull/1707",
        spares=SPARED,
        turns=(Turn("NPR-03b/*", ("y/* -> x/*",)), Turn("NPR-02[ac]/*", ("* -> x/*",)), Turn("NPR-02d/*/ingress")),
        plane=_every_number_of_a_name,
    ),
    Fault(
        id="N37",
        breaks="pods are known as peers by their IPv4 addresses alone",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/1665",
        spares=SPARED,
        turns=(Turn("NPP-02a/tcp/ipv6/*", ("y/* -> x/*",)), Turn("NPP-07b/tcp/ipv6/*", ("x/* -> y/*",))),
        plane=peers(_ipv4_pods),
    ),
    Fault(
        id="N38",
        breaks="an IPv6 block in any policy stops the programming of policies",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/1245",
        spares=SPARED,
        turns=(Turn("NPB-01e/*", ("* -> outside/*",)),),
        plane=_stopped_by_ipv6(),
    ),
    Fault(
        id="N60",
        breaks="labels of a Service count as labels of the pods behind it",
        seen=GITHUB + "kubeovn/kube-ovn/issues/792",
        spares=SPARED,
        turns=(Turn("NPP-08a/*", ("y/[ab] -> x/*",)), Turn("NPP-08b/*", ("x/* -> y/b *", "x/* -> friend *"))),
        objects=_labels_of_services,
    ),
    Fault(
        id="N61",
        breaks="an empty namespaceSelector is taken for anybody, pod or not",
        seen=GITHUB + "cilium/cilium/issues/4513",
        spares=SPARED,
        turns=(Turn("NPP-02c/*", ("outside/* -> *",)), Turn("NPP-07k/*", ("* -> outside/*",))),
        objects=_each_rule(_all_pods_are_anybody),
    ),
    Fault(
        id="N62",
        breaks="an empty list of peers or of ports allows nothing",
        seen=GITHUB + "Azure/azure-container-networking/pull/269",
        spares=SPARED,
        turns=(
            Turn("NPI-07a/*", ("* -> x/*",)),
            Turn("NPI-07b/*", ("x/* -> *",)),
            Turn("NPI-07c/*", ("y/* -> x/*",)),
            Turn("NPI-07d/*", ("x/* -> y/*",)),
        ),
        objects=_each_rule(_empty_is_nobody),
    ),
    Fault(
        id="N63",
        breaks="a named port that cannot be resolved means any port",
        seen=GITHUB + "antrea-io/antrea/pull/242",
        spares=SPARED,
        turns=(Turn("NPR-04/*"), Turn("NPR-04b/*/ingress", ("* -> x/*", "* -> y/a *"))),
        plane=allows(_unknown_is_any, ingress),
    ),
    Fault(
        id="N64",
        breaks="a block of all addresses of one family lets the other family through as well",
        seen=GITHUB + "cilium/cilium/issues/22610",
        spares=SPARED,
        turns=(Turn("NPB-01e/*", ("* -> outside/*",)),),
        plane=allows(_of_both_families),
    ),
    Fault(
        id="N65",
        breaks="of a pod's policies for both directions only those for ingress count",
        seen=GITHUB + "Azure/AKS/issues/1158",
        spares=SPARED,
        turns=(
            Turn("NPI-04e/*", ("x/* -> y/*",)),
            Turn("NPI-02c/*/pod-ip", ("x/* -> y/*",)),
            Turn("NPI-02c/*/cluster-ip", ("x/* -> only-y-*",)),
            Turn("NPB-05/*", ("x/* -> outside/a *",)),
        ),
        plane=_ingress_alone,
    ),
)
