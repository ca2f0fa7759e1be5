"""Changes: policies that are edited, joined and removed, and labels that come and go under a policy that stands."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, behaviour

from .policies import FRIENDS, OPEN, SHUT, allow, allowing, between, match, meets, namespace, one_way, peer, pod, policy


def ingress_to_x(*peers):
    """Isolates x and lets these peers in."""
    return policy("peers", "x", types=["Ingress"], ingress=[allow(*peers)])


def isolated(world, expect, direction, port, decisions):
    """Expect a decision for each pod of x, against a pod of y on one node and one of z on the other."""
    expect().decided({between(world, direction, far, near, port): decisions[near] for near in decisions for far in ("y/a", "z/b")})


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


@behaviour("NPC-04c", protocol=[TCP], via=["pod-ip"])
def test_edited_egress_rules(apply, expect, protocol):
    """An egress policy whose peers are edited allows the new ones and no longer the old."""
    apply(one_way("egress", "peers", "x", allowing("egress", peer(namespaces=namespace("y")))))
    expect(protocol(8080)).matrix("""
             x/c  y/a  y/b  z/a  z/b
        x/a   X    .    .    X    X
        x/b   X    .    .    X    X
    """)

    apply(one_way("egress", "peers", "x", allowing("egress", peer(namespaces=namespace("z")))))
    expect(protocol(8080)).matrix("""
             x/c  y/a  y/b  z/a  z/b
        x/a   X    X    X    .    .
        x/b   X    X    X    .    .
    """)


@behaviour("NPC-04d", protocol=[TCP], via=["pod-ip"], direction=["ingress", "egress"])
def test_edited_ports(apply, expect, world, protocol, direction):
    """A policy whose port is edited opens the new one and closes the old."""
    old, new = protocol(8080), protocol(8081)
    pairs = [("y/a", "x/a"), ("y/b", "x/a"), ("y/a", "x/b"), ("y/b", "x/b")]
    flows = {(pair, port): world.pod(pair[0]).to(world.pod(pair[1]).on(port)) for pair in pairs for port in (old, new)}
    subject = "x" if direction == "ingress" else "y"

    for opened in (old, new):
        apply(one_way(direction, "port", subject, allowing(direction, ports=[opened])))
        expect().decided({flow: OPEN if port == opened else SHUT for (_, port), flow in flows.items()})


@behaviour("NPC-04e", protocol=[TCP], via=["pod-ip"])
def test_edited_types(apply, expect, protocol):
    """A policy whose policyTypes are edited from Ingress to Egress closes the way out and frees the way in."""
    apply(policy("types", "x", types=["Ingress"]))
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    .    .
        x/b   X    -    .    .
        y/a   X    X    -    .
        y/b   X    X    .    -
    """)

    apply(policy("types", "x", types=["Egress"]))
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b
        x/a   -    X    X    X
        x/b   X    -    X    X
        y/a   .    .    -    .
        y/b   .    .    .    -
    """)


@behaviour("NPC-04f", protocol=[TCP], via=["pod-ip"])
def test_edited_egress_subject(apply, expect, protocol):
    """An egress policy whose podSelector is edited isolates the new pods and frees the old."""
    for_a, for_b = ({name: one_way("egress", "subject", name, pods=pod(subject)) for name in "xy"} for subject in "ab")
    apply(for_a["x"], for_b["y"])
    expect(protocol(8080)).matrix("""
             x/c  z/a  z/b
        x/a   X    X    X
        x/b   .    .    .
        y/a   .    .    .
        y/b   X    X    X
    """)

    apply(for_b["x"], for_a["y"])
    expect(protocol(8080)).matrix("""
             x/c  z/a  z/b
        x/a   .    .    .
        x/b   X    X    X
        y/a   X    X    X
        y/b   .    .    .
    """)


@pytest.mark.slow
@behaviour("NPC-05a", protocol=[TCP], via=["pod-ip"])
def test_relabelled_peer(apply, relabel, expect, world, protocol):
    """The label of a peer moves from one pod to another: the one gets in now, and the other no longer."""
    [friend] = world.new_pods("y", beside=["y/b"], labels={"role": "friend"})
    [other] = world.new_pods("y", beside=["y/a"])
    apply(one_way("ingress", "friends", "x", allowing("ingress", FRIENDS)))
    meets(world, expect, "ingress", protocol(8080), {friend: OPEN, other: SHUT, "y/b": SHUT})

    relabel(friend, {"role": None})
    relabel(other, {"role": "friend"})
    meets(world, expect, "ingress", protocol(8080), {friend: SHUT, other: OPEN, "y/b": SHUT})


@pytest.mark.slow
@behaviour("NPC-05b", protocol=[TCP], via=["pod-ip"])
def test_relabelled_subject(apply, relabel, expect, world, protocol):
    """The label by which a policy selects moves from one pod to another: the one is isolated now, and the other free."""
    [guarded] = world.new_pods("x", beside=["x/b"], labels={"role": "guarded"})
    [other] = world.new_pods("x", beside=["x/a"])
    apply(one_way("ingress", "guarded", "x", pods=match(role="guarded")), one_way("ingress", "anchor", "x", pods=pod("c")))
    isolated(world, expect, "ingress", protocol(8080), {guarded: SHUT, other: OPEN, "x/c": SHUT})

    relabel(guarded, {"role": None})
    relabel(other, {"role": "guarded"})
    isolated(world, expect, "ingress", protocol(8080), {guarded: OPEN, other: SHUT, "x/c": SHUT})


@pytest.mark.slow
@behaviour("NPC-05c", protocol=[TCP], via=["pod-ip"])
def test_relabelled_namespace(apply, relabel, expect, world, protocol):
    """The label of a peer moves from one namespace to another: the pods of the one get in now, and those of the other no longer."""
    world.new_namespace("w", {"team": "red"})
    world.new_namespace("v")
    red = world.new_pods("w", beside=["x/a", "x/b"])
    plain = world.new_pods("v", beside=["x/a", "x/b"])
    apply(one_way("ingress", "red", "x", allowing("ingress", peer(namespaces=match(team="red")))))
    meets(world, expect, "ingress", protocol(8080), dict.fromkeys(red, OPEN) | dict.fromkeys([*plain, "z/a"], SHUT))

    relabel("w", {"team": None})
    relabel("v", {"team": "red"})
    meets(world, expect, "ingress", protocol(8080), dict.fromkeys(plain, OPEN) | dict.fromkeys([*red, "z/a"], SHUT))


@pytest.mark.slow
@behaviour("NPC-05d", protocol=[TCP], via=["pod-ip"])
def test_relabelled_peer_of_egress(apply, relabel, expect, world, protocol):
    """x may send to the pods of y that have a label: the label moves from one pod to another, and with it what is allowed."""
    [friend] = world.new_pods("y", beside=["y/a"], labels={"role": "friend"})
    [other] = world.new_pods("y", beside=["y/b"])
    apply(one_way("egress", "friends", "x", allowing("egress", FRIENDS)))
    meets(world, expect, "egress", protocol(8080), {friend: OPEN, other: SHUT, "y/c": SHUT})

    relabel(friend, {"role": None})
    relabel(other, {"role": "friend"})
    meets(world, expect, "egress", protocol(8080), {friend: SHUT, other: OPEN, "y/c": SHUT})


@pytest.mark.slow
@behaviour("NPC-05e", protocol=[TCP], via=["pod-ip"])
def test_relabelled_subject_of_egress(apply, relabel, expect, world, protocol):
    """An egress policy isolates the pods that have a label: the label moves from one pod to another, and with it the isolation."""
    [guarded] = world.new_pods("x", beside=["x/a"], labels={"role": "guarded"})
    [other] = world.new_pods("x", beside=["x/c"])
    apply(one_way("egress", "guarded", "x", pods=match(role="guarded")), one_way("egress", "anchor", "x", pods=pod("b")))
    isolated(world, expect, "egress", protocol(8080), {guarded: SHUT, "x/b": SHUT, other: OPEN})

    relabel(guarded, {"role": None})
    relabel(other, {"role": "guarded"})
    isolated(world, expect, "egress", protocol(8080), {guarded: OPEN, "x/b": SHUT, other: SHUT})


@pytest.mark.slow
@behaviour("NPC-05f", protocol=[TCP], via=["pod-ip"])
def test_relabelled_namespace_of_egress(apply, relabel, expect, world, protocol):
    """x may send to pods a of namespaces that have a label: the label moves from one to another, and with it what is allowed."""
    world.new_namespace("w", {"team": "red"})
    world.new_namespace("v")
    [red], [plain] = (world.new_pods(letter, beside=["y/b"], labels={"pod": "a"}) for letter in "wv")
    [red_b], [plain_b] = (world.new_pods(letter, beside=["y/a"]) for letter in "wv")
    apply(one_way("egress", "red", "x", allowing("egress", peer(pods=pod("a"), namespaces=match(team="red")))))
    meets(world, expect, "egress", protocol(8080), {red: OPEN, red_b: SHUT, plain: SHUT, plain_b: SHUT, "z/a": SHUT})

    relabel("w", {"team": None})
    relabel("v", {"team": "red"})
    meets(world, expect, "egress", protocol(8080), {red: SHUT, red_b: SHUT, plain: OPEN, plain_b: SHUT, "z/a": SHUT})
