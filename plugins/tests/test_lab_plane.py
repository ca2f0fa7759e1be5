"""The lab's data plane as a function: what the plan says for objects, and how rules turn into other rules."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from labobjects import addresses, endpoint, namespace, pod, policy, service, slices, snapshot
from netproof.lab.plane import plan
from netproof.lab.plane.model import Allow, Backend, Choice, Frontend, Peer, Plane, PortRange, contains
from netproof.lab.plane.policy import matches
from netproof.lab.plane.reconcile import Edit, Reconciler, blocks, changes
from netproof.lab.plane.text import text
from netproof.lab.seams import NODES, Object, RulesRefused, Runtime, Snapshot

A, B, C = pod("x/a", "lab-1", 10), pod("x/b", "lab-2", 11), pod("x/c", "lab-1", 12)
Y = pod("y/a", "lab-3", 13, ports=[{"name": "web", "containerPort": 8081}])
WHOLE = Edit()
PODS = {"x/a": A, "x/b": B, "x/c": C, "y/a": Y}
ALL = [A, B, C, Y]


def opens(
    given: Snapshot, source: str, destination: str, port: int = 8080, *, protocol: str = "tcp", edit: Edit = WHOLE, family: int = 0
) -> bool:
    """Whether the plans of both ends let a flow pass."""
    ends = {"egress": (source, destination), "ingress": (destination, source)}
    return all(_passes(given, way, near, far, (protocol, port), edit, family) for way, (near, far) in ends.items())


def _passes(given: Snapshot, way: str, near: str, far: str, port: tuple[str, int], edit: Edit, family: int) -> bool:
    pods = PODS | {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one for one in given["Pod"]}
    if near not in pods:
        return True
    node = pods[near]["spec"]["nodeName"]
    plane = edit.plane(plan(edit.objects(given, node), node))
    other = pods[far]["status"]["podIPs"][family]["ip"] if far in pods else far
    isolations = [one for one in plane.isolations if one.pod == near and one.direction == way]
    return all(any(_allows(allow, other, *port) for allow in one.allows) for one in isolations)


def _allows(allow: Allow, address: str, protocol: str, port: int) -> bool:
    peers = allow.peers is None or any(_covers(peer, address) for peer in allow.peers)
    return peers and (allow.ports is None or any(one.protocol == protocol and one.first <= port <= one.last for one in allow.ports))


def _covers(peer: Peer, address: str) -> bool:
    return contains(peer.network, address) and not any(contains(network, address) for network in peer.excepts)


def only(*peers: Object, ports: list[Object] | None = None, subject: Object | None = None) -> Snapshot:
    """All pods, and a policy in x for ingress from these peers."""
    rule: Object = {"from": list(peers)} if peers else {}
    return snapshot(ALL, policy("x/p", subject, ingress=[rule | ({"ports": ports} if ports else {})]))


LABELS = {"app": "web", "tier": "1"}


@pytest.mark.parametrize(
    ("selector", "matched"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "2"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}, True),
        ({"matchExpressions": [{"key": "none", "operator": "In", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "none", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "none", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors(selector: Object, matched: bool) -> None:  # noqa: FBT001
    assert matches(selector, LABELS) is matched


def test_an_empty_value_of_a_label_exists() -> None:
    assert matches({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, {"app": ""})


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        ({}, False, True),
        ({"policyTypes": ["Ingress"]}, False, True),
        ({"policyTypes": ["Egress"]}, True, False),
        ({"policyTypes": ["Ingress", "Egress"]}, False, False),
        ({"egress": [{"to": [{"podSelector": {"matchLabels": {"pod": "no"}}}]}]}, False, False),
        ({"ingress": [{}]}, True, True),
        ({"egress": [{}], "policyTypes": ["Egress"]}, True, True),
        ({"ingress": [{"from": [], "ports": []}]}, True, True),
        ({"ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "no"}}}]}]}, False, True),
    ],
)
def test_which_directions_a_policy_closes(spec: Object, ingress: bool, egress: bool) -> None:  # noqa: FBT001
    given = snapshot(ALL, policy("x/p", {"matchLabels": {"pod": "a"}}, **spec))
    assert (opens(given, "y/a", "x/a"), opens(given, "x/a", "y/a")) == (ingress, egress)
    assert opens(given, "y/a", "x/b")


X_PODS, Y_PODS = (
    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}},
    {"namespaceSelector": {"matchLabels": {"n": "y"}}},
)
NAMED_A = {"podSelector": {"matchLabels": {"pod": "a"}}}


@pytest.mark.parametrize(
    ("peers", "sources"),
    [
        ([NAMED_A], {"x/a"}),
        ([{"podSelector": {}}], {"x/a", "x/c"}),
        ([{"namespaceSelector": {}}], {"x/a", "x/c", "y/a"}),
        ([{"namespaceSelector": {}, **NAMED_A}], {"x/a", "y/a"}),
        ([X_PODS, Y_PODS], {"x/a", "x/c", "y/a"}),
        ([Y_PODS, NAMED_A], {"x/a", "y/a"}),
        ([{**Y_PODS, "podSelector": {"matchLabels": {"pod": "c"}}}], set()),
        ([{"ipBlock": {"cidr": "10.244.1.0/24"}}], {"x/a", "x/c"}),
        ([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.1.12/32", "10.244.3.0/24"]}}], {"x/a"}),
        ([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.1.0/24"]}}, NAMED_A], {"x/a", "y/a"}),
        ([{"ipBlock": {"cidr": "fd00::/16"}}], set()),
    ],
)
def test_peers(peers: list[Object], sources: set[str]) -> None:
    given = snapshot(ALL, namespace("x"), namespace("y", n="y"), policy("x/p", {"matchLabels": {"pod": "b"}}, ingress=[{"from": peers}]))
    mirrored = {"policyTypes": ["Egress"], "egress": [{"to": peers}]}
    outward = snapshot(ALL, namespace("x"), namespace("y", n="y"), policy("x/p", {"matchLabels": {"pod": "b"}}, **mirrored))
    assert {key for key in ("x/a", "x/c", "y/a") if opens(given, key, "x/b")} == sources
    assert {key for key in ("x/a", "x/c", "y/a") if opens(outward, "x/b", key)} == sources


def test_ipv6_blocks() -> None:
    given = only({"ipBlock": {"cidr": "fd00:244::/48", "except": ["fd00:244:0:1::c/128"]}}, subject={"matchLabels": {"pod": "b"}})
    assert [opens(given, key, "x/b", family=1) for key in ("x/a", "x/c", "y/a")] == [True, False, True]


@pytest.mark.parametrize(
    ("ports", "open_"),
    [
        ([{"port": 80}], {("tcp", 80)}),
        ([{"port": 80, "protocol": "UDP"}], {("udp", 80)}),
        ([{"protocol": "UDP"}], {("udp", 80), ("udp", 5353), ("udp", 90)}),
        ([{"port": 80, "endPort": 90}], {("tcp", 80), ("tcp", 90)}),
        ([{"port": 81, "endPort": 90}, {"port": 80, "protocol": "SCTP"}], {("tcp", 90), ("sctp", 80)}),
        ([{"port": "web"}], {("tcp", 8080)}),
        ([{"port": "web", "protocol": "UDP"}], set()),
        ([{"port": "dns", "protocol": "UDP"}, {"port": "none"}], {("udp", 5353)}),
    ],
)
def test_ports(ports: list[Object], open_: set[tuple[str, int]]) -> None:
    tried = [("tcp", 80), ("tcp", 90), ("tcp", 91), ("tcp", 8080), ("udp", 80), ("udp", 90), ("udp", 5353), ("sctp", 80)]
    inward = only(ports=ports)
    outward = snapshot(ALL, policy("x/p", policyTypes=["Egress"], egress=[{"ports": ports}]))
    for given in (inward, outward):
        assert {(protocol, port) for protocol, port in tried if opens(given, "x/a", "x/b", port, protocol=protocol)} == open_


def test_a_named_port_is_that_of_the_destination() -> None:
    inward = snapshot(ALL, policy("x/p", ingress=[{"ports": [{"port": "web"}]}]), policy("y/p", ingress=[{"ports": [{"port": "web"}]}]))
    outward = snapshot(ALL, policy("x/p", policyTypes=["Egress"], egress=[{"to": [{"namespaceSelector": {}}], "ports": [{"port": "web"}]}]))
    for given in (inward, outward):
        assert [opens(given, "x/a", to, port) for to in ("x/b", "y/a") for port in (8080, 8081)] == [True, False, False, True]


def test_a_named_port_of_a_block_is_that_of_the_pods_in_it() -> None:
    block = {"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.2.0/24"]}}
    given = snapshot(ALL, policy("x/p", policyTypes=["Egress"], egress=[{"to": [block], "ports": [{"port": "web"}]}]))
    assert [opens(given, "x/a", to, port) for to in ("x/b", "y/a") for port in (8080, 8081)] == [False, False, False, True]


def test_policies_add_up_in_any_order() -> None:
    excepting = policy("x/one", ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.1.10/32"]}}]}])
    allowing = policy("x/two", ingress=[{"from": [NAMED_A], "ports": [{"port": 80}]}])
    for given in (snapshot(ALL, excepting, allowing), snapshot(ALL, allowing, excepting)):
        assert [opens(given, "x/a", "x/b", 80), opens(given, "x/a", "x/b", 81), opens(given, "y/a", "x/b", 81)] == [True, False, True]


@pytest.mark.parametrize(
    "dead", [pod("x/d", "lab-1", 14, phase="Succeeded"), pod("x/d", "lab-1", 14, phase="Failed"), pod("x/d", "lab-1", 14, hostNetwork=True)]
)
def test_pods_without_a_network_of_their_own_are_no_peers_and_no_subjects(dead: Object) -> None:
    plane = plan(snapshot(ALL, dead, policy("x/p", ingress=[{"from": [{"podSelector": {}}]}])), "lab-1")
    assert "x/d" not in {one.pod for one in plane.isolations}
    assert "x/d" not in {peer.pod for one in plane.isolations for allow in one.allows for peer in allow.peers or ()}


def test_a_pod_without_an_address_waits() -> None:
    new = pod("x/d", "lab-1", 14)
    new["status"] = {"phase": "Pending"}
    assert [one.pod for one in plan(snapshot(new, policy("x/p")), "lab-1").isolations] == []


# --- Services ---


def front(given: Snapshot, node: str = "lab-1", address: str = "10.96.1.1", port: int = 80, *, protocol: str = "tcp") -> Frontend:
    return next(one for one in plan(given, node).frontends if one.place == (address, protocol, port))


def names(choice: Choice | None) -> set[str]:
    known = {addresses(one["spec"]["nodeName"], number)[0]: key for number, (key, one) in enumerate(PODS.items(), 10)}
    return {known[one.address] for one in choice.backends} if choice else set()


def test_who_is_an_endpoint() -> None:
    ready, unready = endpoint(B), endpoint(C, ready=False, serving=False)
    ending, ended = endpoint(A, ready=False, terminating=True), endpoint(A, ready=False, serving=False, terminating=True)
    expected = [
        ((ready, unready, ending), {"x/b"}),
        ((unready, ending), {"x/a"}),
        ((unready, ended), set()),
        ((endpoint(C, serving=False),), {"x/c"}),
    ]
    for endpoints, backends in expected:
        assert names(front(snapshot(service("x/web", 1), slices("x/web", *endpoints))).inside) == backends


def test_conditions_that_are_not_given_mean_ready() -> None:
    assert names(front(snapshot(service("x/web", 1), slices("x/web", (A, {})))).inside) == {"x/a"}


@pytest.mark.parametrize(
    ("spec", "inside", "outside"),
    [
        ({}, {"x/a", "x/b"}, {"x/a", "x/b"}),
        ({"externalTrafficPolicy": "Local"}, {"x/a", "x/b"}, {"x/a"}),
        ({"internalTrafficPolicy": "Local"}, {"x/a"}, {"x/a", "x/b"}),
    ],
)
def test_traffic_policies(spec: Object, inside: object, outside: object) -> None:
    given = snapshot(service("x/web", 1, type="NodePort", port={"nodePort": 30080}, **spec), slices("x/web", A, B))
    vip, node_port = front(given), front(given, address="172.30.0.11", port=30080)
    assert vip.outside is None
    assert (names(vip.inside), names(node_port.outside), names(node_port.inside)) == (inside, outside, {"x/a", "x/b"})
    assert node_port.outside
    assert node_port.outside.masquerade is ("externalTrafficPolicy" not in spec)


def test_local_traffic_without_a_local_endpoint() -> None:
    spec = {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}
    local = service("x/web", 1, type="NodePort", port={"nodePort": 30080}, **spec)
    vip, node_port = (
        front(snapshot(local, slices("x/web", B)), address=one, port=port) for one, port in (("10.96.1.1", 80), ("172.30.0.11", 30080))
    )
    assert (vip.inside.otherwise, node_port.outside and node_port.outside.otherwise) == ("drop", "drop")
    assert front(snapshot(local)).inside.otherwise == "reject"
    terminating = endpoint(A, ready=False, terminating=True)
    assert names(front(snapshot(local, slices("x/web", terminating, B))).inside) == {"x/a"}


def test_all_addresses_of_a_balanced_service() -> None:
    given = service(
        "x/web", 1, type="LoadBalancer", balancer=["172.31.0.1", "fd00:31::1"], externalIPs=["172.31.0.9"], port={"nodePort": 30080}
    )
    places = {one.place[0::2] for one in plan(snapshot(given), "lab-2").frontends}
    vips, nodes = {("10.96.1.1", 80), ("fd00:96::1:1", 80)}, {("172.30.0.12", 30080), ("fd00:30::c", 30080)}
    assert places == vips | nodes | {("172.31.0.1", 80), ("fd00:31::1", 80), ("172.31.0.9", 80)}


@pytest.mark.parametrize(
    "given",
    [
        service("x/web", 1, clusterIP="None", clusterIPs=["None"]),
        service("x/web", 1, type="ExternalName", clusterIP="", clusterIPs=[]),
        service("x/web", 1)
        | {"metadata": {"name": "web", "namespace": "x", "labels": {"service.kubernetes.io/service-proxy-name": "other"}}},
    ],
)
def test_services_that_have_no_frontend(given: Object) -> None:
    assert plan(snapshot(given, slices("x/web", A)), "lab-1").frontends == ()


def test_the_older_of_two_services_keeps_an_address() -> None:
    young, old = (service(f"x/{name}", number, externalIPs=["172.31.0.9"]) for number, name in enumerate(("a", "b"), 1))
    young["metadata"]["creationTimestamp"], old["metadata"]["creationTimestamp"] = "2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z"
    assert front(snapshot(young, old), address="172.31.0.9").name == "x/b:web"


def test_ports_of_slices_are_found_by_name_and_protocol() -> None:
    two = [{"name": "web", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 80, "protocol": "UDP"}]
    given = snapshot(
        service("x/web", 1, ports=two),
        slices("x/web", A),
        slices("x/web", B, port=8081),
        slices("x/web", C, name="dns", protocol="UDP", port=53),
    )
    assert {(one.address, one.port) for one in front(given).inside.backends} == {("10.244.1.10", 8080), ("10.244.2.11", 8081)}
    assert front(given, protocol="udp").inside.backends == (Backend("10.244.1.12", 53, "lab-1"),)


# --- Rules ---


def rich() -> Snapshot:
    sticky = {"sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local"}
    balanced = service(
        "x/lb", 2, type="LoadBalancer", balancer=["172.31.0.1"], loadBalancerSourceRanges=["10.0.0.0/8", "fd00::/16"], **sticky
    )
    blocks = [
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.1.0/24", "10.244.1.0/25"]}},
        {"ipBlock": {"cidr": "10.1.0.0/16"}},
        {"podSelector": {}},
    ]
    ports = [{"port": 80, "endPort": 90}, {"port": 85}, {"port": "web"}, {"protocol": "SCTP", "port": 1}, {"protocol": "UDP"}]
    strict = policy(
        "x/p", policyTypes=["Ingress", "Egress"], ingress=[{"from": blocks, "ports": ports}], egress=[{"to": blocks, "ports": ports}]
    )
    return snapshot(ALL, service("x/web", 1), slices("x/web", A, B), balanced, slices("x/lb", A, B), service("x/none", 3), strict)


def test_equal_objects_in_another_order_give_the_same_rules() -> None:
    given = rich()
    turned = {kind: list(reversed(objects)) for kind, objects in given.items()}
    assert text(plan(given, "lab-1")) == text(plan(turned, "lab-1"))


def test_equal_rules_need_no_transaction() -> None:
    rules = text(plan(rich(), "lab-1"))
    assert changes(blocks(rules), blocks(rules)) == []


def test_a_change_touches_what_differs_alone() -> None:
    before, after = (
        text(plan(given, "lab-1")) for given in (snapshot(ALL, service("x/web", 1)), snapshot(ALL, service("x/web", 1), policy("x/p")))
    )
    (change,) = changes(blocks(before), blocks(after))
    assert "frontends-" not in change.partition("flush chain inet lab prerouting")[0]
    assert "add chain inet lab ingress-" in change


def test_what_nothing_leads_to_lingers() -> None:
    """A packet may still be among the old rules: what they name goes in a later transaction, and comes back as it is meanwhile."""
    bare, policed = (blocks(text(plan(given, "lab-1"))) for given in (snapshot(ALL), snapshot(ALL, policy("x/p"))))
    added = [name for name in policed if name not in bare]
    (change,) = changes(policed, bare)
    assert "delete" not in change
    assert "add chain inet lab ingress-" not in "".join(changes({**policed, **bare}, policed))
    (change,) = changes({**policed, **bare}, bare, over=added)
    assert change.count("delete ") == len(added)


def test_the_rules_of_the_hooks_hold_no_sets_of_their_own() -> None:
    hooks = [command for block in blocks(text(plan(rich(), "lab-1"))).values() if " hook " in block[0] for command in block[1:]]
    assert hooks
    assert not [rule for rule in hooks if "{" in rule and "vmap @" not in rule]


def test_edited_rules_may_use_a_name_twice() -> None:
    rules = text(plan(rich(), "lab-1"))
    (change,) = changes(blocks(rules), blocks(rules.replace("reject with icmpx port-unreachable", "drop")))
    assert change.startswith("table inet lab\ndelete table inet lab\n")


class Recorder:
    """A Runtime that takes all rules, or none."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.forgotten: list[tuple[str, str, int, str]] = []
        self.refuses = False

    async def apply(self, node: str, rules: str) -> None:
        if self.refuses:
            raise RulesRefused("no")
        self.applied.append(node)
        assert rules

    def forget(self, node: str, address: str, port: int, protocol: str) -> int:
        self.forgotten.append((node, address, port, protocol))
        return 0


def reconcile(machine: Recorder, *given: Snapshot, edit: Edit = WHOLE) -> None:
    reconcilers = [Reconciler(cast("Runtime", machine), node, edit) for node in NODES]
    for one in given:
        for reconciler in reconcilers:
            asyncio.run(reconciler.reconcile(one))


def test_a_node_whose_rules_stay_the_same_is_left_alone() -> None:
    machine = Recorder()
    reconcile(machine, snapshot(ALL), snapshot(ALL), snapshot(ALL, policy("x/p", {"matchLabels": {"pod": "b"}})))
    assert machine.applied == ["lab-1", "lab-2", "lab-3", "lab-2"]


def test_a_refusal_is_told_and_tried_again() -> None:
    machine = Recorder()
    reconciler = Reconciler(cast("Runtime", machine), "lab-1")
    machine.refuses = True
    with pytest.raises(RulesRefused):
        asyncio.run(reconciler.reconcile(snapshot(ALL)))
    assert machine.applied == []
    machine.refuses = False
    asyncio.run(reconciler.reconcile(snapshot(ALL)))
    assert machine.applied == ["lab-1"]


def behind(*endpoints: Any) -> Snapshot:
    dns = service("x/dns", 1, port={"name": "dns", "port": 53, "protocol": "UDP"}, clusterIPs=["10.96.1.1"])
    return snapshot(dns, slices("x/dns", *endpoints, name="dns", protocol="UDP"))


@pytest.mark.parametrize(
    ("before", "after", "times"),
    [
        (behind(), behind(), 0),
        (behind(), behind(A), 1),
        (snapshot(), behind(A), 1),
        (behind(A), behind(A, B), 0),
        (behind(A, B), behind(B), 1),
        (behind(A, B), behind(endpoint(A, ready=False, terminating=True), B), 0),
        (behind(endpoint(A, ready=False, terminating=True), B), behind(B), 1),
        (behind(A, B), behind(endpoint(A, ready=False, serving=False), B), 1),
        (behind(A), snapshot(), 1),
    ],
)
def test_udp_flows_that_are_forgotten(before: Snapshot, after: Snapshot, times: int) -> None:
    machine = Recorder()
    reconcile(machine, before)
    first = len(machine.forgotten)
    machine = Recorder()
    reconcile(machine, before, after)
    assert machine.forgotten[first:] == [(node, "10.96.1.1", 53, "udp") for node in ("lab-1", "lab-2", "lab-3")] * times


# --- Faults: each is an edit of a line or two ---


def on_allows(change: Callable[[Allow], Allow]) -> Edit:
    return Edit(
        plane=lambda plane: replace(
            plane, isolations=tuple(replace(one, allows=tuple(map(change, one.allows))) for one in plane.isolations)
        )
    )


def on_frontends(change: Callable[[Frontend], Frontend]) -> Edit:
    return Edit(plane=lambda plane: replace(plane, frontends=tuple(map(change, plane.frontends))))


def without_excepts(allow: Allow) -> Allow:
    return replace(allow, peers=allow.peers and tuple(replace(peer, excepts=()) for peer in allow.peers))


def first_port_only(allow: Allow) -> Allow:
    return replace(allow, ports=allow.ports and tuple(replace(port, last=port.first) for port in allow.ports))


def blocks_without_pods(allow: Allow) -> Allow:
    return replace(
        allow,
        peers=allow.peers and tuple(peer if peer.pod else replace(peer, excepts=(*peer.excepts, "10.244.0.0/16")) for peer in allow.peers),
    )


def isolate_both(plane: Plane) -> Plane:
    more = tuple(replace(one, direction="egress", allows=()) for one in plane.isolations if one.direction == "ingress")
    return replace(plane, isolations=plane.isolations + more)


def last_peer_only(given: Snapshot, _node: str) -> Snapshot:
    broken = copy.deepcopy(dict(given))
    for rule in (rule for one in broken["NetworkPolicy"] for rule in one["spec"]["ingress"]):
        rule["from"] = rule["from"][-1:]
    return broken


def name_of_the_source(plane: Plane) -> Plane:
    ports = {(pod.key, name): number for pod in plane.pods for (name, _), number in pod.ports.items()}

    def resolved(allow: Allow, port: PortRange) -> PortRange:
        number = next((ports[peer.pod, port.name] for peer in allow.peers or () if (peer.pod, port.name) in ports), port.first)
        return replace(port, first=number, last=number)

    return on_allows(lambda allow: replace(allow, ports=allow.ports and tuple(resolved(allow, port) for port in allow.ports))).plane(plane)


BLOCK = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.1.12/32"]}}
FROM_Y = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}}
POLICY_FAULTS = {
    "except-ignored": (only(BLOCK), on_allows(without_excepts), ("x/c", "x/b", 8080)),
    "end-port-ignored": (only(ports=[{"port": 80, "endPort": 90}]), on_allows(first_port_only), ("x/a", "x/b", 90)),
    "block-without-pods": (only(BLOCK), on_allows(blocks_without_pods), ("x/a", "x/b", 8080)),
    "both-isolated": (only(), Edit(plane=isolate_both), ("x/a", "y/a", 8080)),
    "name-of-the-source": (only(FROM_Y, ports=[{"port": "web"}]), Edit(plane=name_of_the_source), ("y/a", "x/b", 8080)),
    "last-peer-only": (only(FROM_Y, NAMED_A), Edit(objects=last_peer_only), ("y/a", "x/b", 8080)),
}


@pytest.mark.parametrize("name", POLICY_FAULTS)
def test_a_broken_policy_is_an_edit_of_the_objects_or_the_plan(name: str) -> None:
    given, edit, flow = POLICY_FAULTS[name]
    assert opens(given, *flow) is not opens(given, *flow, edit=edit)


SERVICE_FAULTS: dict[str, Callable[[Frontend], Frontend]] = {
    "affinity-ignored": lambda one: replace(one, affinity=None),
    "masquerade-on-cluster-ip": lambda one: replace(one, inside=replace(one.inside, masquerade=True)),
    "remote-endpoints-under-local": lambda one: replace(one, outside=one.outside and one.inside),
    "ranges-ignored": lambda one: replace(one, source_ranges=None),
    "silent-without-endpoints": lambda one: replace(one, inside=replace(one.inside, otherwise="drop")),
}


@pytest.mark.parametrize("name", SERVICE_FAULTS)
def test_a_broken_service_is_an_edit_of_the_plan(name: str) -> None:
    plane = plan(rich(), "lab-3")
    whole, broken = text(plane), text(on_frontends(SERVICE_FAULTS[name]).plane(plane))
    assert whole != broken
    assert ("clients-" in broken) is (name != "affinity-ignored")
    assert ("10.0.0.0/8 drop" in broken) is (name != "ranges-ignored")


def test_flows_are_kept_by_an_edit() -> None:
    machine = Recorder()
    reconcile(machine, behind(A), behind(), edit=Edit(forgets=lambda frontend: False))
    assert machine.forgotten == []
