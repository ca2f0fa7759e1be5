"""Connections that stand: replies pass by themselves, and what a policy allows survives a change of policies."""

from __future__ import annotations

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allowing, default_deny, namespace, one_way, peer

BOTH = ("ingress", "egress")
PAIRS = [(client, server) for client in ("y/a", "y/b") for server in ("x/a", "x/b")]
X, Y = peer(namespaces=namespace("x")), peer(namespaces=namespace("y"))


def flows(world, protocol, pairs=PAIRS):
    """From clients to servers, each attempt on a connection of its own."""
    return [world.pod(client).to(world.pod(server).on(protocol(8080))) for client, server in pairs]


def lasting(world, protocol):
    """From y to x, each on one connection that lasts."""
    return [world.held(flow) for flow in flows(world, protocol)]


def decided(**decisions):
    """One mapping of flows to decisions from lists of flows: `allow`, `deny`, `observe`."""
    return {flow: Decision(word) for word, listed in decisions.items() for flow in listed}


@behaviour("NPT-01", protocol=[TCP, UDP], via=["pod-ip"], direction=BOTH)
def test_replies_need_no_rule(apply, expect, protocol, direction):
    """y reaches x though x may send nothing (egress), or though y may receive nothing (ingress): what comes back is a reply."""
    apply(one_way(direction, "deny", "x" if direction == "egress" else "y"))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    -    X    X
        x/b   -    -    X    X
        y/a   .    .    -    -
        y/b   .    .    -    -
    """)


@behaviour("NPT-07", protocol=[TCP, UDP], via=["pod-ip"], direction=BOTH)
def test_connection_that_a_policy_comes_to_deny(apply, expect, world, protocol, direction):
    """y has connections to x when a policy begins to deny them: new ones are denied; what becomes of the old ones is looked at."""
    standing = lasting(world, protocol)
    apply(one_way(direction, "deny", "x" if direction == "ingress" else "y"))

    expect().decided(decided(deny=flows(world, protocol), observe=standing))


@behaviour("NPT-08a", protocol=[TCP, UDP], via=["pod-ip"])
def test_unrelated_policies_come_and_go(apply, remove, expect, world, protocol):
    """y has connections to x when z is isolated, and when it is freed again: they go on."""
    standing, others = lasting(world, protocol), flows(world, protocol, [("x/a", "z/a"), ("x/b", "z/b"), ("z/a", "x/a"), ("z/b", "x/b")])
    deny = default_deny("z", "Ingress", "Egress")
    apply(deny)
    expect().decided(decided(allow=standing, deny=others))

    remove(deny)
    expect().decided(decided(allow=standing + others))


@behaviour("NPT-08b", protocol=[TCP, UDP], via=["pod-ip"])
def test_policies_that_allow_a_connection_come_and_go(apply, remove, expect, world, protocol):
    """y has connections to x when both are isolated but for each other, and when they are freed again: they go on."""
    standing = lasting(world, protocol)
    others = flows(world, protocol, [("z/a", "x/a"), ("z/b", "x/b"), ("y/a", "z/a"), ("y/b", "z/b")])
    inward = one_way("ingress", "in", "x", allowing("ingress", Y, ports=[protocol(8080)]))
    outward = one_way("egress", "out", "y", allowing("egress", X, ports=[protocol(8080)]))
    apply(inward, outward)
    expect().decided(decided(allow=standing, deny=others))

    remove(inward, outward)
    expect().decided(decided(allow=standing + others))
