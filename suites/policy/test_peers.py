"""Peers: whom a rule lets through. x is isolated for ingress; the peers are drawn from all three namespaces and both nodes."""

from __future__ import annotations

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allow, match, namespace, peer, pod, policy


def ingress_to_x(*peers):
    """Isolates x and lets these peers in."""
    return policy("peers", "x", types=["Ingress"], ingress=[allow(*peers)])


@behaviour("NPP-01a", protocol=[TCP, UDP], via=["pod-ip"])
def test_pod_selector_means_own_namespace(apply, expect, protocol):
    """A podSelector alone selects pods of the policy's own namespace: x/a gets in, y/a of the same labels does not."""
    apply(ingress_to_x(peer(pods=pod("a"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c
        x/a   -    .    .
        x/b   X    -    X
        x/c   X    X    -
        y/a   X    X    X
        y/b   X    X    X
    """)


@behaviour("NPP-01b", protocol=[TCP], via=["pod-ip"])
def test_empty_pod_selector_means_all_of_own_namespace(apply, expect, protocol):
    """An empty podSelector selects every pod of the policy's namespace and none of another."""
    apply(ingress_to_x(peer(pods={})))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c
        x/a   -    .    .
        x/b   .    -    .
        y/a   X    X    X
        y/b   X    X    X
    """)


@behaviour("NPP-02a", protocol=[TCP, UDP], via=["pod-ip"])
def test_namespace_selector_means_all_its_pods(apply, expect, protocol):
    """A namespaceSelector alone selects every pod of the namespaces it matches; the policy's own is not among them."""
    apply(ingress_to_x(peer(namespaces=namespace("y"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/a   -    X
        x/b   X    -
        y/a   .    .
        y/b   .    .
        z/a   X    X
        z/b   X    X
    """)


@behaviour("NPP-02b", protocol=[TCP], via=["pod-ip"])
def test_empty_namespace_selector_means_all_namespaces(apply, expect, protocol):
    """An empty namespaceSelector selects every pod of every namespace: isolated on paper, open in fact."""
    apply(ingress_to_x(peer(namespaces={})))

    expect(protocol(8080), sentinel=True).matrix("""
             x/a  x/b
        x/a   -    .
        x/b   .    -
        y/a   .    .
        y/b   .    .
    """)


@behaviour("NPP-03a", protocol=[TCP, UDP], via=["pod-ip"])
def test_both_selectors_in_one_peer_are_anded(apply, expect, protocol):
    """One peer with both selectors: only pods a of namespace y."""
    apply(ingress_to_x(peer(pods=pod("a"), namespaces=namespace("y"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/a   -    X
        x/b   X    -
        y/a   .    .
        y/b   X    X
        z/a   X    X
        z/b   X    X
    """)


@behaviour("NPP-03b", protocol=[TCP], via=["pod-ip"])
def test_two_peers_are_ored(apply, expect, protocol):
    """Two peers: pods a of x itself, or any pod of namespace y."""
    apply(ingress_to_x(peer(pods=pod("a")), peer(namespaces=namespace("y"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/a   -    .
        x/b   X    -
        x/c   X    X
        y/a   .    .
        y/b   .    .
        z/a   X    X
        z/b   X    X
    """)


@behaviour("NPP-08a", protocol=[TCP], via=["pod-ip"])
def test_a_services_label_lets_nobody_in(apply, expect, world, protocol):
    """A peer selects by a label that a Service of y has: its endpoints a and b, which lack it, stay out; c, the other peer, gets in."""
    world.service("friend", selects=["y/a", "y/b"], port=protocol(80), target=8080, namespace="y", labels={"role": "friend"})
    y = namespace("y")
    apply(ingress_to_x(peer(pods=match(role="friend"), namespaces=y), peer(pods=pod("c"), namespaces=y)))

    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   X    X
        y/b   X    X
        y/c   .    .
    """)


@behaviour("NPP-08b", protocol=[TCP], via=["cluster-ip"])
def test_a_services_label_lets_nobody_out(apply, expect, world, protocol):
    """x may send to a label that a Service of y has: it reaches neither the Service nor its endpoints, but c, the other peer."""
    friend = world.service("friend", selects=["y/b"], port=protocol(80), target=8080, namespace="y", labels={"role": "friend"})
    y = namespace("y")
    peers = [peer(pods=match(role="friend"), namespaces=y), peer(pods=pod("c"), namespaces=y)]
    apply(policy("peers", "x", types=["Egress"], egress=[allow(*peers, direction="to")]))

    clients = [world.pod(name) for name in ("x/a", "x/b")]
    behind = {client.to(friend.by_ip()): "y/b" for client in clients}
    direct = {client.to(world.pod("y/b").on(protocol(8080))): Decision.DENY for client in clients}
    others = {client.to(world.pod("y/c").on(protocol(8080))): Decision.ALLOW for client in clients}
    expect().decided({**dict.fromkeys(behind, Decision.DENY), **direct, **others}, behind)
