"""Ports: on which ports a rule lets its peers through. Every pod serves 8080 and 8081 on TCP and UDP."""

from __future__ import annotations

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allow, namespace, peer, policy

CLIENTS, SERVERS = ("x/b", "y/a", "y/b"), ("x/a", "x/c", "x/b")


def decisions(world, opened):
    """Every client to every server on all four ports: open on the ports named, closed on the others."""
    ports = [make(number) for make in (TCP, UDP) for number in (8080, 8081)]
    flows = [(world.pod(c).to(world.pod(s).on(port)), port) for c in CLIENTS for s in SERVERS for port in ports if c != s]
    return {flow: Decision.ALLOW if port in opened else Decision.DENY for flow, port in flows}


def open_on(*ports):
    """Isolates x for ingress and lets anybody in on these ports."""
    return policy("ports", "x", types=["Ingress"], ingress=[allow(ports=ports)])


@behaviour("NPR-01a", protocol=[TCP, UDP], via=["pod-ip"])
def test_one_port(apply, expect, world, protocol):
    """A rule with one port opens that port of that protocol and nothing else."""
    apply(open_on(protocol(8080)))

    expect().decided(decisions(world, {protocol(8080)}))


@behaviour("NPR-01b", via=["pod-ip"])
def test_several_ports(apply, expect, world):
    """A rule with several ports opens each of them, and no other combination of their numbers and protocols."""
    apply(open_on(TCP(8080), UDP(8081)))

    expect().decided(decisions(world, {TCP(8080), UDP(8081)}))


@behaviour("NPR-01c", protocol=[TCP, UDP], via=["pod-ip"])
def test_any_port_of_a_protocol(apply, expect, world, protocol):
    """A port entry with a protocol and no number opens every port of that protocol."""
    apply(policy("ports", "x", types=["Ingress"], ingress=[{"ports": [{"protocol": str(protocol)}]}]))

    expect().decided(decisions(world, {protocol(8080), protocol(8081)}))


@behaviour("NPR-02a", protocol=[TCP, UDP], via=["pod-ip"])
def test_named_port(apply, expect, world, protocol):
    """A named port opens, on each pod, the number that this pod's own container gives the name: 8080 on a and c, 8081 on b."""
    apply(policy("ports", "x", types=["Ingress"], ingress=[allow(ports=[named("web", protocol)])]))

    expect().decided(by_name(world, protocol, "web"))


@behaviour("NPR-02b", protocol=[TCP], via=["pod-ip"])
def test_named_port_of_egress(apply, expect, world, protocol):
    """In an egress rule a named port is the destination's, whatever the sender's own containers call theirs."""
    apply(policy("ports", "y", types=["Egress"], egress=[allow(ports=[named("web", protocol)], direction="to")]))

    expect().decided(by_name(world, protocol, "web", clients=("y/a", "y/b")))


@behaviour("NPR-04", protocol=[TCP], via=["pod-ip"])
def test_named_port_of_another_protocol(apply, expect, world, protocol):
    """A name that the pod gives a UDP port opens nothing for TCP: name and protocol must both agree."""
    apply(policy("ports", "x", types=["Ingress"], ingress=[allow(ports=[{"protocol": str(protocol), "port": "web-udp"}])]))

    expect().decided(decisions(world, set()))


@behaviour("NPR-05", via=["pod-ip"])
def test_protocol_left_out_means_tcp(apply, expect, world):
    """A port entry without a protocol is for TCP alone."""
    apply(policy("ports", "x", types=["Ingress"], ingress=[{"ports": [{"port": 8080}]}]))

    expect().decided(decisions(world, {TCP(8080)}))


@behaviour("NPR-06", protocol=[TCP, UDP], via=["pod-ip"], needs=["NetworkPolicyEndPort"])
def test_range_of_ports(apply, expect, world, protocol):
    """endPort opens a range, its ends included: 8080 is in 8079 to 8080, 8081 is not; in a second rule y reaches both."""
    both = {"protocol": str(protocol), "port": 8080, "endPort": 8081}
    below = {"protocol": str(protocol), "port": 8079, "endPort": 8080}
    peers = [allow(peer(namespaces=namespace("y")), ports=[both]), allow(peer(namespaces=namespace("x")), ports=[below])]
    apply(policy("ports", "x", types=["Ingress"], ingress=peers))

    opened = {"x": {protocol(8080)}, "y": {protocol(8080), protocol(8081)}}
    expect().decided({flow: chosen(flow.port in opened[flow.source[0]]) for flow in decisions(world, set())})


def named(name, protocol):
    """An entry for a port by name; the UDP ports of a probe pod have names of their own."""
    return {"protocol": str(protocol), "port": name if protocol is TCP else f"{name}-udp"}


def by_name(world, protocol, name, *, clients=CLIENTS):
    """Every client to every server on all four ports: open where the server calls its port so."""
    flows = [flow for flow in decisions(world, set()) if flow.source in CLIENTS] if clients is CLIENTS else to_x(world, clients)
    label = name if protocol is TCP else f"{name}-udp"
    return {flow: chosen(flow.port == world.port_of(flow.destination, label)) for flow in flows}


def to_x(world, clients):
    """From these clients to every server of x on all four ports."""
    ports = [make(number) for make in (TCP, UDP) for number in (8080, 8081)]
    return [world.pod(c).to(world.pod(s).on(port)) for c in clients for s in SERVERS for port in ports]


def chosen(allowed):
    """The decision."""
    return Decision.ALLOW if allowed else Decision.DENY
