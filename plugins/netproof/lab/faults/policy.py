"""Faults of NetworkPolicy."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import replace

from netproof.lab.faults.edits import allows, anywhere, egress, frozen, ingress, isolations, only_on, peers, policies, rule
from netproof.lab.faults.model import Fault, Turn
from netproof.lab.plane.model import ANY_PORT, Allow, Direction, Isolation, Peer, Plane, PortRange, is_ipv6
from netproof.lab.seams import NODE_NETWORKS, POD_NETWORKS, Object, Snapshot, pod_networks

GITHUB = "https://github.com/"
ONE, TWO = "lab-1", "lab-2"  # where the pods a and c stand, and b
OPEN_FOR = 1.5  # seconds


def _without_excepts(peer: Peer) -> Peer:
    return replace(peer, excepts=())


def _without_excepts_of_all(peer: Peer) -> Peer:
    return replace(peer, excepts=()) if peer.network in ("0.0.0.0/0", "::/0") else peer


def _excepts_first(plane: Plane) -> Plane:
    """What any block excepts is taken out of every other allow too."""

    def changed(isolation: Isolation) -> Isolation:
        excepted = {network for one in isolation.allows for peer in one.peers or () for network in peer.excepts}
        kept = [replace(one, peers=_unless(one.peers, excepted)) for one in isolation.allows]
        return replace(isolation, allows=tuple(kept))

    return isolations(changed)(plane)


def _unless(found: tuple[Peer, ...] | None, excepted: set[str]) -> tuple[Peer, ...] | None:
    if found is None and excepted:  # anybody, but for those
        return tuple(Peer(all_, tuple(sorted(one for one in excepted if is_ipv6(one) == is_ipv6(all_)))) for all_ in ("0.0.0.0/0", "::/0"))
    return None if found is None else tuple(peer for peer in found if peer.network not in excepted)


def _shared_excepts(allow: Allow) -> Allow:
    """The exceptions of one block are those of all blocks of the rule."""
    excepted = tuple(sorted({network for peer in allow.peers or () for network in peer.excepts}))
    blocks = tuple(p if p.pod else replace(p, excepts=excepted) for p in allow.peers or () if p.pod or p.network not in excepted)
    return allow if allow.peers is None else replace(allow, peers=blocks)


def _without_neighbours(plane: Plane) -> Plane:
    """Over IPv6 whoever is isolated in one direction is cut off in both: what comes of it, as no pod of the lab asks for its neighbour."""
    cut = {one.pod: tuple(filter(is_ipv6, one.addresses)) for one in plane.isolations}
    kept = [replace(one, addresses=tuple(a for a in one.addresses if not is_ipv6(a))) for one in plane.isolations]
    ways: tuple[Direction, ...] = ("ingress", "egress")
    return replace(plane, isolations=(*kept, *(Isolation(pod, six, way, ()) for pod, six in cut.items() for way in ways)))


def _each_peer(policy: Object, change: object) -> Object:
    made = copy.deepcopy(policy)
    for side, end in (("ingress", "from"), ("egress", "to")):
        for one in made["spec"].get(side) or ():
            if one.get(end):
                one[end] = change(one[end])  # type: ignore[operator]
    return made


def _namespace_selector_alone(policy: Object) -> Object:
    def both(peer: Object) -> Object:
        return {"namespaceSelector": peer["namespaceSelector"]} if "namespaceSelector" in peer else peer

    return _each_peer(policy, lambda given: [both(peer) for peer in given])


def _last_peer(policy: Object) -> Object:
    return _each_peer(policy, lambda given: given[-1:])


def _last_rule(policy: Object) -> Object:
    made = copy.deepcopy(policy)
    for side in ("ingress", "egress"):
        if made["spec"].get(side):
            made["spec"][side] = made["spec"][side][-1:]
    return made


def _selectors(value: object, change: object) -> object:
    """A copy of a spec with every selector changed."""
    if isinstance(value, Mapping):
        return {
            key: change(dict(one)) if key in ("podSelector", "namespaceSelector") and one else _selectors(one, change)  # type: ignore[operator]
            for key, one in value.items()
        }
    return [_selectors(one, change) for one in value] if isinstance(value, list) else value


def _with_selectors(change: object) -> object:
    return policies(lambda policy: policy | {"spec": _selectors(policy["spec"], change)})


def _labels_alone(selector: Object) -> Object:
    return {key: value for key, value in selector.items() if key != "matchExpressions"}


def _not_in_needs_the_key(selector: Object) -> Object:
    """`NotIn` as it is wrongly understood: another value, so some value."""
    listed = selector.get("matchExpressions") or []
    more = [{"key": one["key"], "operator": "Exists"} for one in listed if one["operator"] == "NotIn"]
    return selector | ({"matchExpressions": [*listed, *more]} if more else {})


def _exists_wants_a_value(selector: Object) -> Object:
    listed = selector.get("matchExpressions") or []
    more = [{"key": one["key"], "operator": "NotIn", "values": [""]} for one in listed if one["operator"] == "Exists"]
    return selector | ({"matchExpressions": [*listed, *more]} if more else {})


def _named_at_the_source(plane: Plane) -> Plane:
    """A named port of an egress rule is looked up in the sender's own containers."""
    own = {pod.key: pod.ports for pod in plane.own}

    def looked_up(isolation: Isolation) -> Isolation:
        ports = own.get(isolation.pod, {})

        def changed(one: PortRange) -> PortRange:
            number = ports.get((one.name, one.protocol)) if one.name else None
            return replace(one, first=number, last=number) if number else one

        kept = [one if one.ports is None else replace(one, ports=tuple(map(changed, one.ports))) for one in isolation.allows]
        return replace(isolation, allows=tuple(kept)) if egress(isolation) else isolation

    return isolations(looked_up)(plane)


def _resolved_once(plane: Plane) -> Plane:
    """A named port has one number for all pods: that of the first one found."""
    first: dict[tuple[str, str], int] = {}
    for pod in sorted(plane.pods, key=lambda pod: pod.key):
        for name, number in pod.ports.items():
            first.setdefault(name, number)

    def changed(one: PortRange) -> PortRange:
        number = first.get((one.name, one.protocol), one.first)
        return replace(one, first=number, last=number) if one.name else one

    return allows(lambda a: a if a.ports is None else replace(a, ports=tuple(map(changed, a.ports))), ingress)(plane)


def _with_types_of_rules(policy: Object) -> Object:
    """The policy as if policyTypes listed each direction that it has rules for."""
    spec = policy["spec"]
    types = [word for word in ("Ingress", "Egress") if word in spec["policyTypes"] or spec.get(word.lower())]
    return policy | {"spec": spec | {"policyTypes": types}}


def _name_of_any_protocol(policy: Object) -> Object:
    """A name without its protocol: `web-udp` opens the number for TCP."""
    made = copy.deepcopy(policy)
    numbers = {"web-udp": 8080, "other-udp": 8081}
    for one in made["spec"].get("ingress") or ():
        for port in one.get("ports") or ():
            if port.get("protocol", "TCP") == "TCP" and port.get("port") in numbers:
                port["port"] = numbers[port["port"]]
    return made


def _first_port(allow: Allow) -> Allow:
    return allow if allow.ports is None else replace(allow, ports=tuple(_first(one) for one in allow.ports))


def _first(one: PortRange) -> PortRange:
    return one if (one.first, one.last) == ANY_PORT else replace(one, last=one.first)


def _any_protocol(allow: Allow) -> Allow:
    if allow.ports is None:
        return allow
    return replace(allow, ports=tuple(replace(one, protocol=name) for one in allow.ports for name in ("tcp", "udp")))


def _any_port(allow: Allow) -> Allow:
    return allow if allow.ports is None else replace(allow, ports=tuple(replace(o, first=0, last=65535) for o in allow.ports))


def _isolates_both(from_: str, also: str) -> object:
    """A policy for one direction closes the other too."""

    def changed(plane: Plane) -> Plane:
        there = {one.pod for one in plane.isolations if one.direction == also}
        more = [
            Isolation(one.pod, one.addresses, also, ())  # type: ignore[arg-type]
            for one in plane.isolations
            if one.direction == from_ and one.pod not in there
        ]
        return replace(plane, isolations=(*plane.isolations, *more))

    return changed


def _only_without_rules(isolation: Isolation) -> Isolation | None:
    return None if isolation.allows else isolation


def _nothing_is_everything(allow: Allow) -> Allow:
    return replace(allow, peers=None) if allow.peers == () else allow


def _kept_for_ever() -> object:
    """An isolation that was once in force stays, as long as its pod does."""
    seen: dict[tuple[str, str, str], Isolation] = {}

    def changed(plane: Plane) -> Plane:
        own = {pod.key for pod in plane.own}
        for one in plane.isolations:
            seen[plane.node, one.pod, one.direction] = one
        now = {(plane.node, one.pod, one.direction) for one in plane.isolations}
        old = [one for key, one in seen.items() if key[0] == plane.node and key not in now and one.pod in own]
        return replace(plane, isolations=(*plane.isolations, *old))

    return changed


def _deleted_with_its_neighbours() -> object:
    """The end of one policy takes the allows of the others on the same pods along."""
    before: dict[str, dict[tuple[str, Direction], set[str]]] = {}
    gone: set[tuple[str, Direction, str]] = set()

    def changed(plane: Plane) -> Plane:
        last = before.get(plane.node, {})
        now = {(one.pod, one.direction): {a.policy for a in one.allows} for one in plane.isolations}
        for place, names in now.items():
            if last.get(place, set()) - names:
                gone.update((*place, name) for name in names)
        before[plane.node] = now
        return isolations(lambda one: replace(one, allows=tuple(a for a in one.allows if (one.pod, one.direction, a.policy) not in gone)))(
            plane
        )

    return changed


def _selecting_everywhere(snapshot: Snapshot, _node: str) -> Snapshot:
    """Each policy stands in every namespace."""
    names = [item["metadata"]["name"] for item in snapshot.get("Namespace", ())]
    copies = [
        policy | {"metadata": policy["metadata"] | {"namespace": name}} for policy in snapshot.get("NetworkPolicy", ()) for name in names
    ]
    return {**snapshot, "NetworkPolicy": copies}


def _never_told(isolation: Isolation) -> None:
    return None


def _same_node_allows(plane: Plane) -> Plane:
    """On one node the first chain that accepts has the last word: what its source's rules allow passes the destination's too."""
    own = {address: pod.key for pod in plane.own for address in pod.addresses}
    sending = {one.pod: one for one in plane.isolations if egress(one)}

    def changed(isolation: Isolation) -> Isolation:
        if not ingress(isolation):
            return isolation
        more = tuple(
            Allow("first-chain", (Peer(address, pod=key),), one.ports)
            for address, key in own.items()
            if key in sending and key != isolation.pod
            for one in sending[key].allows
        )
        return replace(isolation, allows=(*isolation.allows, *more))

    return isolations(changed)(plane)


def _nodes_let_in(isolation: Isolation) -> Isolation:
    everybody = Allow("node-port", tuple(Peer(network) for network in NODE_NETWORKS), None)
    return replace(isolation, allows=(*isolation.allows, everybody)) if ingress(isolation) else isolation


def _no_udp(isolation: Isolation) -> Isolation:
    return replace(isolation, allows=(*isolation.allows, Allow("udp", None, (PortRange("udp", *ANY_PORT),))))


def _labels(obj: Object) -> object:
    return dict(obj["metadata"].get("labels") or {})


def _put_labels(obj: Object, labels: object) -> Object:
    return obj | {"metadata": obj["metadata"] | {"labels": labels}}


def _subject(obj: Object) -> object:
    return obj["spec"].get("podSelector") or {}


def _put_subject(obj: Object, subject: object) -> Object:
    return obj | {"spec": obj["spec"] | {"podSelector": subject}}


def _first_spec(obj: Object) -> object:
    return obj["spec"]


def _put_spec(obj: Object, spec: object) -> Object:
    return obj | {"spec": spec}


def _open_when_young() -> object:
    """A pod's policies are looked at only once it has been seen for a while."""
    born: dict[tuple[str, tuple[str, ...]], float] = {}

    def changed(plane: Plane) -> Plane:
        now = time.monotonic()
        young = {pod.key for pod in plane.own if now - born.setdefault((pod.key, pod.addresses), now) < OPEN_FOR}
        return isolations(lambda one: None if one.pod in young else one)(plane)

    return changed


def _peer_when_young() -> object:
    """Until a pod has been seen for a while, its address counts as that of a peer of every rule that selects pods."""
    born: dict[tuple[str, str, tuple[str, ...]], float] = {}

    def changed(plane: Plane) -> Plane:
        now = time.monotonic()
        young = [pod for pod in plane.pods if now - born.setdefault((plane.node, pod.key, pod.addresses), now) < OPEN_FOR]
        more = tuple(Peer(address, pod=pod.key) for pod in young for address in pod.addresses)

        def widened(one: Allow) -> Allow:
            return replace(one, peers=(*one.peers, *more)) if one.peers and any(peer.pod for peer in one.peers) else one

        return allows(widened)(plane)

    return changed


SPARED = ("POD-0[123]*", "SVC-01a/*", "DNS-01/*", "NPI-01a/*")

FAULTS = (
    Fault(
        id="N1",
        breaks="policies are accepted and nothing is enforced",
        seen=GITHUB + "flannel-io/flannel/issues/2183",
        spares=SPARED,
        turns=tuple(
            Turn(case)
            for case in (
                *("NPI-0[26]*", "NPI-04*", "NPI-03c/*", "NPP-02a/*", "NPP-07[abcd]*", "NPR-01[abc]*", "NPR-09*"),
                *("NPC-01[ab]/*", "NPC-03/*", "NPT-01/*", "NPT-06[abd]/*", "NPT-11/*"),
            )
        ),
        plane=isolations(_never_told),
    ),
    Fault(
        id="N2",
        breaks="`except` of an ipBlock is ignored",
        seen=GITHUB + "antrea-io/antrea/issues/71",
        spares=SPARED,
        turns=(
            Turn("NPB-02a/*", ("* -> outside/b *",)),
            Turn("NPB-02b/*", ("outside/b -> *",)),
            Turn("NPB-02d/*", ("* -> outside/*",)),
            Turn("NPB-04b/*", ("x/* -> y/b *",)),
            Turn("NPB-04e/*", ("y/b -> x/*",)),
        ),
        plane=peers(_without_excepts),
    ),
    Fault(
        id="N3",
        breaks="`except` is ignored within 0.0.0.0/0 alone",
        seen=GITHUB + "aws/aws-network-policy-agent/issues/58",
        spares=SPARED,
        turns=(
            Turn("NPB-02c/*", ("* -> outside/b *",)),
            Turn("NPB-02d/*", ("* -> outside/*",)),
            Turn("NPB-02f/*", ("outside/b -> *",)),
            Turn("NPB-02g/*", ("outside/* -> *",)),
        ),
        plane=peers(_without_excepts_of_all),
    ),
    Fault(
        id="N4",
        breaks="`except` denies what another policy allows",
        seen=GITHUB + "ovn-org/ovn-kubernetes/issues/845",
        spares=SPARED,
        turns=(
            Turn("NPB-03/*", ("* -> outside/b *",)),
            Turn("NPB-03b/*", ("outside/b -> *",)),
            Turn("NPB-04c/*", ("x/* -> y/b *",)),
            Turn("NPB-07a/*", ("* -> outside/b TCP/8081",)),
            Turn("NPB-07b/*", ("outside/b -> *",)),
            Turn("NPC-02c/*", ("* -> outside/b *",)),
        ),
        plane=_excepts_first,
    ),
    Fault(
        id="N5",
        breaks="the exceptions of one block are applied to the other blocks of the rule",
        seen=GITHUB + "ovn-org/ovn-kubernetes/issues/845",
        spares=SPARED,
        turns=(Turn("NPB-02e/*", ("* -> outside/b *",)), Turn("NPB-02h/*", ("outside/b -> *",))),
        plane=allows(_shared_excepts),
    ),
    Fault(
        id="N8",
        breaks="of a peer with both selectors only the namespaceSelector counts",
        seen=GITHUB + "weaveworks/weave/issues/3312",
        spares=SPARED,
        turns=(
            Turn("NPP-03a/*", ("y/b -> x/*",)),
            Turn("NPP-07c/*", ("x/* -> y/b *",)),
            Turn("NPP-03c/*"),
            Turn("NPP-04h/*", ("[yz]/a -> x/*",)),
        ),
        objects=policies(_namespace_selector_alone),
    ),
    Fault(
        id="N9",
        breaks="of several peers of a rule only the last counts",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/412",
        spares=SPARED,
        turns=(Turn("NPP-03b/*", ("x/a -> x/b *",)), Turn("NPP-07d/*", ("x/* -> x/a *",)), Turn("NPP-06/*")),
        objects=policies(_last_peer),
    ),
    Fault(
        id="N10",
        breaks="matchExpressions are ignored",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/614",
        spares=SPARED,
        turns=(
            Turn("NPP-04[abcd]/*", ("x/c -> x/*",)),
            Turn("NPP-04e/*", ("y/* -> x/*",)),
            Turn("NPI-05b/*", ("* -> x/c *",)),
            Turn("NPI-05e/*", ("* -> x/c *",)),
            Turn("NPP-04f/*", ("x/c -> x/*",)),
            Turn("NPP-04[gh]/*"),
            Turn("NPP-07h/*"),
            Turn("NPP-07j/*", ("x/* -> y/*",)),
        ),
        objects=_with_selectors(_labels_alone),  # type: ignore[arg-type]
    ),
    Fault(
        id="N10b",
        breaks="NotIn does not match objects without the key",
        seen=GITHUB + "mattfenwick/cyclonus",
        spares=SPARED,
        turns=(Turn("NPP-04b/*", ("x/a -> x/*",)), Turn("NPP-04g/*"), Turn("NPP-07h/*")),
        objects=_with_selectors(_not_in_needs_the_key),  # type: ignore[arg-type]
    ),
    Fault(
        id="N10c",
        breaks="Exists does not match a label with an empty value",
        seen=GITHUB + "mattfenwick/cyclonus",
        spares=SPARED,
        turns=(Turn("NPP-04c/*", ("x/b -> x/*",)), Turn("NPP-04g/*"), Turn("NPP-07h/*")),
        objects=_with_selectors(_exists_wants_a_value),  # type: ignore[arg-type]
    ),
    Fault(
        id="N11",
        breaks="a named port of an egress rule is looked up on the sender",
        seen=GITHUB + "aws/amazon-network-policy-controller-k8s/issues/52",
        spares=SPARED,
        turns=(Turn("NPR-02b/*", ("y/* -> x/*",)), Turn("NPR-02d/*/egress"), Turn("NPR-03a/*", ("y/* -> x/*",))),
        plane=_named_at_the_source,
    ),
    Fault(
        id="N12",
        breaks="a named port is resolved once, for all pods",
        seen=GITHUB + "cilium/cilium/issues/30003",
        spares=SPARED,
        turns=(
            Turn("NPR-02a/*", ("* -> x/b *",)),
            Turn("NPR-02c/*", ("y/* -> x/b *",)),
            Turn("NPR-02d/*/ingress"),
            Turn("NPR-03b/*", ("y/* -> x/b *", "y/* -> only-b *")),
        ),
        plane=_resolved_once,
    ),
    Fault(
        id="N12b",
        breaks="a named port is looked up without its protocol",
        seen=GITHUB + "cilium/cilium/issues/30003",
        spares=SPARED,
        turns=(Turn("NPR-04/*", ("* TCP/8080",)), Turn("NPR-04b/*/ingress", ("* -> x/a TCP/8080",))),
        objects=policies(_name_of_any_protocol),
    ),
    Fault(
        id="N13",
        breaks="endPort is ignored",
        seen=GITHUB + "cilium/cilium/issues/28684",
        spares=SPARED,
        turns=(Turn("NPR-06/*", ("y/* -> x/* */8081", "x/* -> x/* */8080")),),
        plane=allows(_first_port),
    ),
    Fault(
        id="N13b",
        breaks="the ports of a rule are ignored",
        seen=GITHUB + "noironetworks/aci-containers/issues/1653",
        spares=SPARED,
        turns=(
            Turn("NPR-01[abdef]*"),
            Turn("NPR-04b/*/ingress", ("* -> y/b *",)),
            Turn("NPR-04b/*/egress", ("y/b -> *",)),
            Turn("NPR-0[56]*"),
            Turn("NPB-01[cd]/*"),
            Turn("NPP-07g/*", ("y/* -> *",)),
            Turn("NPR-09/*", ("z/* -> *",)),
            Turn("NPI-04c/*", ("x/* -> *",)),
            Turn("NPC-03/*"),
        ),
        plane=allows(_any_port),
    ),
    Fault(
        id="N15",
        breaks="the protocol of a port is ignored",
        seen=GITHUB + "kubernetes/kubernetes/issues/102509",
        spares=SPARED,
        turns=(
            Turn("NPR-01[ad]/tcp/*", ("* UDP/8080",)),
            Turn("NPR-01c/tcp/*", ("* UDP/*",)),
            Turn("NPR-01c/udp/*", ("* TCP/*",)),
            Turn("NPR-01[ef]/*"),
            Turn("NPR-05/*", ("* UDP/8080",)),
            Turn("NPR-07[abcd]/*", ("* -> *P/8080",)),
        ),
        plane=allows(_any_protocol),
    ),
    Fault(
        id="N16",
        breaks="a policy for ingress isolates for egress too",
        seen=GITHUB + "cloud-bulldozer/e2e-benchmarking/issues/473",
        spares=SPARED,
        turns=(Turn("NPI-02a/*", ("x/* -> y/*",)), Turn("NPI-04b/*", ("x/* -> y/*",)), Turn("NPI-03a/*", ("x/* -> *",))),
        plane=_isolates_both("ingress", "egress"),  # type: ignore[arg-type]
    ),
    Fault(
        id="N16b",
        breaks="a policy for egress isolates for ingress too",
        seen=GITHUB + "cloud-bulldozer/e2e-benchmarking/issues/473",
        spares=SPARED,
        turns=(Turn("NPI-02b/*", ("y/* -> x/*",)), Turn("NPI-04d/*"), Turn("NPI-03b/*", ("* -> x/*",))),
        plane=_isolates_both("egress", "ingress"),  # type: ignore[arg-type]
    ),
    Fault(
        id="N16c",
        breaks="rules count for their direction though policyTypes does not list it",
        seen=GITHUB + "cilium/cilium/issues/48703",
        spares=SPARED,
        turns=(
            Turn("NPI-04g/*/ingress", ("x/* -> y/*",)),
            Turn("NPI-04g/*/egress", ("y/* -> x/*",)),
            Turn("NPI-04h/*/ingress", ("* -> x/*",)),
            Turn("NPI-04h/*/egress", ("x/* -> *",)),
        ),
        objects=policies(_with_types_of_rules),
    ),
    Fault(
        id="N17",
        breaks="a policy with rules does not isolate: who is not listed is let in",
        seen=GITHUB + "weaveworks/weave/issues/3105",
        spares=SPARED,
        turns=(Turn("NPP-01[ab]/*"), Turn("NPP-02a/*"), Turn("NPP-05/*"), Turn("NPP-07[bi]/*"), Turn("NPB-01*"), Turn("NPC-01[ak]/*")),
        plane=isolations(_only_without_rules),
    ),
    Fault(
        id="N18",
        breaks="a deleted policy is enforced for ever",
        seen=GITHUB + "ovn-org/ovn-kubernetes/issues/1782",
        spares=SPARED,
        turns=(Turn("NPI-01b/*"), Turn("NPC-05b/*", ("* -> x/new-* *",))),
        plane=_kept_for_ever(),  # type: ignore[arg-type]
    ),
    Fault(
        id="N19",
        breaks="the deletion of a policy takes the rules of another along",
        seen=GITHUB + "Azure/azure-container-networking/issues/551",
        spares=SPARED,
        turns=(Turn("NPC-01b/*", ("y/* -> x/*",)), Turn("NPC-01l/*", ("x/* -> y/*",))),
        plane=_deleted_with_its_neighbours(),  # type: ignore[arg-type]
    ),
    Fault(
        id="N20",
        breaks="of several rules of a policy only the last counts",
        seen=GITHUB + "antrea-io/antrea/issues/386",
        spares=SPARED,
        turns=(
            Turn("NPR-06/*", ("y/* -> x/*",)),
            Turn("NPB-07a/*", ("* -> outside/a TCP/8080",)),
            Turn("NPP-06/*"),
            Turn("NPC-02b/*"),
        ),
        objects=policies(_last_rule),
    ),
    Fault(
        id="N21",
        breaks="changes of a namespace's labels are not followed",
        seen=GITHUB + "ovn-org/ovn-kubernetes/issues/1850",
        spares=SPARED,
        turns=(Turn("NPC-05c/*", ("[wv]/* -> x/*",)), Turn("NPC-05f/*", ("x/* -> [wv]/*",))),
        objects=frozen("Namespace", _labels, _put_labels),
    ),
    Fault(
        id="N22",
        breaks="changes of a pod's labels are not followed",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/1035",
        spares=SPARED,
        turns=(
            Turn("NPC-05a/*", ("y/new-* -> x/*",)),
            Turn("NPC-05b/*", ("* -> x/new-* *",)),
            Turn("NPC-05d/*", ("x/* -> y/new-* *",)),
            Turn("NPC-05e/*", ("x/new-* -> *",)),
        ),
        objects=frozen("Pod", _labels, _put_labels),
    ),
    Fault(
        id="N23",
        breaks="an edit of a policy's own podSelector is ignored",
        seen=GITHUB + "aws/aws-network-policy-agent/issues/643",
        spares=SPARED,
        turns=(Turn("NPC-04[bf]/*"),),
        objects=frozen("NetworkPolicy", _subject, _put_subject),
    ),
    Fault(
        id="N23b",
        breaks="an edit of a policy is ignored",
        seen=GITHUB + "aws/aws-network-policy-agent/issues/643",
        spares=SPARED,
        turns=(Turn("NPC-04[a-f]/*"),),
        objects=frozen("NetworkPolicy", _first_spec, _put_spec),
    ),
    Fault(
        id="N24",
        breaks="a new pod is open until its policies are attached, after it has started",
        seen=GITHUB + "aws/aws-network-policy-agent/issues/83",
        spares=(*SPARED, "NPI-02a/*", "NPI-09b/*"),
        turns=(
            Turn("NPI-08a/*", ("x/new-* -> y/*",)),
            Turn("NPI-08b/*", ("y/* -> x/new-*",)),
            Turn("NPI-08c/*", ("x/new-* -> y/b *", "y/* -> x/new-*")),
            Turn("NPI-09a/*", ("x/new-* -> y/b *",)),
        ),
        plane=_open_when_young(),  # type: ignore[arg-type]
        again=0.1,
    ),
    Fault(
        id="N26",
        breaks="a new pod's address still counts as that of a former pod, which was a peer",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/1056",
        spares=(*SPARED, "NPI-02a/*", "NPI-08a/*"),
        turns=(Turn("NPI-09b/*", ("x/plain-* -> y/*",)),),
        plane=_peer_when_young(),  # type: ignore[arg-type]
        again=0.1,
    ),
    Fault(
        id="N27",
        breaks="one node does not know the pods of the others as peers",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/2059",
        spares=SPARED,
        turns=(
            Turn("NPP-01[ab]/*", ("* -> x/b *",)),
            Turn("NPP-02[ab]/*", ("* -> x/b *",)),
            Turn("NPP-04a/*", ("* -> x/b *",)),
            Turn("NPP-07[eg]/*", ("x/b -> *",)),
        ),
        plane=lambda plane: _knows_its_own(plane) if plane.node == TWO else plane,
    ),
    Fault(
        id="N28",
        breaks="between pods of one node the source's rules have the last word",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/916",
        spares=SPARED,
        turns=(Turn("NPI-04[af]/*", ("x/c -> x/a *",)), Turn("NPC-03b/*/egress", ("x/a -> y/a *", "x/b -> y/b *"))),
        plane=_same_node_allows,
    ),
    Fault(
        id="N29",
        breaks="between pods of one node traffic through a Service meets no policy",
        seen=GITHUB + "weaveworks/weave/issues/3956",
        spares=SPARED,
        turns=(
            Turn("NPT-06a/*", ("z/a -> only-a *", "z/b -> only-b *")),
            Turn("NPT-06b/*", ("z/a -> only-a *", "z/b -> only-b *")),
            Turn("NPI-02c/*/cluster-ip", ("x/a -> only-y-a *", "x/b -> only-y-b *", "y/a -> only-x-a *", "y/b -> only-x-b *")),
        ),
        rules=lambda text, node: rule("forward", f"ct status dnat {_within(node)} accept")(text, node),
    ),
    Fault(
        id="N30",
        breaks="egress policies do not hold for traffic through Services",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/875",
        spares=SPARED,
        turns=(
            Turn("NPT-06b/*", ("z/* -> only-*",)),
            Turn("NPR-09/*", ("z/* -> only-*",)),
            Turn("NPI-02c/*/cluster-ip", ("x/* -> only-y-*", "y/a -> only-x-a *", "y/b -> only-x-b *")),
            Turn("NPP-08b/*", ("x/* -> friend *",)),
            Turn("NPB-06a/*", sees="observed: answered*"),
        ),
        rules=lambda text, node: _services_may_leave(text, node),
    ),
    Fault(
        id="N31",
        breaks="the port of a rule is matched against the Service's",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/905",
        spares=SPARED,
        turns=(Turn("NPR-09/*"),),
        plane=allows(lambda one: one if one.ports is None else replace(one, ports=tuple(_by_service(port) for port in one.ports))),
    ),
    Fault(
        id="N33",
        breaks="traffic from outside meets no ingress policy",
        seen=GITHUB + "antrea-io/antrea/issues/280",
        spares=SPARED,
        turns=(
            Turn("NPB-01b/*", ("outside/b -> *",)),
            Turn("NPB-02b/*", ("outside/b -> *",)),
            Turn("NPP-02c/*", ("outside/* -> *",)),
            # Unbroken, the node of the pod alone lets it in: one flow in these brackets.
            Turn("NPB-06b/*", sees="observed: answered by x/a (outside/a -> only-x-a (NodePort of lab-1) TCP/?????, outside/a -> *"),
            Turn("NPT-06d/*", ("outside/* -> *",)),
            Turn("NPT-06e/*", sees="*observed: answered (outside/*"),
            Turn("NPT-06f/*", sees="*answered (y/a -> only-a (NodePort of lab-1) TCP/?????, y/a -> only-a *"),
        ),
        plane=isolations(_nodes_let_in),
    ),
    Fault(
        id="N39",
        breaks="over IPv6 an isolated pod finds no neighbours any more",
        seen=GITHUB + "openshift/ovn-kubernetes/issues/1046",
        spares=SPARED,
        turns=(Turn("NPP-02a/tcp/ipv6/*", ("y/* -> x/*",)), Turn("NPP-07b/tcp/ipv6/*", ("x/* -> y/*", "y/* -> x/*"))),
        plane=_without_neighbours,
    ),
    Fault(
        id="N40",
        breaks="one node's agent silently stops programming policies",
        seen=GITHUB + "projectcalico/calico/issues/12851",
        spares=SPARED,
        turns=(Turn("NPI-02[ab]/*", ("* -> x/b *", "x/b -> *")), Turn("NPP-01a/*", ("* -> x/b *",)), Turn("NPT-11/*", ("* -> y/b *",))),
        plane=only_on(TWO, isolations(_never_told)),
    ),
    Fault(
        id="N44",
        breaks="a peer that selects nobody lets everybody in",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/85",
        spares=SPARED,
        turns=(
            Turn("NPP-01c/*"),
            Turn("NPP-07f/*", ("x/* -> *",)),
            Turn("NPI-07a/*", ("* -> y/*",)),
            Turn("NPI-07b/*", ("y/* -> *",)),
        ),
        plane=allows(_nothing_is_everything),
    ),
    Fault(
        id="N46",
        breaks="traffic between pods of different nodes has the node's address",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/173",
        spares=SPARED,
        turns=(Turn("POD-06b/*"), Turn("NPP-01[ab]/*", ("x/a -> x/b *", "x/b -> x/[ac] *", "x/c -> x/b *")), Turn("SVC-12/*")),
        rules=lambda text, node: rule("postrouting", f"{_across(node)} masquerade")(text, node),
    ),
    Fault(
        id="N49",
        breaks="UDP meets no policy",
        seen=GITHUB + "kubernetes/kubernetes/issues/102509",
        spares=SPARED,
        turns=(Turn("NPI-02*/udp/*"), Turn("NPT-11/udp/*"), Turn("NPR-01b/*", ("* UDP/*",)), Turn("NPI-04a/udp/*")),
        plane=isolations(_no_udp),
    ),
    Fault(
        id="N50",
        breaks="a denied datagram arrives; only its answer is dropped",
        seen=GITHUB + "kubernetes/kubernetes/issues/102509",
        spares=SPARED,
        turns=(Turn("NPT-11/udp/*"), Turn("NPI-02a/udp/*")),
        rules=lambda text, node: _denied_on_the_way_back(text, node),
    ),
    Fault(
        id="N51",
        breaks="one denied connection in twenty gets through",
        seen=GITHUB + "kubernetes/kubernetes/issues/88698",
        spares=SPARED,
        turns=(Turn("NPI-02[ab]/*"), Turn("NPT-11/*")),
        rules=lambda text, _node: _leaking(text, one_in=20),
    ),
    Fault(
        id="N51b",
        breaks="one denied connection in a thousand gets through",
        seen=GITHUB + "kubernetes/kubernetes/issues/88698",
        spares=SPARED,
        turns=(Turn("NPI-02a/*"),),
        burst=3000,
        rules=lambda text, _node: _leaking(text, one_in=1000),
    ),
    Fault(
        id="N52",
        breaks="an egress rule's peers of the policy's own namespace are those of all namespaces",
        seen=GITHUB + "weaveworks/weave/issues/3312",
        spares=SPARED,
        turns=(
            Turn("NPP-07a/*", ("x/* -> y/a *",)),
            Turn("NPP-07e/*", ("x/* -> y/*",)),
            Turn("NPP-01a/*", ("y/a -> x/*",)),
            Turn("NPP-01b/*", ("y/* -> x/*",)),
        ),
        objects=policies(lambda policy: _each_peer(policy, lambda given: [_of_all_namespaces(peer) for peer in given])),
    ),
    Fault(
        id="N53",
        breaks="a policy selects pods of its labels in every namespace",
        seen=GITHUB + "Azure/AKS/issues/1387",
        spares=SPARED,
        turns=(Turn("NPI-06/*", ("* -> y/[ab] *", "* -> z/a *")), Turn("NPI-06b/*", ("y/[ab] -> *", "z/b -> *"))),
        objects=_selecting_everywhere,
    ),
    Fault(
        id="N54",
        breaks="a policy isolates its whole namespace, whatever it selects",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/614",
        spares=SPARED,
        turns=(
            Turn("NPI-05[ab]/*", ("* -> x/c *",)),
            Turn("NPI-05c/*", ("* -> x/*",)),
            Turn("NPI-05d/*", ("x/c -> *",)),
            Turn("NPI-05e/*", ("* -> x/[ac] *",)),
            Turn("NPC-04b/*"),
            Turn("NPC-01[cj]/*"),
        ),
        objects=policies(lambda policy: policy | {"spec": policy["spec"] | {"podSelector": {}}}),
    ),
)


def _of_all_namespaces(peer: Object) -> Object:
    return peer if "ipBlock" in peer or "namespaceSelector" in peer else peer | {"namespaceSelector": {}}


def _knows_its_own(plane: Plane) -> Plane:
    own = {pod.key for pod in plane.own}
    return peers(lambda peer: peer if not peer.pod or peer.pod in own else None, anywhere)(plane)


def _by_service(port: PortRange) -> PortRange:
    """The tests' Services have port 80 in front of 8080: a proxy that does not translate first sees 80 for 8080."""
    swapped = {8080: 80, 80: 8080}
    return replace(port, first=swapped.get(port.first, port.first), last=swapped.get(port.last, port.last))


def _across(node: str) -> str:
    """From pods of this node to pods of the others."""
    own = pod_networks(node)[0]
    return f"ip saddr {own} ip daddr {POD_NETWORKS[0]} ip daddr != {own}"


def _within(node: str) -> str:
    """Between pods of this node."""
    own = pod_networks(node)[0]
    return f"ip saddr {own} ip daddr {own}"


def _services_may_leave(text: str, node: str) -> str:
    """The sender's node takes what was translated for permitted; the receiver's node sees no translation and asks its own rules."""
    sent = f"ct status dnat ip saddr {pod_networks(node)[0]}"
    return text.replace("\t\tip saddr vmap @egress-", f"\t\t{sent} return\n\t\tip saddr vmap @egress-")


def _leaking(text: str, *, one_in: int) -> str:
    return text.replace("\t\tdrop\n", f"\t\tnumgen random mod {one_in} 0 return\n\t\tdrop\n")


def _denied_on_the_way_back(text: str, node: str) -> str:
    """What would be dropped is marked and passes, and what answers a marked flow is dropped."""
    passed = text.replace("\t\tdrop\n", "\t\tmeta l4proto udp ct mark set 0x99 return\n\t\tdrop\n")
    return rule("forward", "ct mark 0x99 ct direction reply drop")(passed, node)
