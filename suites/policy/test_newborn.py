"""A new pod's first instant: what it reaches, and what reaches it, from the first instruction of any of its containers on."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, UDP, behaviour

from .policies import allow, expression, namespace, peer, pod, policy

RANKED = expression("rank", "Exists")  # the standing pods a and b, and new pods that get the label
KINDS = {"new": {"rank": "new"}, "plain": {}}
TO_A = allow(peer(pods=pod("a"), namespaces=namespace("y")), direction="to")

pytestmark = pytest.mark.early


@behaviour("NPI-08a", protocol=[TCP, UDP], via=["pod-ip"])
def test_new_pod_sends_nothing(apply, expect, protocol):
    """Standing pods on both nodes show that the policy is in force; pods made then dial as their first instruction, in vain."""
    apply(policy("no-egress", "x", pods=RANKED, types=["Egress"]))
    expect(protocol(8080)).matrix("""
             y/a  y/b
        x/a   X    X
        x/b   X    X
    """)

    expect.newborn(protocol(8080), KINDS).matrix("""
                   y/a  y/b
        x/new-a     X    X
        x/new-b     X    X
        x/plain-a   .    .
        x/plain-b   .    .
    """)


@behaviour("NPI-08b", protocol=[TCP, UDP], via=["pod-ip"])
def test_new_pod_is_not_reached(apply, expect, protocol):
    """Pods made under a policy for ingress call y, and whoever is called dials back at once: it reaches them as little as ever."""
    apply(policy("no-ingress", "x", pods=RANKED, types=["Ingress"]))
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   X    X
        y/b   X    X
    """)

    expect.newborn(protocol(8080), KINDS).matrix("""
             x/new-a  x/new-b  x/plain-a  x/plain-b
        y/a     X        X         .          .
        y/b     X        X         .          .
    """)


@behaviour("NPI-08c", protocol=[TCP], via=["pod-ip"])
def test_init_container_is_isolated(apply, expect, protocol):
    """An init container that dials as its first instruction, and is dialled back, is isolated as the pod is, in both directions."""
    apply(policy("only-to-a", "x", pods=RANKED, types=["Ingress", "Egress"], ingress=[], egress=[TO_A]))
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    .    X
        x/b   X    -    .    X
        y/a   X    X    -    -
    """)

    expect.newborn(protocol(8080), KINDS, init=True).matrix("""
                   x/new-a  x/new-b  x/plain-a  x/plain-b  y/a  y/b
        x/new-a       -        -         -          -       .    X
        x/new-b       -        -         -          -       .    X
        x/plain-a     -        -         -          -       .    .
        x/plain-b     -        -         -          -       .    .
        y/a           X        X         .          .       -    -
    """)


@behaviour("NPI-09a", protocol=[TCP], via=["pod-ip"])
def test_allows_of_a_new_pod_do_not_lead_its_isolation(apply, expect, protocol):
    """A new pod may send to y/a alone. It may have to wait for that, but reaches nobody else meanwhile."""
    apply(policy("only-to-a", "x", pods=RANKED, types=["Egress"], egress=[TO_A]))
    expect(protocol(8080)).matrix("""
             y/a  y/b
        x/a   .    X
        x/b   .    X
    """)

    expect.newborn(protocol(8080), KINDS).matrix("""
                   y/a  y/b
        x/new-a     .    X
        x/new-b     .    X
        x/plain-a   .    .
        x/plain-b   .    .
    """)


@behaviour("NPI-09b", protocol=[TCP], via=["pod-ip"])
def test_new_pod_is_a_peer_by_its_labels_alone(apply, expect, protocol):
    """A new pod with a peer's label gets in, perhaps not at once; one without it does not, whoever had its address before."""
    apply(policy("ranked", "y", types=["Ingress"], ingress=[allow(peer(pods=RANKED, namespaces=namespace("x")))]))
    expect(protocol(8080)).matrix("""
             y/a  y/b
        x/a   .    .
        x/b   .    .
        x/c   X    X
    """)

    expect.newborn(protocol(8080), KINDS).matrix("""
                   y/a  y/b
        x/new-a     .    .
        x/new-b     .    .
        x/plain-a   X    X
        x/plain-b   X    X
    """)
