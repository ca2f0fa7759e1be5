"""Changes: policies that are edited, joined and removed, and labels that come and go under a policy that stands."""

from __future__ import annotations

from netproof.cases import TCP, behaviour

from .policies import allow, match, namespace, peer, pod, policy


def ingress_to_x(*peers):
    """Isolates x and lets these peers in."""
    return policy("peers", "x", types=["Ingress"], ingress=[allow(*peers)])


@behaviour("NPC-01a", protocol=[TCP], via=["pod-ip"])
def test_policies_add_up(apply, expect, protocol):
    """Two policies on overlapping pods: what either lets in is let in, where either selects."""
    apply(
        policy("all", "x", types=["Ingress"], ingress=[allow(peer(namespaces=namespace("y")))]),
        policy("some", "x", pods=pod("a"), types=["Ingress"], ingress=[allow(peer(namespaces=namespace("z")))]),
    )

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/b   X    -
        y/a   .    .
        y/b   .    .
        z/a   .    X
        z/b   .    X
    """)


@behaviour("NPC-01b", protocol=[TCP], via=["pod-ip"])
def test_removing_one_policy_leaves_the_other(apply, remove, expect, protocol):
    """Of two policies that overlap one is deleted: what the other allows stays allowed, and the pods stay isolated."""
    y, z = allow(peer(namespaces=namespace("y"))), allow(peer(namespaces=namespace("z")))
    first = policy("first", "x", types=["Ingress"], ingress=[y])
    second = policy("second", "x", types=["Ingress"], ingress=[y, z])
    apply(first, second)
    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/a   -    X
        x/b   X    -
        y/a   .    .
        z/b   .    .
    """)

    remove(second)
    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/a   -    X
        x/b   X    -
        y/a   .    .
        z/b   X    X
    """)


@behaviour("NPC-04a", protocol=[TCP], via=["pod-ip"])
def test_edited_rules(apply, expect, protocol):
    """A policy whose peers are edited allows the new ones and no longer the old."""
    apply(ingress_to_x(peer(namespaces=namespace("y"))))
    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/b   X    -
        y/a   .    .
        z/a   X    X
        z/b   X    X
    """)

    apply(ingress_to_x(peer(namespaces=namespace("z"))))
    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/b   X    -
        y/a   X    X
        z/a   .    .
        z/b   .    .
    """)


@behaviour("NPC-04b", protocol=[TCP], via=["pod-ip"])
def test_edited_subject(apply, expect, protocol):
    """A policy whose podSelector is edited isolates the new pods and frees the old."""
    apply(policy("subject", "x", pods=match(pod="a"), types=["Ingress"]), policy("other", "y", pods=match(pod="b"), types=["Ingress"]))
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/c   X    .    .    X
        y/a   X    .    -    X
        z/b   X    .    .    X
    """)

    apply(policy("subject", "x", pods=match(pod="b"), types=["Ingress"]), policy("other", "y", pods=match(pod="a"), types=["Ingress"]))
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/c   .    X    X    .
        y/a   .    X    -    .
        z/b   .    X    X    .
    """)


@behaviour("NPC-05a", protocol=[TCP], via=["pod-ip"])
def test_relabelled_peer(apply, relabel, expect, protocol):
    """A pod that gains the label of a peer gets in, and out again when it loses it."""
    apply(policy("friends", "x", types=["Ingress"], ingress=[allow(peer(pods=match(role="friend"), namespaces=namespace("y")))]))
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   X    X
        y/b   X    X
    """)

    relabel("y/a", {"role": "friend"})
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   .    .
        y/b   X    X
    """)

    relabel("y/a", {"role": None})
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   X    X
        y/b   X    X
    """)


@behaviour("NPC-05b", protocol=[TCP], via=["pod-ip"])
def test_relabelled_subject(apply, relabel, expect, protocol):
    """A pod that gains the label by which a policy selects is isolated, and free again when it loses it."""
    apply(
        policy("guarded", "x", pods=match(role="guarded"), types=["Ingress"]),
        policy("anchor", "x", pods=pod("c"), types=["Ingress"]),
        policy("anchor", "y", pods=pod("b"), types=["Ingress"]),
    )
    relabel("x/a", {"role": "guarded"})
    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c  y/b
        x/b   X    -    X    X
        y/a   X    .    X    X
        z/b   X    .    X    X
    """)

    relabel("x/a", {"role": None})
    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c  y/b
        x/b   .    -    X    X
        y/a   .    .    X    X
        z/b   .    .    X    X
    """)


@behaviour("NPC-05c", protocol=[TCP], via=["pod-ip"])
def test_relabelled_namespace(apply, relabel, expect, protocol):
    """The pods of a namespace that gains the label of a peer get in, and out again when it loses it."""
    apply(ingress_to_x(peer(namespaces=match(team="red"))))
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   X    X
        y/b   X    X
        z/a   X    X
    """)

    relabel("y", {"team": "red"})
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   .    .
        y/b   .    .
        z/a   X    X
    """)

    relabel("y", {"team": None})
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   X    X
        y/b   X    X
        z/a   X    X
    """)
