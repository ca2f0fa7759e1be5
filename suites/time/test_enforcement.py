"""How fast policies act: measured by overlapping attempts through each change, which is made again and again. Nothing here is promised."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, behaviour

from ..policy.policies import allow, expression, match, namespace, peer, pod, policy  # noqa: TID252 - installed, it is netproof.suites

pytestmark = pytest.mark.timing

FROM_Y, FROM_Z = allow(peer(namespaces=namespace("y"))), allow(peer(namespaces=namespace("z")))
CLOSED = """
         x/a  x/b  z/b
    y/a   X    X    ?
    y/b   X    X    -
    z/a   ?    -    -
    z/b   -    ?    -
"""
OPEN = CLOSED.replace("X", ".")


def ingress_to_x(*rules):
    """Isolates x and lets in what these rules say."""
    return policy("timed", "x", types=["Ingress"], ingress=rules)


@behaviour("NPC-09a", protocol=[TCP], via=["pod-ip"])
def test_policy_created_and_deleted(apply, remove, expect, repeat, protocol):
    """A policy for x that lets only z in comes and goes."""
    only_z = ingress_to_x(FROM_Z)
    for _ in repeat:
        apply(only_z)
        expect.timed("policy created", protocol(8080)).matrix(CLOSED)
        remove(only_z)
        expect.timed("policy deleted", protocol(8080)).matrix(OPEN)


@behaviour("NPC-09b", protocol=[TCP], via=["pod-ip"])
def test_policy_edited(apply, expect, repeat, protocol):
    """A rule for y is taken out of a policy, and put in again; the rule for z stays."""
    apply(ingress_to_x(FROM_Z, FROM_Y))
    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/b   X    -
        x/c   X    X
        y/a   .    .
    """)
    for _ in repeat:
        apply(ingress_to_x(FROM_Z))
        expect.timed("rule removed", protocol(8080)).matrix(CLOSED)
        apply(ingress_to_x(FROM_Z, FROM_Y))
        expect.timed("rule added", protocol(8080)).matrix(OPEN)


@behaviour("NPC-09c", protocol=[TCP], via=["pod-ip"])
def test_pod_relabelled(apply, relabel, expect, repeat, protocol):
    """A pod gets the label of a peer, and loses it."""
    apply(ingress_to_x(FROM_Z, allow(peer(pods=match(role="friend"), namespaces=namespace("y")))))
    closed = """
             x/a  x/b
        y/a   X    X
        z/a   ?    -
        z/b   -    ?
    """
    expect(protocol(8080)).matrix(closed.replace("?", "."))
    for _ in repeat:
        relabel("y/a", {"role": "friend"})
        expect.timed("pod labelled", protocol(8080)).matrix(closed.replace("X", "."))
        relabel("y/a", {"role": None})
        expect.timed("pod unlabelled", protocol(8080)).matrix(closed)


@behaviour("NPC-09d", protocol=[TCP], via=["pod-ip"])
def test_namespace_relabelled(apply, relabel, expect, repeat, protocol):
    """A namespace gets the label of a peer, and loses it."""
    apply(ingress_to_x(FROM_Z, allow(peer(namespaces=match(team="red")))))
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   X    X
        y/b   X    X
        z/a   .    .
    """)
    for _ in repeat:
        relabel("y", {"team": "red"})
        expect.timed("namespace labelled", protocol(8080)).matrix(OPEN)
        relabel("y", {"team": None})
        expect.timed("namespace unlabelled", protocol(8080)).matrix(CLOSED)


@behaviour("NPC-09e", protocol=[TCP], via=["pod-ip"])
def test_pod_created(apply, expect, repeat, protocol):
    """Pods are made under a policy that lets them send to y/a alone: how long that takes, and for how long they could send elsewhere."""
    ranked = expression("rank", "Exists")
    to_a = allow(peer(pods=pod("a"), namespaces=namespace("y")), direction="to")
    apply(policy("only-to-a", "x", pods=ranked, types=["Egress"], egress=[to_a]))
    expect(protocol(8080)).matrix("""
             y/a  y/b
        x/a   .    X
        x/b   .    X
    """)
    for _ in repeat:
        expect.newborn(protocol(8080), {"new": {"rank": "new"}, "plain": {}}, timed="pod created").matrix("""
                       y/a  y/b
            x/new-a     .    X
            x/new-b     .    X
            x/plain-a   .    .
            x/plain-b   .    .
        """)
