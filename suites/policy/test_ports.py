"""Ports: on which ports a rule lets its peers through. Every pod serves 8080 and 8081 on TCP and UDP."""

from __future__ import annotations

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allow, policy

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
