"""Egress twins of the peer cases: whom a rule of x lets x send to. Ingress stays open everywhere."""

from __future__ import annotations

from netproof.cases import TCP, Decision, behaviour

from .policies import allow, expression, match, namespace, peer, pod, policy


def egress_of_x(*peers, ports=()):
    """Isolates x for egress and lets it send to these peers."""
    return policy("peers", "x", types=["Egress"], egress=[allow(*peers, ports=ports, direction="to")])


@behaviour("NPP-07a", protocol=[TCP], via=["pod-ip"])
def test_egress_to_pods_of_own_namespace(apply, expect, protocol):
    """A podSelector alone: x sends to x/a, not to y/a of the same labels."""
    apply(egress_of_x(peer(pods=pod("a"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    X    X
        x/b   .    -    X    X
        x/c   .    X    X    X
        y/a   .    .    -    .
    """)


@behaviour("NPP-07b", protocol=[TCP], via=["pod-ip"])
def test_egress_to_a_namespace(apply, expect, protocol):
    """A namespaceSelector alone: x sends to all of y and to nobody else."""
    apply(egress_of_x(peer(namespaces=namespace("y"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a
        x/a   -    X    .    .    X
        x/b   X    -    .    .    X
        y/a   .    .    -    .    .
    """)


@behaviour("NPP-07c", protocol=[TCP], via=["pod-ip"])
def test_egress_to_both_selectors_anded(apply, expect, protocol):
    """One peer with both selectors: x sends to pods a of y."""
    apply(egress_of_x(peer(pods=pod("a"), namespaces=namespace("y"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a
        x/a   -    X    .    X    X
        x/b   X    -    .    X    X
        y/a   .    .    -    .    .
    """)


@behaviour("NPP-07d", protocol=[TCP], via=["pod-ip"])
def test_egress_to_two_peers_ored(apply, expect, protocol):
    """Two peers: x sends to pods a of x itself, and to all of y."""
    apply(egress_of_x(peer(pods=pod("a")), peer(namespaces=namespace("y"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a
        x/a   -    X    .    .    X
        x/b   .    -    .    .    X
        x/c   .    X    .    .    X
        y/a   .    .    -    .    .
    """)


@behaviour("NPP-07e", protocol=[TCP], via=["pod-ip"])
def test_egress_to_all_of_own_namespace(apply, expect, protocol):
    """An empty podSelector: x sends to every pod of x and to none of another namespace."""
    apply(egress_of_x(peer(pods={})))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c  y/a  y/b
        x/a   -    .    .    X    X
        x/b   .    -    .    X    X
        y/a   .    .    .    -    .
    """)


@behaviour("NPP-07f", protocol=[TCP], via=["pod-ip"])
def test_egress_to_nobody(apply, expect, protocol):
    """A peer that matches no pod: x sends to nobody, as nothing is not everything."""
    apply(egress_of_x(peer(pods=match(pod="nobody"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    X    X
        x/b   X    -    X    X
        y/a   .    .    -    .
    """)


@behaviour("NPP-07g", protocol=[TCP], via=["pod-ip"])
def test_egress_to_all_namespaces(apply, expect, protocol):
    """An empty namespaceSelector: x sends to every pod of every namespace; y, on the rule's other port, to none."""
    out = [allow(peer(namespaces={}), ports=[protocol(8081)], direction="to")]
    apply(egress_of_x(peer(namespaces={})), policy("peers", "y", types=["Egress"], egress=out))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a
        x/a   -    .    .    .    .
        x/b   .    -    .    .    .
        y/a   X    X    -    X    X
        y/b   X    X    X    -    X
    """)


@behaviour("NPP-07i", protocol=[TCP], via=["pod-ip"])
def test_egress_to_a_namespace_by_its_name(apply, expect, world, protocol):
    """x sends to the namespace of that name, and to no other."""
    apply(egress_of_x(peer(namespaces=match(**{"kubernetes.io/metadata.name": world.namespace("y")}))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a
        x/a   -    X    .    .    X
        x/b   X    -    .    .    X
    """)


@behaviour("NPP-07j", protocol=[TCP], via=["pod-ip"])
def test_egress_to_namespaces_but_one(apply, expect, world, protocol):
    """NotIn with a namespace's name: x sends to every namespace of the world but y."""
    apply(egress_of_x(peer(namespaces=expression("kubernetes.io/metadata.name", "NotIn", world.namespace("y")))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a
        x/a   -    .    X    X    .
        x/b   .    -    X    X    .
    """)


@behaviour("NPC-03", protocol=[TCP], via=["pod-ip"])
def test_both_ends_must_agree(apply, expect, world, protocol):
    """x may send to y on 8080, y lets in on 8081: nothing passes between them, and both still talk to z as each alone allows."""
    port, other = protocol(8080), protocol(8081)
    apply(
        policy("out", "x", types=["Egress"], egress=[allow(ports=[port], direction="to")]),
        policy("in", "y", types=["Ingress"], ingress=[allow(ports=[other])]),
    )

    pairs = [(c, s) for c in ("x/a", "x/b") for s in ("y/a", "y/b", "z/a")] + [(c, s) for c in ("z/a", "z/b") for s in ("y/a", "y/b")]
    decided = {}
    for client, server in pairs:
        for on in (port, other):
            closed = (client[0] == "x" and on == other) or (server[0] == "y" and on == port)
            decided[world.pod(client).to(world.pod(server).on(on))] = Decision.DENY if closed else Decision.ALLOW
    expect().decided(decided)
