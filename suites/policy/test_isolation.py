"""Isolation: what still reaches a pod, and what it still reaches, once a policy selects it."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, UDP, behaviour

from .policies import allow, allowing, default_deny, match, namespace, one_way, other, peer, policy

BOTH = ("Ingress", "Egress")


@behaviour("NPI-01a", protocol=[TCP, UDP], via=["pod-ip"])
def test_no_policy_allows_all(expect, protocol):
    """Without a policy every pod reaches every other."""
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    .    .    .
        x/b   .    -    .    .
        y/a   .    .    -    .
        y/b   .    .    .    -
    """)


@behaviour("NPI-01b", protocol=[TCP, UDP], via=["pod-ip"])
def test_removed_policy_stops_acting(apply, remove, expect, protocol):
    """Deleting the last policy that selects a pod restores all that it had closed."""
    deny = default_deny("x", *BOTH)
    apply(deny)
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a
        x/a   -    X    X
        x/b   X    -    X
        y/a   X    X    -
    """)
    remove(deny)
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a
        x/a   -    .    .
        x/b   .    -    .
        y/a   .    .    -
    """)


@pytest.mark.smoke
@behaviour("NPI-02a", protocol=[TCP, UDP], via=["pod-ip"])
def test_default_deny_ingress(apply, expect, protocol):
    """Nothing reaches x, not even from x itself; what x sends stays open."""
    apply(default_deny("x", "Ingress"))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    .    .
        x/b   X    -    .    .
        y/a   X    X    -    .
        y/b   X    X    .    -
    """)


@behaviour("NPI-02b", protocol=[TCP, UDP], via=["pod-ip"])
def test_default_deny_egress(apply, expect, protocol):
    """x sends nothing, not even to x itself; what is sent to x still arrives."""
    apply(default_deny("x", "Egress"))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    X    X
        x/b   X    -    X    X
        y/a   .    .    -    .
        y/b   .    .    .    -
    """)


@behaviour("NPI-02c", protocol=[TCP, UDP], via=["pod-ip", "cluster-ip"])
def test_default_deny_both(apply, expect, protocol, via):
    """x neither sends nor receives, by pod IP or through a Service; the others are untouched."""
    apply(default_deny("x", *BOTH))

    expect(protocol(8080), via=via).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    X    X
        x/b   X    -    X    X
        y/a   X    X    -    .
        y/b   X    X    .    -
    """)


@behaviour("NPI-03a", protocol=[TCP, UDP], via=["pod-ip"])
def test_allow_all_ingress(apply, expect, protocol):
    """A rule `{}` isolates the pods of x for ingress and lets everything in."""
    apply(policy("allow-all", "x", types=["Ingress"], ingress=[allow()]))

    expect(protocol(8080), sentinel=True).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    .    .    .
        x/b   .    -    .    .
        y/a   .    .    -    .
        y/b   .    .    .    -
    """)


@behaviour("NPI-03b", protocol=[TCP, UDP], via=["pod-ip"])
def test_allow_all_egress(apply, expect, protocol):
    """A rule `{}` isolates the pods of x for egress and lets everything out."""
    apply(policy("allow-all", "x", types=["Egress"], egress=[allow()]))

    expect(protocol(8080), sentinel=True).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    .    .    .
        x/b   .    -    .    .
        y/a   .    .    -    .
        y/b   .    .    .    -
    """)


@behaviour("NPI-03c", protocol=[TCP, UDP], via=["pod-ip"])
def test_allow_all_opens_what_a_default_deny_closed(apply, expect, protocol):
    """Policies add up: an allow-all beside a default deny of both directions opens both again."""
    apply(default_deny("x", *BOTH))
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a
        x/a   -    X    X
        x/b   X    -    X
        y/a   X    X    -
    """)
    apply(policy("allow-all", "x", types=BOTH, ingress=[allow()], egress=[allow()]))
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a
        x/a   -    .    .
        x/b   .    -    .
        y/a   .    .    -
    """)


@behaviour("NPI-04a", protocol=[TCP, UDP], via=["pod-ip"])
def test_directions_are_independent(apply, expect, protocol):
    """Ingress isolated, egress isolated but allowed: x sends to y, x gets nothing, and replies of what it sends pass."""
    apply(policy("in-closed-out-open", "x", types=BOTH, ingress=[], egress=[allow()]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    .    .
        x/b   X    -    .    .
        x/c   X    X    .    .
        y/a   X    X    -    .
        y/b   X    X    .    -
    """)


@behaviour("NPI-04b", protocol=[TCP], via=["pod-ip"])
def test_types_implied_by_ingress_rules(apply, expect, protocol):
    """A policy without policyTypes and without egress rules isolates for ingress only, whatever its ingress rules are."""
    apply(policy("implied", "x", ingress=[]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    .    .
        x/b   X    -    .    .
        y/a   X    X    -    .
        y/b   X    X    .    -
    """)


@behaviour("NPI-04c", protocol=[TCP], via=["pod-ip"])
def test_types_implied_by_egress_rules(apply, expect, protocol):
    """A policy without policyTypes but with egress rules isolates for both directions: here out to anywhere on another port, in nothing."""
    apply(policy("implied", "x", egress=[allow(ports=[TCP(8081)])]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    X    X
        x/b   X    -    X    X
        y/a   X    X    -    .
        y/b   X    X    .    -
    """)


@behaviour("NPI-04d", protocol=[TCP], via=["pod-ip"])
def test_egress_only_policy_leaves_ingress_open(apply, expect, protocol):
    """With policyTypes [Egress] alone nothing is isolated for ingress."""
    apply(policy("egress-only", "x", types=["Egress"], egress=[allow(ports=[TCP(8081)])]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    X    X
        x/b   X    -    X    X
        y/a   .    .    -    .
        y/b   .    .    .    -
    """)


@behaviour("NPI-04e", protocol=[TCP], via=["pod-ip"])
def test_both_lists_in_one_policy(apply, expect, protocol):
    """One policy with both lists: y gets in, x gets out to z, and neither list serves the other direction."""
    lists = {
        "ingress": [allow(peer(namespaces=namespace("y")))],
        "egress": [allow(peer(namespaces=namespace("z")), direction="to")],
    }
    apply(policy("both-lists", "x", types=BOTH, **lists))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a  z/b
        x/a   -    X    X    X    .    .
        x/b   X    -    X    X    .    .
        y/a   .    .    -    .    .    .
        y/b   .    .    .    -    .    .
        z/a   X    X    .    .    -    .
        z/b   X    X    .    .    .    -
    """)


@behaviour("NPI-04f", protocol=[TCP], via=["pod-ip"])
def test_a_policy_for_each_direction(apply, expect, protocol):
    """Two policies on the same pods, each for one direction: all may leave, nothing may come in, and neither undoes the other."""
    apply(policy("outgoing", "x", types=["Egress"], egress=[allow()]), policy("incoming", "x", types=["Ingress"], ingress=[]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    .    .
        x/b   X    -    .    .
        x/c   X    X    .    .
        y/a   X    X    -    .
        y/b   X    X    .    -
    """)


@behaviour("NPI-04g", protocol=[TCP], via=["pod-ip"], direction=["ingress", "egress"])
def test_rules_of_an_unlisted_direction_isolate_nothing(apply, expect, protocol, direction):
    """A policy for one direction that lets y through, with a rule of the other for z: that one is not isolated, as it is not listed."""
    listed = {direction: [allowing(direction, peer(namespaces=namespace("y")))]}
    unlisted = {other(direction): [allowing(other(direction), peer(namespaces=namespace("z")))]}
    apply(policy("one-direction", "x", types=[direction.capitalize()], **listed, **unlisted))

    expect(protocol(8080)).matrix(
        """
             x/a  x/b  y/a  y/b  z/a  z/b
        x/a   -    X    .    .    .    .
        x/b   X    -    .    .    .    .
        y/a   .    .    -    .    .    .
        y/b   .    .    .    -    .    .
        z/a   X    X    .    .    -    .
        z/b   X    X    .    .    .    -
    """,
        turned=direction == "egress",
    )


@behaviour("NPI-04h", protocol=[TCP], via=["pod-ip"], direction=["ingress", "egress"])
def test_rules_of_an_unlisted_direction_allow_nothing(apply, expect, protocol, direction):
    """x is isolated for one direction by a policy without rules; a rule of that direction in a policy for the other one opens nothing."""
    everything = {way: [allowing(way)] for way in (direction, other(direction))}
    apply(
        one_way(direction, "closed", "x"),
        policy("other-direction", "x", types=[other(direction).capitalize()], **everything),
    )

    expect(protocol(8080)).matrix(
        """
             x/a  x/b  y/a  y/b
        x/a   -    X    .    .
        x/b   X    -    .    .
        x/c   X    X    .    .
        y/a   X    X    -    .
        y/b   X    X    .    -
    """,
        turned=direction == "egress",
    )


# Empty lists. A rule without peers, or without ports, is for all of them, whether the list is empty or not there at all.


@behaviour("NPI-07a", protocol=[TCP], via=["pod-ip"])
def test_empty_from_means_anybody(apply, expect, protocol):
    """`from: []` lets everybody in on the rule's port; y, with a peer that matches nobody, shows what no list would do."""
    nobody = policy("nobody", "y", types=["Ingress"], ingress=[allow(peer(pods=match(pod="nobody")))])
    apply(policy("anybody", "x", types=["Ingress"], ingress=[{"from": [], "ports": [{"protocol": str(protocol), "port": 8080}]}]), nobody)

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    .    X    X
        x/b   .    -    X    X
        y/a   .    .    -    X
        z/b   .    .    X    X
    """)


@behaviour("NPI-07b", protocol=[TCP], via=["pod-ip"])
def test_empty_to_means_anybody(apply, expect, protocol):
    """`to: []` lets x send to everybody on the rule's port; y, with a peer that matches nobody, sends to nobody."""
    nobody = policy("nobody", "y", types=["Egress"], egress=[allow(peer(pods=match(pod="nobody")), direction="to")])
    apply(policy("anybody", "x", types=["Egress"], egress=[{"to": [], "ports": [{"protocol": str(protocol), "port": 8080}]}]), nobody)

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  z/b
        x/a   -    .    .    .
        x/b   .    -    .    .
        y/a   X    X    -    X
        y/b   X    X    X    X
    """)


@behaviour("NPI-07c", via=["pod-ip"])
def test_empty_ports_of_ingress_mean_any(apply, expect):
    """`ports: []` lets the rule's peers in on every port of every protocol."""
    apply(policy("any-port", "x", types=["Ingress"], ingress=[allow(peer(namespaces=namespace("y"))) | {"ports": []}]))

    expect(TCP(8080), UDP(8080), TCP(8081), UDP(8081)).matrix("""
             x/a  x/b
        y/a   .    .
        y/b   .    .
        z/a   X    X
        z/b   X    X
    """)


@behaviour("NPI-07d", via=["pod-ip"])
def test_empty_ports_of_egress_mean_any(apply, expect):
    """`ports: []` lets x send to the rule's peers on every port of every protocol."""
    apply(policy("any-port", "x", types=["Egress"], egress=[allow(peer(namespaces=namespace("y")), direction="to") | {"ports": []}]))

    expect(TCP(8080), UDP(8080), TCP(8081), UDP(8081)).matrix("""
             y/a  y/b  z/a  z/b
        x/a   .    .    X    X
        x/b   .    .    X    X
    """)
