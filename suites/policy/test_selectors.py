"""Selectors: matchExpressions, the names of namespaces, and selectors that match nothing. x is isolated; who gets in is drawn."""

from __future__ import annotations

from netproof.cases import TCP, behaviour

from .policies import allow, both, default_deny, expression, match, peer, pod, policy


def ingress_to_x(*peers):
    """Isolates x and lets these peers in."""
    return policy("peers", "x", types=["Ingress"], ingress=[allow(*peers)])


@behaviour("NPP-04a", protocol=[TCP], via=["pod-ip"])
def test_in(apply, expect, protocol):
    """`In` matches the pods whose label has one of the values: a and b of x, not c."""
    apply(ingress_to_x(peer(pods=expression("pod", "In", "a", "b"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c
        x/a   -    .    .
        x/b   .    -    .
        x/c   X    X    -
        y/a   X    X    X
    """)


@behaviour("NPP-04b", protocol=[TCP], via=["pod-ip"])
def test_not_in(apply, expect, protocol):
    """`NotIn` matches pods with another value (b) and pods without the key (a): of x only c has the value that is left out."""
    apply(ingress_to_x(peer(pods=expression("tier", "NotIn", "front"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c
        x/a   -    .    .
        x/b   .    -    .
        x/c   X    X    -
        y/a   X    X    X
    """)


@behaviour("NPP-04c", protocol=[TCP], via=["pod-ip"])
def test_exists(apply, expect, protocol):
    """`Exists` matches the pods that have the key, whatever its value: a has one, b has it empty, c lacks the key."""
    apply(ingress_to_x(peer(pods=expression("rank", "Exists"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c
        x/a   -    .    .
        x/b   .    -    .
        x/c   X    X    -
        y/a   X    X    X
    """)


@behaviour("NPP-04d", protocol=[TCP], via=["pod-ip"])
def test_does_not_exist(apply, expect, protocol):
    """`DoesNotExist` matches the pods that lack the key, a and b; c has it, and an empty value is a value."""
    apply(ingress_to_x(peer(pods=expression("spare", "DoesNotExist"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c
        x/a   -    .    .
        x/b   .    -    .
        x/c   X    X    -
        y/a   X    X    X
    """)


@behaviour("NPP-04e", protocol=[TCP], via=["pod-ip"])
def test_namespaces_not_in(apply, expect, protocol):
    """`NotIn` on namespaces: every pod of the world's namespaces but y's."""
    apply(ingress_to_x(peer(namespaces=expression("ns", "NotIn", "y"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/a   -    .
        x/b   .    -
        y/a   X    X
        y/b   X    X
        z/a   .    .
        z/b   .    .
    """)


@behaviour("NPP-05", protocol=[TCP], via=["pod-ip"])
def test_namespace_by_its_name(apply, expect, world, protocol):
    """A namespace can be selected by its name: the API server labels each with `kubernetes.io/metadata.name`."""
    apply(ingress_to_x(peer(namespaces=match(**{"kubernetes.io/metadata.name": world.namespace("y")}))))

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/a   -    X
        x/b   X    -
        y/a   .    .
        y/b   .    .
        z/a   X    X
    """)


@behaviour("NPP-01c", protocol=[TCP], via=["pod-ip"])
def test_selector_that_matches_nothing(apply, expect, protocol):
    """A peer that matches no pod lets nobody in: nothing is not everything."""
    apply(ingress_to_x(peer(pods=match(pod="nobody"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/a   -    X
        x/b   X    -
        y/a   X    X
        y/b   X    X
    """)


@behaviour("NPI-05a", protocol=[TCP], via=["pod-ip"])
def test_subject_by_label(apply, expect, protocol):
    """A policy isolates the pods that its selector matches, and no other of its namespace."""
    apply(policy("some", "x", pods=pod("a"), types=["Ingress"]), policy("more", "x", pods=pod("b"), types=["Ingress"]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c  y/a
        x/a   -    X    .    .
        x/b   X    -    .    .
        x/c   X    X    -    .
        y/a   X    X    .    -
        y/b   X    X    .    .
    """)


@behaviour("NPI-05b", protocol=[TCP], via=["pod-ip"])
def test_subject_by_expression(apply, expect, protocol):
    """matchExpressions select the subject as they select peers: all of x but c are isolated."""
    apply(policy("some", "x", pods=expression("pod", "NotIn", "c"), types=["Ingress"]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c
        x/a   -    X    .
        x/b   X    -    .
        x/c   X    X    -
        y/a   X    X    .
        y/b   X    X    .
    """)


@behaviour("NPI-06", protocol=[TCP], via=["pod-ip"])
def test_policy_acts_in_its_namespace(apply, expect, protocol):
    """A policy isolates pods of its own namespace; pods of the same labels elsewhere stay open."""
    apply(policy("mine", "x", pods=expression("pod", "In", "a", "b"), types=["Ingress"]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a
        x/a   -    X    .    .    .
        x/b   X    -    .    .    .
        y/a   X    X    -    .    .
        y/b   X    X    .    -    .
    """)


@behaviour("NPI-05c", protocol=[TCP], via=["pod-ip"])
def test_subject_that_matches_nothing(apply, expect, protocol):
    """A policy whose selector matches no pod isolates nobody."""
    apply(policy("nobody", "x", pods=match(pod="nobody"), types=["Ingress", "Egress"]), default_deny("y", "Ingress"))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c  y/a  y/b
        x/a   -    .    .    X    X
        x/b   .    -    .    X    X
        z/a   .    .    .    X    X
        z/b   .    .    .    X    X
    """)


@behaviour("NPI-05d", protocol=[TCP], via=["pod-ip"])
def test_subject_of_egress(apply, expect, protocol):
    """An egress policy isolates the senders that its selector matches, and no other of its namespace."""
    apply(policy("some", "x", pods=pod("a"), types=["Egress"]), policy("more", "x", pods=pod("b"), types=["Egress"]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c  y/a  y/b
        x/a   -    X    X    X    X
        x/b   X    -    X    X    X
        x/c   .    .    -    .    .
        y/a   .    .    .    -    .
    """)


@behaviour("NPI-05e", protocol=[TCP], via=["pod-ip"])
def test_subject_by_labels_and_expressions(apply, expect, protocol):
    """matchLabels and matchExpressions of a subject are ANDed: of x only b is big and has a rank; c is big, a has a rank."""
    ranked_and_big = both(match(size="big"), expression("rank", "Exists"))
    apply(policy("some", "x", pods=ranked_and_big, types=["Ingress"]), policy("other", "y", pods=pod("a"), types=["Ingress"]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c  y/a
        x/a   -    X    .    X
        x/b   .    -    .    X
        y/a   .    X    .    -
        y/b   .    X    .    X
    """)


@behaviour("NPI-06b", protocol=[TCP], via=["pod-ip"])
def test_egress_policy_acts_in_its_namespace(apply, expect, protocol):
    """An egress policy isolates senders of its own namespace; pods of the same labels elsewhere go on to send."""
    apply(policy("mine", "x", pods=expression("pod", "In", "a", "b"), types=["Egress"]))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a
        x/a   -    X    X    X    X
        x/b   X    -    X    X    X
        y/a   .    .    -    .    .
        y/b   .    .    .    -    .
        z/b   .    .    .    .    .
    """)


@behaviour("NPP-04f", protocol=[TCP], via=["pod-ip"])
def test_several_requirements(apply, expect, protocol):
    """The requirements of a peer's selector are ANDed: of x only b is big, has a rank and has a tier."""
    apply(ingress_to_x(peer(pods=both(match(size="big"), expression("rank", "Exists"), expression("tier", "Exists")))))

    expect(protocol(8080)).matrix("""
             x/a  x/b  x/c
        x/a   -    X    X
        x/b   .    -    .
        x/c   X    X    -
        y/b   X    X    X
    """)


@behaviour("NPP-04h", protocol=[TCP], via=["pod-ip"])
def test_expressions_in_both_selectors(apply, expect, protocol):
    """Expressions on pods and on their namespaces in one peer: b and c of every namespace but x."""
    apply(ingress_to_x(peer(pods=expression("pod", "In", "b", "c"), namespaces=expression("ns", "NotIn", "x"))))

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/b   X    -
        x/c   X    X
        y/a   X    X
        y/b   .    .
        y/c   .    .
        z/a   X    X
        z/b   .    .
    """)
