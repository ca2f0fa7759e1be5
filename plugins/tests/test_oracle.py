"""The oracle: each field on hand-written worlds, laws that hold of all worlds, and a second reading of the text that must agree."""

from __future__ import annotations

import ipaddress
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netproof.lab.plane.model import Allow, contains
from netproof.lab.plane.policy import isolations, pods
from netproof.model.flow import SCTP, TCP, UDP, Family, Port
from netproof.model.history import Decision
from netproof.oracle import Clause, Direction, Endpoint, Isolation, Outside, Pod, PolicyError, Snapshot, decide
from netproof.oracle.decide import NAME_LABEL

Object = dict[str, Any]
ALLOW, DENY, OBSERVE = Decision.ALLOW, Decision.DENY, Decision.OBSERVE
WEB = TCP(8080)
INGRESS, EGRESS = "Ingress", "Egress"
TRAITS = {"a": {"rank": "high"}, "b": {"tier": "back", "rank": ""}, "c": {"tier": "front"}}
NODES = {"one": ("192.168.0.1", "fd00:ff::1"), "two": ("192.168.0.2", "fd00:ff::2")}
NAMESPACES: dict[str, dict[str, str]] = {"x": {"ns": "x"}, "y": {"ns": "y", "team": ""}, "z": {}}
OUTSIDERS = (Outside("203.0.113.7", "outside/a"), Outside("203.0.113.200", "outside/b"))


def ports_of(name: str) -> frozenset[tuple[str, Port]]:
    main, other = (8081, 8080) if name == "b" else (8080, 8081)
    return frozenset({("web", TCP(main)), ("web-udp", UDP(main)), ("other", TCP(other)), ("both", TCP(9)), ("both", UDP(10))})


def pod(key: str, **changed: Any) -> Pod:
    """A pod of the world: x, y, z with a, b, c; a and c on one node, b on another."""
    namespace, name = key.split("/")
    number = "xyz".index(namespace) * 3 + "abc".index(name[0]) + 10
    addresses = {Family.IPV4: f"10.0.{1 if name == 'b' else 0}.{number}", Family.IPV6: f"fd00:{1 if name == 'b' else 0}::{number}"}
    made = Pod(namespace, name, "two" if name == "b" else "one", addresses, {"pod": name, **TRAITS.get(name, {})}, ports_of(name))
    return replace(made, **changed)


PODS = tuple(pod(f"{letter}/{name}") for letter in "xyz" for name in "abc")
PAIRS = list(itertools.permutations(PODS, 2))


def world(*policies: Object, pods: Sequence[Pod] = PODS, namespaces: dict[str, dict[str, str]] = NAMESPACES) -> Snapshot:
    return Snapshot(policies, pods, namespaces, NODES)


def policy(
    namespace: str = "x", *, name: str = "p", pods: Object | None = None, types: Sequence[str] | None = None, **rules: Any
) -> Object:
    spec: Object = {"podSelector": pods or {}, **rules}
    if types is not None:
        spec["policyTypes"] = list(types)
    return {"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def into(*peers: Object, ports: Sequence[Object] | None = None) -> Object:
    """Isolates x for ingress and lets these in."""
    return policy(types=[INGRESS], ingress=[{"from": list(peers), "ports": list(ports or ())}])


def out_to(*peers: Object, ports: Sequence[Object] | None = None) -> Object:
    """Isolates x for egress and lets it send to these."""
    return policy(types=[EGRESS], egress=[{"to": list(peers), "ports": list(ports or ())}])


def match(**labels: str) -> Object:
    return {"matchLabels": labels}


def expression(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


def block(cidr: str, *holes: str) -> Object:
    return {"ipBlock": {"cidr": cidr, **({"except": list(holes)} if holes else {})}}


def end(world_: Snapshot, name: str) -> Endpoint:
    return world_.pod(name) if "/" in name else world_.at(name)


def decision(world_: Snapshot, source: str, destination: str, port: Port = WEB, family: Family | None = None) -> Decision:
    return decide(world_, end(world_, source), end(world_, destination), port, family).decision


def sources_of(policy_: Object, destination: str = "x/a", port: Port = WEB) -> set[str]:
    """The pods that reach x/a, which itself does not count."""
    seen = world(policy_)
    return {p.key for p in PODS if p.key != destination and decision(seen, p.key, destination, port) is ALLOW}


def keys(*patterns: str) -> set[str]:
    """`x/bc y` -> x/b, x/c, all of y."""
    return {f"{ns}/{name}" for ns, _, names in (pattern.partition("/") for pattern in patterns) for name in names or "abc"}


# isolation


def test_without_policies_everything_is_allowed() -> None:
    ruling = decide(world(), pod("x/a"), pod("y/b"), WEB)
    assert (ruling.decision, ruling.judged, ruling.allowed_by, ruling.denied_by) == (ALLOW, True, (), ())
    assert ruling.why == "no policy isolates x/a for egress or y/b for ingress"


@pytest.mark.parametrize(
    ("spec", "closed_in", "closed_out"),
    [
        ({}, True, False),  # policyTypes implied
        ({"ingress": []}, True, False),
        ({"ingress": None, "policyTypes": None}, True, False),
        ({"policyTypes": []}, True, False),
        ({"egress": []}, True, False),  # an empty list holds no egress rules
        ({"egress": [{"ports": [{"port": 1}]}]}, True, True),
        ({"egress": [{}]}, True, False),  # isolated for egress, and everything is allowed
        ({"policyTypes": ["Ingress"], "egress": [{"ports": [{"port": 1}]}]}, True, False),
        ({"policyTypes": ["Egress"]}, False, True),
        ({"policyTypes": ["Egress"], "ingress": [{"ports": [{"port": 1}]}]}, False, True),
        ({"policyTypes": ["Ingress", "Egress"]}, True, True),
        ({"policyTypes": ["Ingress", "Egress"], "ingress": [{}]}, False, True),
        ({"policyTypes": ["Ingress"], "ingress": [{"from": [], "ports": []}]}, False, False),
        ({"policyTypes": ["Ingress"], "ingress": [{"from": None, "ports": None}]}, False, False),
    ],
)
def test_directions_and_empty_lists(spec: Object, closed_in: bool, closed_out: bool) -> None:  # noqa: FBT001
    seen = world({"metadata": {"name": "p", "namespace": "x"}, "spec": spec})
    assert decision(seen, "y/a", "x/b") is (DENY if closed_in else ALLOW)
    assert decision(seen, "x/b", "y/a") is (DENY if closed_out else ALLOW)
    assert decision(seen, "y/a", "z/b") is ALLOW


def test_a_denial_names_the_side_and_its_policies() -> None:
    seen = world(policy(name="two", types=[INGRESS]), policy(name="one", types=[INGRESS]), policy("y", name="out", types=[EGRESS]))
    ruling = decide(seen, pod("y/a"), pod("x/b"), WEB)
    assert ruling.denied_by == (Isolation("y/a", Direction.EGRESS, ("y/out",)), Isolation("x/b", Direction.INGRESS, ("x/one", "x/two")))
    assert ruling.why == (
        "y/a is isolated for egress by y/out, and no rule there allows TCP/8080 to x/b; "
        "x/b is isolated for ingress by x/one, x/two, and no rule there allows TCP/8080 from y/a"
    )


def test_an_allowed_flow_names_its_rules_on_both_sides() -> None:
    rules = [
        {"ports": [{"port": 1}]},
        {"from": [{"podSelector": match(pod="a"), "namespaceSelector": match(ns="y")}], "ports": [{"port": 8080}]},
    ]
    seen = world(policy(name="in", types=[INGRESS], ingress=rules), policy("y", name="out", types=[EGRESS], egress=[{}]))
    ruling = decide(seen, pod("y/a"), pod("x/b"), WEB)
    assert ruling.allowed_by == (
        Clause("y/out", Direction.EGRESS, 0, "to anybody on any port"),
        Clause("x/in", Direction.INGRESS, 1, "from pods pod=a of namespaces ns=y on TCP/8080"),
    )
    assert ruling.why == (
        "allowed by y/out egress[0] (to anybody on any port) and by x/in ingress[1] (from pods pod=a of namespaces ns=y on TCP/8080)"
    )


def test_what_one_side_allows_is_kept_where_the_other_denies() -> None:
    ruling = decide(world(policy(types=[INGRESS]), policy("y", types=[EGRESS], egress=[{}])), pod("y/a"), pod("x/b"), WEB)
    assert [clause.policy for clause in ruling.allowed_by] == ["y/p"]
    assert [isolation.pod for isolation in ruling.denied_by] == ["x/b"]


def test_a_policy_acts_in_its_namespace() -> None:
    seen = world(policy("x", pods=match(pod="a"), types=[INGRESS]))
    assert {p.key for p in PODS if p.key != "z/c" and decision(seen, "z/c", p.key) is DENY} == {"x/a"}


# selectors


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ({}, "bc"),
        (match(pod="b"), "b"),
        (match(pod="b", tier="front"), ""),
        (match(rank=""), "b"),  # an empty value is a value
        (expression("rank", "In", ""), "b"),
        (expression("pod", "In", "b", "c"), "bc"),
        (expression("tier", "NotIn", "front"), "b"),
        (expression("rank", "NotIn", ""), "c"),  # c lacks the key
        (expression("rank", "NotIn", "high"), "bc"),
        (expression("none", "NotIn", "any"), "bc"),
        (expression("rank", "Exists"), "b"),
        (expression("rank", "DoesNotExist"), "c"),
        (expression("none", "Exists"), ""),
        ({"matchLabels": {"pod": "b"}, **expression("tier", "NotIn", "back")}, ""),
        ({"matchLabels": {"pod": "b"}, **expression("tier", "Exists")}, "b"),
        (
            {"matchExpressions": [*expression("pod", "NotIn", "c")["matchExpressions"], *expression("tier", "Exists")["matchExpressions"]]},
            "b",
        ),
        ({"matchLabels": None, "matchExpressions": None}, "bc"),
    ],
)
def test_selectors(selector: Object, chosen: str) -> None:
    """As a peer they choose among x/b and x/c; as a subject they isolate the same ones."""
    assert sources_of(into({"podSelector": selector})) == {f"x/{name}" for name in chosen}
    seen = world(policy(pods=selector, types=[INGRESS]))
    assert {name for name in "bc" if decision(seen, "y/a", f"x/{name}") is DENY} == set(chosen)


# peers


@pytest.mark.parametrize(
    ("peers", "chosen"),
    [
        ([{"podSelector": {}}], keys("x/bc")),
        ([{"podSelector": match(pod="b")}], keys("x/b")),
        ([{"namespaceSelector": {}}], keys("x/bc", "y", "z")),
        ([{"namespaceSelector": match(ns="y")}], keys("y")),
        ([{"namespaceSelector": match(ns="x")}], keys("x/bc")),
        ([{"namespaceSelector": match(team="")}], keys("y")),
        ([{"namespaceSelector": expression("ns", "NotIn", "y")}], keys("x/bc", "z")),  # z has no such label
        ([{"namespaceSelector": match(**{NAME_LABEL: "z"})}], keys("z")),
        ([{"namespaceSelector": match(ns="y"), "podSelector": match(pod="b")}], keys("y/b")),
        ([{"namespaceSelector": {}, "podSelector": match(pod="b")}], keys("x/b", "y/b", "z/b")),
        ([{"namespaceSelector": match(ns="y"), "podSelector": {}}], keys("y")),
        ([{"namespaceSelector": None, "podSelector": match(pod="b")}], keys("x/b")),
        ([{"namespaceSelector": match(ns="y")}, {"podSelector": match(pod="b")}], keys("x/b", "y")),
        ([{"podSelector": match(pod="nobody")}], set()),
        ([block("10.0.1.0/24")], keys("x/b", "y/b", "z/b")),
        ([block("10.0.1.77/24")], keys("x/b", "y/b", "z/b")),  # bits beyond the prefix say nothing
        ([block("10.0.0.0/23", "10.0.0.0/24")], keys("x/b", "y/b", "z/b")),
        ([block("10.0.0.0/23", "10.0.0.0/24", "10.0.1.11/32")], keys("y/b", "z/b")),
        ([block("0.0.0.0/0")], keys("x/bc", "y", "z")),
        ([block("fd00:1::/64")], set()),  # this flow is IPv4
        ([block("10.0.0.0/8", "10.0.0.0/23"), {"podSelector": match(pod="b")}], keys("x/b")),
        ([block("10.0.1.0/24", "10.0.1.11/32"), block("10.0.1.11/32")], keys("x/b", "y/b", "z/b")),
    ],
)
def test_peers(peers: list[Object], chosen: set[str]) -> None:
    """The same peers mean the same pods as sources of ingress and as destinations of egress."""
    assert sources_of(into(*peers)) == chosen
    seen = world(out_to(*peers))
    assert {p.key for p in PODS if p.key != "x/a" and decision(seen, "x/a", p.key) is ALLOW} == chosen


def test_the_name_of_a_namespace_is_the_control_planes() -> None:
    seen = world(into({"namespaceSelector": match(**{NAME_LABEL: "y"})}), namespaces=NAMESPACES | {"z": {NAME_LABEL: "y"}})
    assert (decision(seen, "y/a", "x/a"), decision(seen, "z/a", "x/a")) == (ALLOW, DENY)


@pytest.mark.parametrize(
    ("family", "cidr", "hole"), [(Family.IPV4, "203.0.113.0/24", "203.0.113.128/25"), (Family.IPV6, "fd00:ee::/32", "fd00:ee::/64")]
)
def test_blocks_outside(family: Family, cidr: str, hole: str) -> None:
    inside, spared = ("203.0.113.7", "203.0.113.200") if family is Family.IPV4 else ("fd00:ee:1::7", "fd00:ee::7")
    for both in (block(cidr, hole), block(cidr, hole, hole)):
        seen = world(into(both), policy("y", types=[EGRESS], egress=[{"to": [both]}]))
        assert [decision(seen, inside, "x/a"), decision(seen, spared, "x/a")] == [ALLOW, DENY]
        assert [decision(seen, "y/a", inside), decision(seen, "y/a", spared)] == [ALLOW, DENY]
    excepted = world(into(block(cidr, hole)), policy(name="other", types=[INGRESS], ingress=[{"from": [block(hole)]}]))
    assert decision(excepted, spared, "x/a") is ALLOW  # an exception is no denial
    assert decide(excepted, Outside(spared), pod("x/a"), WEB).rests_on_block == ""


def test_selectors_never_mean_somebody_outside() -> None:
    seen = world(into({"namespaceSelector": {}}), policy("y", types=[EGRESS], egress=[{"to": [{"namespaceSelector": {}}]}]))
    assert (decision(seen, "203.0.113.7", "x/a"), decision(seen, "y/a", "203.0.113.7")) == (DENY, DENY)


def test_a_block_is_of_the_flows_family() -> None:
    seen = world(into(block("10.0.1.0/24")))
    assert decision(seen, "y/b", "x/a", family=Family.IPV4) is ALLOW
    assert decision(seen, "y/b", "x/a", family=Family.IPV6) is DENY


@pytest.mark.parametrize(
    ("policies", "source", "rests_on"),
    [
        ([into(block("10.0.1.0/24"))], "y/b", "pod"),
        ([into(block("10.0.1.0/24"), {"namespaceSelector": match(ns="y")})], "y/b", ""),
        ([into(block("10.0.1.0/24")), policy(name="q", types=[INGRESS], ingress=[{"from": [{"namespaceSelector": {}}]}])], "y/b", ""),
        ([into(block("10.0.1.0/24")), policy(name="q", types=[INGRESS], ingress=[{}])], "y/b", ""),
        ([into(block("10.0.1.0/24")), policy("y", types=[EGRESS])], "y/b", ""),  # denied, whatever the block means
        ([into({"podSelector": {}}), policy("y", types=[EGRESS], egress=[{"to": [block("10.0.0.10/32")]}])], "y/b", ""),
        ([policy("y", types=[EGRESS], egress=[{"to": [block("10.0.0.10/32")]}])], "y/b", "pod"),
        ([into(block("192.168.0.0/24"))], "192.168.0.2", "node"),
        ([into(block("203.0.113.0/24"))], "203.0.113.7", ""),
    ],
)
def test_what_rests_on_a_block(policies: list[Object], source: str, rests_on: str) -> None:
    seen = world(*policies)
    assert decide(seen, end(seen, source), pod("x/a"), WEB).rests_on_block == rests_on


# ports


@pytest.mark.parametrize(
    ("ports", "opened"),
    [
        (None, {TCP(8079), TCP(8080), TCP(8081), UDP(8080), UDP(8081), SCTP(8080)}),
        ([{}], {TCP(8079), TCP(8080), TCP(8081)}),  # no protocol is TCP
        ([{"port": 8080}], {TCP(8080)}),
        ([{"port": 8080, "protocol": None, "endPort": None}], {TCP(8080)}),
        ([{"protocol": "UDP"}], {UDP(8080), UDP(8081)}),
        ([{"protocol": "SCTP"}], {SCTP(8080)}),
        ([{"protocol": "UDP", "port": 8080}, {"port": 8081}], {UDP(8080), TCP(8081)}),
        ([{"port": 8080, "endPort": 8081}], {TCP(8080), TCP(8081)}),
        ([{"port": 8079, "endPort": 8080}], {TCP(8079), TCP(8080)}),
        ([{"port": 8080, "endPort": 8080}], {TCP(8080)}),
        ([{"protocol": "SCTP", "port": 8000, "endPort": 9000}], {SCTP(8080)}),
        ([{"port": "web"}], {TCP(8080)}),
        ([{"port": "web", "protocol": "UDP"}], set()),  # the name is of another protocol
        ([{"port": "web-udp", "protocol": "UDP"}], {UDP(8080)}),
        ([{"port": "web-udp"}], set()),
        ([{"port": "absent"}], set()),
    ],
)
def test_ports(ports: list[Object] | None, opened: set[Port]) -> None:
    """To x/a, by its ingress and by the sender's egress."""
    asked = [TCP(8079), TCP(8080), TCP(8081), UDP(8080), UDP(8081), SCTP(8080)]
    ingress, egress = world(into(ports=ports)), world(policy("y", types=[EGRESS], egress=[{"ports": ports}]))
    assert {port for port in asked if decision(ingress, "y/b", "x/a", port) is ALLOW} == opened
    assert {port for port in asked if decision(egress, "y/b", "x/a", port) is ALLOW} == opened


def test_a_named_port_is_each_destinations_own() -> None:
    for seen in (world(into(ports=[{"port": "web"}])), world(policy("y", types=[EGRESS], egress=[{"ports": [{"port": "web"}]}]))):
        for destination, number in (("x/a", 8080), ("x/b", 8081)):
            allowed = [port for port in (8080, 8081) if decision(seen, "y/c", destination, TCP(port)) is ALLOW]
            assert allowed == [number]


def test_a_name_may_stand_for_a_port_of_each_protocol() -> None:
    seen = world(into(ports=[{"port": "both"}, {"port": "both", "protocol": "UDP"}]))
    asked = [TCP(9), TCP(10), UDP(9), UDP(10)]
    assert [decision(seen, "y/c", "x/a", port) is ALLOW for port in asked] == [True, False, False, True]


def test_nobody_outside_names_ports() -> None:
    seen = world(out_to(ports=[{"port": "web"}]))
    assert decision(seen, "x/a", "203.0.113.7") is DENY
    assert decision(seen, "203.0.113.7", "x/a") is ALLOW


def test_peers_and_ports_of_a_rule_are_anded_and_rules_are_ored() -> None:
    rules = [
        {"from": [{"podSelector": match(pod="b")}], "ports": [{"port": 1}]},
        {"from": [{"podSelector": match(pod="c")}], "ports": [{"port": 2}]},
    ]
    seen = world(policy(types=[INGRESS], ingress=rules))
    assert [decision(seen, f"x/{name}", "x/a", TCP(n)) is ALLOW for name in "bc" for n in (1, 2)] == [True, False, False, True]


# what is not promised


def test_a_pod_is_not_judged_against_itself() -> None:
    ruling = decide(world(policy(types=[INGRESS, EGRESS])), pod("x/a"), pod("x/a"), WEB)
    assert (ruling.decision, ruling.judged) == (OBSERVE, False)
    assert ruling.why == ruling.not_judged_because == "x/a talks to itself, which no policy can forbid"


def test_own_node_is_not_judged_and_another_is() -> None:
    seen = world(policy(types=[INGRESS, EGRESS]))
    for own in ("192.168.0.1", "fd00:ff:0::1"):
        assert (decision(seen, own, "x/a"), decision(seen, "x/a", own)) == (OBSERVE, OBSERVE)
        assert (decision(seen, own, "x/b"), decision(seen, "x/b", own)) == (DENY, DENY)


def test_host_network_is_not_judged_and_tells_its_nodes_address() -> None:
    host = pod("z/a", host_network=True, addresses={Family.IPV4: "192.168.7.7"}, node="one")
    seen = Snapshot([policy(types=[INGRESS, EGRESS])], [*PODS[:3], host], NAMESPACES)
    ruling = decide(seen, host, pod("x/b"), WEB)
    assert (ruling.decision, ruling.judged) == (OBSERVE, False)
    assert decide(seen, pod("x/b"), host, WEB).decision is OBSERVE
    assert seen.at("192.168.7.7") == Outside("192.168.7.7")
    assert decide(seen, Outside("192.168.7.7"), pod("x/a"), WEB).decision is OBSERVE  # a is on that node
    assert decide(seen, Outside("192.168.7.7"), pod("x/b"), WEB).decision is DENY


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_holds_no_address(phase: str) -> None:
    ended = pod("y/a", phase=phase, name="old", labels={"pod": "old"})
    seen = world(into({"namespaceSelector": {}, "podSelector": match(pod="old")}), pods=[*PODS, ended])
    assert seen.at("10.0.0.13") == pod("y/a")  # who has it now
    assert decision(seen, "10.0.0.13", "x/a") is DENY
    assert not decide(seen, ended, pod("x/a"), WEB).judged


def test_no_policy_concerns_two_outsiders() -> None:
    ruling = decide(world(policy(types=[INGRESS, EGRESS])), *OUTSIDERS, WEB)
    assert (ruling.decision, ruling.judged) == (ALLOW, True)


# wrong input


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (policy(igress=[]), "spec.igress"),
        (policy(ingress={}), "spec.ingress"),
        (policy(types=["ingress"]), "spec.policyTypes[0]"),
        (policy(types=["Ingress"] * 3), "spec.policyTypes"),
        (policy(ingress=[{"to": []}]), "spec.ingress[0].to"),
        (policy(types=[INGRESS], egress=[{"from": []}]), "spec.egress[0].from"),
        (into({}), "spec.ingress[0].from[0]"),
        (into({"podSelector": None}), "spec.ingress[0].from[0]"),
        (into({"podSelector": {}, **block("10.0.0.0/8")}), "spec.ingress[0].from[0]"),
        (into({"podSelector": {}}, {"podSelector": {"pod": "a"}}), "spec.ingress[0].from[1].podSelector.pod"),
        (into({"podSelector": expression("a", "In")}), "spec.ingress[0].from[0].podSelector.matchExpressions[0].values"),
        (into({"podSelector": expression("a", "Exists", "b")}), "spec.ingress[0].from[0].podSelector.matchExpressions[0].values"),
        (into({"podSelector": expression("a", "in", "b")}), "spec.ingress[0].from[0].podSelector.matchExpressions[0].operator"),
        (policy(pods={"matchLabels": {"a": 1}}), "spec.podSelector.matchLabels.a"),
        (into(block("10.0.0.0")), "spec.ingress[0].from[0].ipBlock.cidr"),
        (into(block("10.0.0.0/255.0.0.0")), "spec.ingress[0].from[0].ipBlock.cidr"),
        (into({"ipBlock": {}}), "spec.ingress[0].from[0].ipBlock.cidr"),
        (out_to(block("10.0.0.0/8", "11.0.0.0/16")), "spec.egress[0].to[0].ipBlock.except[0]"),
        (out_to(block("10.0.0.0/8", "10.0.0.0/8")), "spec.egress[0].to[0].ipBlock.except[0]"),
        (out_to(block("10.0.0.0/8", "10.1.0.0/16", "fd00::/64")), "spec.egress[0].to[0].ipBlock.except[1]"),
        (into(ports=[{"protocol": "tcp"}]), "spec.ingress[0].ports[0].protocol"),
        (into(ports=[{"port": 0}]), "spec.ingress[0].ports[0].port"),
        (into(ports=[{"port": True}]), "spec.ingress[0].ports[0].port"),
        (into(ports=[{"port": "80"}]), "spec.ingress[0].ports[0].port"),
        (into(ports=[{"port": "Web"}]), "spec.ingress[0].ports[0].port"),
        (into(ports=[{"port": "web", "endPort": 90}]), "spec.ingress[0].ports[0].endPort"),
        (into(ports=[{"endPort": 90}]), "spec.ingress[0].ports[0].endPort"),
        (into(ports=[{"port": 80, "endPort": 79}]), "spec.ingress[0].ports[0].endPort"),
        (into(ports=[{"port": 80, "endPort": 65536}]), "spec.ingress[0].ports[0].endPort"),
        (policy("nowhere"), "metadata.namespace"),
        (policy() | {"kind": "Service"}, "kind"),
        (policy() | {"apiVersion": "cilium.io/v2"}, "apiVersion"),
    ],
)
def test_a_malformed_policy_is_refused_by_field(wrong: Object, field: str) -> None:
    with pytest.raises(PolicyError) as caught:
        world(wrong)
    assert f": {field} is " in str(caught.value)


def test_a_policy_without_a_name_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"^NetworkPolicy: metadata\.name is missing; expected a text$"):
        world({"metadata": {"namespace": "x"}, "spec": {}})


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: world().pod("x/r"), "there is no pod x/r; there are x/a, x/b"),
        (lambda: decide(world(), pod("x/a", name="q"), pod("x/b"), WEB), "there is no pod x/q"),
        (lambda: decide(world(), pod("x/a", labels={}), pod("x/b"), WEB), "x/a is not the pod of that name in the snapshot"),
        (lambda: decide(world(pods=[pod("x/a", addresses={}), pod("x/b")]), pod("x/a", addresses={}), pod("x/b"), WEB), "no IPv4 address"),
        (lambda: decide(world(), Outside("10.0.0.10"), pod("x/b"), WEB), "not outside: it is the address of x/a"),
        (lambda: decide(world(), Outside("fd00:ee::1"), Outside("203.0.113.7"), WEB), "not an IPv6 address"),
        (lambda: world(pods=[pod("x/a"), pod("x/b", addresses=pod("x/a").addresses)]).at("10.0.0.10"), "the address of x/a and of x/b"),
        (lambda: world(pods=[pod("x/a"), pod("x/a")]), "a pod stands twice"),
        (lambda: world(policy(), policy()), "a policy stands twice"),
        (lambda: world(namespaces={"x": {}}), "y/a is in a namespace that the snapshot does not hold"),
    ],
)
def test_a_question_that_cannot_be_is_refused(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ask()


def test_a_pod_is_read_from_the_api() -> None:
    ports = [{"name": "web", "containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"containerPort": 81}]
    spec = {
        "nodeName": "one",
        "containers": [{"ports": ports}, {}],
        "initContainers": [
            {"ports": [{"name": "gone", "containerPort": 1}]},
            {"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 2}]},
        ],
    }
    status = {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
    read = Pod.of({"metadata": {"namespace": "x", "name": "a", "labels": {"pod": "a"}}, "spec": spec, "status": status})
    names = frozenset({("web", TCP(80)), ("dns", UDP(53)), ("side", TCP(2))})
    assert read == Pod("x", "a", "one", {Family.IPV4: "10.0.0.1", Family.IPV6: "fd00::1"}, {"pod": "a"}, names)
    waiting = Pod.of({"metadata": {"namespace": "x", "name": "a"}, "spec": {"containers": [], "hostNetwork": True}})
    assert waiting == Pod("x", "a", "", {}, host_network=True, phase="Pending")


# laws, over random worlds

KEYS, VALUES = ("pod", "tier", "rank", "none"), ("a", "b", "front", "high", "")
CIDRS = ("10.0.0.0/24", "10.0.1.0/24", "10.0.0.0/23", "10.0.0.0/8", "0.0.0.0/0", "203.0.113.0/24", "10.0.1.11/32", "fd00:1::/64", "::/0")
FLOW_PORTS = (TCP(8079), TCP(8080), TCP(8081), UDP(8080), SCTP(8080))

requirements = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from((*KEYS, "ns")),
        st.sampled_from(("In", "NotIn")),
        st.lists(st.sampled_from((*VALUES, "x", "y")), min_size=1, max_size=2, unique=True),
    ),
    st.builds(lambda key, op: {"key": key, "operator": op}, st.sampled_from((*KEYS, "team")), st.sampled_from(("Exists", "DoesNotExist"))),
)
labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=2)
selectors = st.one_of(
    st.just({}),
    st.sampled_from("abc").map(lambda name: match(pod=name)),
    st.sampled_from("xyz").map(lambda letter: match(**{NAME_LABEL: letter})),
    st.builds(lambda equal, more: {"matchLabels": equal, "matchExpressions": more}, labels, st.lists(requirements, max_size=2)),
)


@st.composite
def blocks(draw: st.DrawFn) -> Object:
    network = ipaddress.ip_network(draw(st.sampled_from(CIDRS)))
    holes = [hole for hole in (ipaddress.ip_network(text) for text in CIDRS) if hole.version == network.version and hole != network]
    within = [str(hole) for hole in holes if hole.subnet_of(network)]  # type: ignore[arg-type]
    return block(str(network), *(draw(st.lists(st.sampled_from(within), max_size=2, unique=True)) if within else ()))


peers = st.one_of(
    st.builds(lambda pods: {"podSelector": pods}, selectors),
    st.builds(lambda where: {"namespaceSelector": where}, selectors),
    st.builds(lambda pods, where: {"podSelector": pods, "namespaceSelector": where}, selectors, selectors),
    blocks(),
)
openings = st.fixed_dictionaries(
    {},
    optional={
        "protocol": st.sampled_from(("TCP", "UDP", "SCTP")),
        "port": st.sampled_from((8079, 8080, 8081, "web", "web-udp", "both", "absent")),
    },
).flatmap(
    lambda opening: (
        st.just(opening)
        if not isinstance(opening.get("port"), int)
        else st.sampled_from((opening, opening | {"endPort": 8080 + (opening["port"] == 8081)}))
    )
)


def rules(key: str, *, least: int = 0) -> st.SearchStrategy[list[Object]]:
    rule = st.fixed_dictionaries({}, optional={key: st.lists(peers, max_size=2), "ports": st.lists(openings, max_size=2)})
    return st.lists(rule, min_size=least, max_size=2)


types = st.sampled_from(([INGRESS], [EGRESS], [INGRESS, EGRESS]))


@st.composite
def drawn(draw: st.DrawFn, *, implied: bool = True) -> Object:
    """A policy, its name still to be made unique."""
    sections = draw(st.fixed_dictionaries({}, optional={"ingress": rules("from"), "egress": rules("to")}))
    given_ = draw(st.one_of(st.none(), types) if implied else types)
    return policy(draw(st.sampled_from("xyz")), pods=draw(selectors), types=given_, **sections)


def numbered(policies: Iterable[Object]) -> list[Object]:
    return [made | {"metadata": made["metadata"] | {"name": f"p{i}"}} for i, made in enumerate(policies)]


sets = st.lists(drawn(), min_size=1, max_size=4).map(numbered)
explicit = st.lists(drawn(implied=False), min_size=1, max_size=3).map(numbered)
FLOWS: list[tuple[Endpoint, Endpoint]] = [
    (a, b) for a, b in itertools.permutations((*PODS[:5], OUTSIDERS[0]), 2) if isinstance(a, Pod) or isinstance(b, Pod)
]
law = settings(max_examples=20, deadline=None)


def table(*policies: Object, pods: Sequence[Pod] = PODS) -> dict[tuple[str, str, Port], bool]:
    """Every flow -> whether it is allowed."""
    seen = world(*policies, pods=pods)
    known: dict[Endpoint | str, Endpoint] = {p.key: p for p in pods}
    ends = [(known[a.key] if isinstance(a, Pod) else a, known[b.key] if isinstance(b, Pod) else b) for a, b in FLOWS]
    return {(_name(a), _name(b), port): decide(seen, a, b, port).decision is ALLOW for a, b in ends for port in FLOW_PORTS}


def _name(of: Endpoint) -> str:
    return of.key if isinstance(of, Pod) else of.name


def changed(policies: Iterable[Object], change: Callable[[str, Object], Iterable[Object]]) -> list[Object]:
    """The policies with each rule replaced by others; `change` gets the key of its peers, `from` or `to`."""
    made = []
    for policy_ in policies:
        spec = dict(policy_["spec"])
        for section, key in (("ingress", "from"), ("egress", "to")):
            if section in spec:
                spec[section] = [new for rule in spec[section] for new in change(key, rule)]
        made.append(policy_ | {"spec": spec})
    return made


def each_peer(policies: Iterable[Object], change: Callable[[Object], list[Object]]) -> list[Object]:
    return changed(policies, lambda key, rule: [rule | {key: [new for peer in rule[key] for new in change(peer)]} if key in rule else rule])


@law
@given(sets, st.randoms(use_true_random=False))
def test_order_does_not_matter(policies: list[Object], dice: Any) -> None:
    def shuffled(things: list[Any]) -> list[Any]:
        return dice.sample(things, len(things))

    mixed = changed(policies, lambda _, rule: [{key: shuffled(listed) for key, listed in rule.items()}])
    for policy_ in mixed:
        policy_["spec"] |= {section: shuffled(policy_["spec"][section]) for section in ("ingress", "egress") if section in policy_["spec"]}
    assert table(*shuffled(mixed)) == table(*policies)
    first, second = world(*policies), world(*reversed(policies))
    assert [decide(first, a, b, WEB) for a, b in PAIRS] == [decide(second, a, b, WEB) for a, b in PAIRS]


@law
@given(sets)
def test_a_rule_is_the_union_of_its_peers_and_ports(policies: list[Object]) -> None:
    def split(key: str, rule: Object) -> list[Object]:
        sources = [{key: [peer]} for peer in rule.get(key) or ()] or [{}]
        ports = [{"ports": [port]} for port in rule.get("ports") or ()] or [{}]
        return [a | b for a in sources for b in ports]

    assert table(*changed(policies, split)) == table(*policies)


@law
@given(explicit)
def test_a_policy_is_the_union_of_its_rules(policies: list[Object]) -> None:
    """Each rule alone in a policy of its own, beside one that isolates; the types must be said, else a rule would imply them."""
    parts = []
    for policy_ in policies:
        spec = policy_["spec"]
        bare = {key: spec[key] for key in ("podSelector", "policyTypes")}
        parts += [policy_ | {"spec": bare}]
        parts += [policy_ | {"spec": bare | {section: [rule]}} for section in ("ingress", "egress") for rule in spec.get(section, ())]
    assert table(*numbered(parts)) == table(*policies)


@law
@given(sets)
def test_implied_types_are_those_that_the_api_server_fills_in(policies: list[Object]) -> None:
    def filled(spec: Object) -> Object:
        return {"policyTypes": [INGRESS, EGRESS] if spec.get("egress") else [INGRESS], **spec}

    assert table(*(policy_ | {"spec": filled(policy_["spec"])} for policy_ in policies)) == table(*policies)


@law
@given(sets)
def test_match_labels_are_expressions_with_in(policies: list[Object]) -> None:
    def expressed(selector: Object) -> Object:
        equal = [{"key": key, "operator": "In", "values": [value]} for key, value in selector.get("matchLabels", {}).items()]
        return {"matchExpressions": [*selector.get("matchExpressions", []), *equal]}

    def peer(given_: Object) -> list[Object]:
        return [{key: value if key == "ipBlock" else expressed(value) for key, value in given_.items()}]

    made = each_peer(policies, peer)
    for policy_ in made:
        policy_["spec"]["podSelector"] = expressed(policy_["spec"]["podSelector"])
    assert table(*made) == table(*policies)


@law
@given(sets)
def test_a_block_is_its_two_halves(policies: list[Object]) -> None:
    def halves(peer: Object) -> list[Object]:
        network = ipaddress.ip_network(peer["ipBlock"]["cidr"]) if "ipBlock" in peer else None
        if network is None or "except" in peer["ipBlock"] or network.prefixlen == network.max_prefixlen:
            return [peer]
        return [block(str(half)) for half in network.subnets()]

    assert table(*each_peer(policies, halves)) == table(*policies)


@law
@given(sets)
def test_an_exception_is_the_block_without_it(policies: list[Object]) -> None:
    def cut(peer: Object) -> list[Object]:
        left = [ipaddress.ip_network(peer["ipBlock"]["cidr"])] if "ipBlock" in peer else None
        if left is None:
            return [peer]
        for hole in map(ipaddress.ip_network, peer["ipBlock"].get("except", ())):
            left = [part for whole in left for part in _without(whole, hole)]
        return [block(str(part)) for part in left]

    parted = changed(policies, lambda key, rule: [] if rule.get(key) and not any(map(cut, rule[key])) else [rule])
    assert table(*each_peer(parted, cut)) == table(*policies)


def _without(whole: Any, hole: Any) -> list[Any]:
    if not whole.overlaps(hole):
        return [whole]
    return list(whole.address_exclude(hole)) if hole.subnet_of(whole) else []


@law
@given(sets)
def test_a_range_is_its_ports(policies: list[Object]) -> None:
    def single(opening: Object) -> list[Object]:
        if "endPort" not in opening:
            return [opening]
        others = {key: value for key, value in opening.items() if key not in ("port", "endPort")}
        return [others | {"port": number} for number in range(opening["port"], opening["endPort"] + 1)]

    made = changed(
        policies, lambda _, rule: [rule | {"ports": [new for port in rule["ports"] for new in single(port)]} if "ports" in rule else rule]
    )
    assert table(*made) == table(*policies)


@law
@given(sets)
def test_for_not_in_an_absent_key_is_a_value_of_its_own(policies: list[Object]) -> None:
    """Pods that lack a key are like pods with a value that nobody names, unless somebody asks for the key itself."""

    def without_exists(selector: Object) -> Object:
        kept = [one for one in selector.get("matchExpressions", ()) if one["operator"] in ("In", "NotIn")]
        return selector | {"matchExpressions": kept}

    made = each_peer(policies, lambda peer: [{key: value if key == "ipBlock" else without_exists(value) for key, value in peer.items()}])
    for policy_ in made:
        policy_["spec"]["podSelector"] = without_exists(policy_["spec"]["podSelector"])
    strangers = [replace(p, labels={**dict.fromkeys(KEYS, "unheard-of"), **p.labels}) for p in PODS]
    assert table(*made, pods=strangers) == table(*made)


@law
@given(explicit, st.integers(0, 2), types, rules("from", least=1), rules("to", least=1))
def test_a_further_rule_denies_nothing(
    policies: list[Object], which: int, given_: list[str], ingress: list[Object], egress: list[Object]
) -> None:
    """The types are said: where they are implied, a first egress rule isolates."""
    chosen = policies[which % len(policies)]
    more = {"ingress": ingress, "egress": egress} if len(given_) == 2 else {"ingress": ingress} if INGRESS in given_ else {"egress": egress}
    spec = chosen["spec"] | {section: [*chosen["spec"].get(section, ()), *added] for section, added in more.items()}
    before, after = table(*policies), table(*(p | {"spec": spec} if p is chosen else p for p in policies))
    assert all(after[flow] for flow, allowed in before.items() if allowed)


@law
@given(sets, drawn())
def test_a_further_policy_opens_by_its_own_rules_and_closes_by_its_own_isolation(policies: list[Object], added: Object) -> None:
    *known, extra = numbered([*policies, added])
    before, after = world(*known), world(*known, extra)
    name = f"{extra['metadata']['namespace']}/{extra['metadata']['name']}"
    for (source, destination), port in itertools.product(FLOWS, FLOW_PORTS):
        was, now = decide(before, source, destination, port), decide(after, source, destination, port)
        if (was.decision, now.decision) == (DENY, ALLOW):
            assert name in {clause.policy for clause in now.allowed_by}
        if (was.decision, now.decision) == (ALLOW, DENY):
            assert now.denied_by
            assert all(isolation.policies == (name,) for isolation in now.denied_by)  # whoever was isolated before was let through


@law
@given(sets)
def test_a_rule_that_allows_all_leaves_its_subjects_open_whatever_else_there_is(policies: list[Object]) -> None:
    opened = policy("x", name="open", types=[INGRESS], ingress=[{}])
    ruled = world(*policies, opened)
    for source, destination in FLOWS:
        if isinstance(destination, Pod) and destination.namespace == "x":
            assert all(isolation.direction is not Direction.INGRESS for isolation in decide(ruled, source, destination, WEB).denied_by)


@law
@given(sets)
def test_a_flow_passes_where_each_direction_alone_lets_it_pass(policies: list[Object]) -> None:
    def only(direction: str) -> dict[tuple[str, str, Port], bool]:
        kept = [p | {"spec": p["spec"] | {"policyTypes": [direction]}} for p in policies if direction in _types_of(p["spec"])]
        return table(*kept)

    ingress, egress, both = only(INGRESS), only(EGRESS), table(*policies)
    assert both == {flow: ingress[flow] and egress[flow] for flow in both}


def _types_of(spec: Object) -> list[str]:
    return spec.get("policyTypes") or ([INGRESS, EGRESS] if spec.get("egress") else [INGRESS])


@law
@given(sets)
def test_reasons_fit_the_decision(policies: list[Object]) -> None:
    seen = world(*policies)
    for (source, destination), port in itertools.product(FLOWS, FLOW_PORTS):
        ruling = decide(seen, source, destination, port)
        denying = {isolation.direction for isolation in ruling.denied_by}
        assert (ruling.decision is DENY) == bool(denying)
        assert not any(clause.direction in denying for clause in ruling.allowed_by)
        assert not (ruling.rests_on_block and ruling.decision is DENY)
        assert ruling.judged


# another reading


def as_objects(policies: Iterable[Object]) -> dict[str, list[Object]]:
    """The world as the API shows it."""

    def ports(names: Iterable[tuple[str, Port]]) -> list[Object]:
        return [{"name": name, "protocol": str(port.protocol), "containerPort": port.number} for name, port in names]

    pods = [
        {
            "metadata": {"namespace": p.namespace, "name": p.name, "labels": dict(p.labels)},
            "spec": {"nodeName": p.node, "containers": [{"name": "main", "ports": ports(p.ports)}]},
            "status": {"phase": p.phase, "podIPs": [{"ip": address} for address in p.addresses.values()]},
        }
        for p in PODS
    ]
    namespaces = [{"metadata": {"name": name, "labels": {**own, NAME_LABEL: name}}} for name, own in NAMESPACES.items()]
    return {"Pod": pods, "Namespace": namespaces, "NetworkPolicy": list(policies)}


def allows(allow: Allow, peer: str, port: Port) -> bool:
    """Whether the lab's rule lets through what comes from, or goes to, that address."""
    by_peer = allow.peers is None or any(
        contains(one.network, peer) and not any(contains(hole, peer) for hole in one.excepts) for one in allow.peers
    )
    by_port = allow.ports is None or any(
        range_.protocol == port.protocol.lower() and range_.first <= port.number <= range_.last for range_ in allow.ports
    )
    return by_peer and by_port


@settings(max_examples=40, deadline=None)
@given(sets, st.sampled_from(Family))
def test_the_lab_reads_the_text_alike(policies: list[Object], family: Family) -> None:
    """Two readings, written apart: where they differ one of them is wrong."""
    seen, objects = world(*policies), as_objects(policies)
    lab: dict[tuple[str, str], list[Allow]] = {}
    for node in NODES:
        for isolation in isolations(objects, node, pods(objects)):
            lab.setdefault((isolation.pod, isolation.direction), []).extend(isolation.allows)
    outside = Outside("203.0.113.7" if family is Family.IPV4 else "2001:db8::7", "outside")
    ends: list[tuple[str, str, Endpoint]] = [(p.key, p.addresses[family], p) for p in PODS[:5]] + [("outside", outside.address, outside)]
    for (name, address, source), (other, there, destination) in itertools.permutations(ends, 2):
        for port in FLOW_PORTS:
            out, in_ = lab.get((name, "egress")), lab.get((other, "ingress"))
            passes = out is None or any(allows(allow, there, port) for allow in out)
            passes &= in_ is None or any(allows(allow, address, port) for allow in in_)
            ruling = decide(seen, source, destination, port, family)
            assert (ruling.decision is ALLOW) == passes, f"{name} -> {other} {port}: the lab {passes}, the oracle: {ruling.why}"


def test_it_is_fast() -> None:
    """300 flows under 20 policies, the reading of the policies included."""
    rule = {"from": [{"podSelector": match(pod="a")}, block("10.0.0.0/8", "10.0.0.0/24")], "ports": [{"port": 1}, {"port": "web"}]}
    policies = [policy("xyz"[i % 3], name=f"p{i}", types=[INGRESS, EGRESS], ingress=[rule] * 2, egress=[{}]) for i in range(20)]
    flows = [(a, b, TCP(n)) for a, b in PAIRS for n in (8080, 8081, 1, 2, 3)][:300]
    took = []
    for _ in range(3):
        began = time.process_time()
        seen = world(*policies)
        for source, destination, port in flows:
            decide(seen, source, destination, port)
        took.append(time.process_time() - began)
    assert min(took) < 0.05
