"""Isolation: what still reaches a pod, and what it still reaches, once a policy selects it."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, UDP, behaviour

from .policies import allow, default_deny, policy

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


@behaviour("NPI-02c", protocol=[TCP, UDP], via=["pod-ip"])
def test_default_deny_both(apply, expect, protocol):
    """x neither sends nor receives; the others are untouched."""
    apply(default_deny("x", *BOTH))

    expect(protocol(8080)).matrix("""
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
