"""Ports: on which ports a rule lets its peers through. Every pod serves 8080 and 8081 on TCP and UDP."""

from __future__ import annotations

from netproof.cases import SCTP, TCP, UDP, Decision, behaviour

from .policies import allow, default_deny, namespace, peer, pod, policy

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


@behaviour("NPR-02b", protocol=[TCP, UDP], via=["pod-ip"])
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


@behaviour("NPR-01d", protocol=[TCP, UDP], via=["pod-ip"])
def test_one_port_of_egress(apply, expect, world, protocol):
    """An egress rule with one port lets y send to that port of that protocol and to no other."""
    apply(policy("ports", "y", types=["Egress"], egress=[allow(ports=[protocol(8080)], direction="to")]))

    expect().decided({flow: chosen(flow.port == protocol(8080)) for flow in to_x(world, ("y/a", "y/b"))})


@behaviour("NPR-02c", protocol=[TCP], via=["pod-ip"])
def test_named_port_for_a_namespace(apply, expect, world, protocol):
    """A rule with a peer and a named port: y gets in on what each pod calls `web`, and nobody else on any port."""
    apply(policy("ports", "x", types=["Ingress"], ingress=[allow(peer(namespaces=namespace("y")), ports=[named("web", protocol)])]))

    opened = by_name(world, protocol, "web")
    expect().decided({flow: open_ if flow.source.startswith("y/") else Decision.DENY for flow, open_ in opened.items()})


@behaviour("NPR-03a", protocol=[TCP], via=["pod-ip"])
def test_named_port_at_both_ends(apply, expect, world, protocol):
    """y may send to `web`, x lets in on `web`: both mean the receiver's own number, which the sender's containers may give another name."""
    apply(
        policy("ports", "y", types=["Egress"], egress=[allow(ports=[named("web", protocol)], direction="to")]),
        policy("ports", "x", types=["Ingress"], ingress=[allow(ports=[named("web", protocol)])]),
    )

    expect().decided(by_name(world, protocol, "web", clients=("y/a", "y/b")))


@behaviour("NPR-03b", protocol=[TCP, UDP], via=["cluster-ip"])
def test_named_port_behind_services(apply, expect, world, protocol):
    """Services lead to a name that means 8080 on a and 8081 on b: the rule for it opens each pod's own number, and no other directly."""
    name = named("web", protocol)["port"]
    services = {pod: world.service(f"only-{pod[-1]}", selects=[pod], port=protocol(80), target=name) for pod in ("x/a", "x/b")}
    apply(policy("ports", "x", types=["Ingress"], ingress=[allow(ports=[named("web", protocol)])]))

    behind = {world.pod(client).to(service.by_ip()): pod for client in ("y/a", "y/b") for pod, service in services.items()}
    direct = {flow: decision for flow, decision in by_name(world, protocol, "web").items() if flow.source.startswith("y/")}
    expect().decided({**dict.fromkeys(behind, Decision.ALLOW), **direct}, behind)


# SCTP in rules, judged without a packet of it: whether or not an implementation carries SCTP, these rules must not open TCP or UDP.


@behaviour("NPR-07a", protocol=[TCP, UDP], via=["pod-ip"])
def test_sctp_rule_opens_sctp_alone(apply, expect, protocol):
    """Beside a default deny a rule for SCTP/8080 opens no other protocol's 8080; y, with a rule for the protocol's own, is open."""
    apply(
        default_deny("x", "Ingress"),
        policy("ports", "x", types=["Ingress"], ingress=[allow(ports=[SCTP(8080)])]),
        policy("ports", "y", types=["Ingress"], ingress=[allow(ports=[protocol(8080)])]),
    )

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/b   X    -    .    .
        y/a   X    X    -    .
        z/b   X    X    .    .
    """)


@behaviour("NPR-07b", protocol=[TCP], via=["pod-ip"])
def test_sctp_rule_of_egress_opens_sctp_alone(apply, expect, protocol):
    """The egress twin: x sends nothing but SCTP, y what its own rule names."""
    apply(
        default_deny("x", "Egress"),
        policy("ports", "x", types=["Egress"], egress=[allow(ports=[SCTP(8080)], direction="to")]),
        policy("ports", "y", types=["Egress"], egress=[allow(ports=[protocol(8080)], direction="to")]),
    )

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  z/b
        x/a   -    X    X    X
        x/b   X    -    X    X
        y/a   .    .    -    .
    """)


@behaviour("NPR-07c", via=["pod-ip"])
def test_sctp_rule_isolates(apply, expect):
    """A policy whose only rule is for SCTP isolates for ingress as any other, on the rule's number and on others."""
    apply(policy("ports", "x", types=["Ingress"], ingress=[allow(ports=[SCTP(8080)])]))

    expect(TCP(8080), UDP(8081)).matrix("""
             x/a  x/b  y/a
        x/a   -    X    .
        x/b   X    -    .
        z/b   X    X    .
    """)


@behaviour("NPR-07d", via=["pod-ip"])
def test_sctp_rule_isolates_senders(apply, expect):
    """The egress twin: the senders of x are isolated on the rule's number and on others."""
    apply(policy("ports", "x", types=["Egress"], egress=[allow(ports=[SCTP(8080)], direction="to")]))

    expect(TCP(8080), UDP(8081)).matrix("""
             x/a  x/b  y/a  z/b
        x/a   -    X    X    X
        x/b   X    -    X    X
        y/a   .    .    -    .
    """)


@behaviour("NPR-08a", protocol=[SCTP], via=["pod-ip"], needs=["SCTP"])
def test_sctp_default_deny(apply, expect, world, protocol):
    """An ingress policy without rules keeps SCTP out too."""
    world.serve(protocol(8080))
    apply(default_deny("x", "Ingress"))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    .    .
        x/b   X    -    .    .
        y/a   X    X    -    .
        y/b   X    X    .    -
    """)


@behaviour("NPR-08b", protocol=[SCTP], via=["pod-ip"], needs=["SCTP"])
def test_sctp_port(apply, expect, world, protocol):
    """A rule for y with an SCTP port opens that port to y, no other port, and nothing to z."""
    world.serve(protocol(8080), protocol(8081))
    apply(policy("ports", "x", types=["Ingress"], ingress=[allow(peer(namespaces=namespace("y")), ports=[protocol(8081)])]))

    pairs = [(client, server, port) for client in ("y/a", "y/b", "z/a") for server in ("x/a", "x/b") for port in (8080, 8081)]
    flows = [world.pod(client).to(world.pod(server).on(protocol(port))) for client, server, port in pairs]
    expect().decided({flow: chosen(flow.source.startswith("y/") and flow.port.number == 8081) for flow in flows})


@behaviour("NPR-08c", protocol=[SCTP], via=["pod-ip"], needs=["SCTP"])
def test_sctp_peer(apply, expect, world, protocol):
    """One peer with both selectors lets pods a of y in by SCTP, and nobody else."""
    world.serve(protocol(8080))
    apply(policy("peers", "x", types=["Ingress"], ingress=[allow(peer(pods=pod("a"), namespaces=namespace("y")))]))

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/b   X    -
        y/a   .    .
        y/b   X    X
        z/a   X    X
    """)


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
