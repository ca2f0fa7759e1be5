"""Pods and namespaces that come and go under policies that stand.

Most cases come twice. They are drawn for ingress: the far pods send to those of x. For egress the same holds the other way round.
"""

from __future__ import annotations

import pytest
from netproof.cases import TCP, behaviour

from .policies import FRIENDS, OPEN, SHUT, allowing, between, match, meets, namespace, one_way, peer

BOTH = ("ingress", "egress")
RED = peer(namespaces=match(team="red"))

pytestmark = pytest.mark.early


@behaviour("NPC-06a", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_new_pod_in_an_isolated_namespace(apply, expect, world, protocol, direction):
    """Pods made in x after its policy are isolated as the others are: open to y, closed to z."""
    apply(one_way(direction, "some", "x", allowing(direction, peer(namespaces=namespace("y")))))
    meets(world, expect, direction, protocol(8080), {"y/a": OPEN, "y/b": OPEN, "z/a": SHUT, "z/b": SHUT})

    made = world.new_pods("x", beside=["x/a", "x/b"])
    flows = {between(world, direction, far, near, protocol(8080)): far for near in made for far in ("y/a", "y/b", "z/a", "z/b")}
    controls = {flow: between(world, direction, far, "x/a", protocol(8080)) for flow, far in flows.items()}
    expect(controls=controls).decided({flow: OPEN if far[0] == "y" else SHUT for flow, far in flows.items()})


@behaviour("NPC-06b", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_new_pod_that_a_rule_matches(apply, expect, world, protocol, direction):
    """Pods made in y after a policy whose peer they match are allowed; one made with them that does not match is not."""
    apply(one_way(direction, "friends", "x", allowing(direction, FRIENDS)))
    meets(world, expect, direction, protocol(8080), {"y/a": SHUT, "y/b": SHUT})

    friends = world.new_pods("y", beside=["y/a", "y/b"], labels={"role": "friend"})
    [stranger] = world.new_pods("y", beside=["y/b"], labels={"role": "stranger"})
    meets(world, expect, direction, protocol(8080), dict.fromkeys(friends, OPEN) | {stranger: SHUT, "y/a": SHUT}, control="y/a")


@behaviour("NPC-06c", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_end_of_a_pod_that_a_rule_matches(apply, expect, world, protocol, direction):
    """Of two pods that a peer matches one is deleted: the other stays allowed, and the rest stays denied."""
    first, second = world.new_pods("y", beside=["y/a", "y/b"], labels={"role": "friend"})
    apply(one_way(direction, "friends", "x", allowing(direction, FRIENDS)))
    meets(world, expect, direction, protocol(8080), {first: OPEN, second: OPEN, "y/a": SHUT, "y/b": SHUT})

    world.end_pods(first)
    meets(world, expect, direction, protocol(8080), {second: OPEN, "y/a": SHUT, "y/b": SHUT}, sentinel=True)


@behaviour("NPC-06d", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_new_namespace_that_a_rule_matches(apply, expect, world, protocol, direction):
    """The pods of a namespace made after a policy whose peer it matches are allowed."""
    apply(one_way(direction, "red", "x", allowing(direction, RED)))
    meets(world, expect, direction, protocol(8080), {"y/a": SHUT, "z/b": SHUT})

    world.new_namespace("w", {"team": "red"})
    made = world.new_pods("w", beside=["x/a", "x/b"])
    meets(world, expect, direction, protocol(8080), dict.fromkeys(made, OPEN) | {"y/a": SHUT, "z/b": SHUT})


@pytest.mark.slow
@behaviour("NPC-06e", protocol=[TCP], via=["pod-ip"])
def test_namespace_made_anew_without_the_label(apply, expect, world, protocol):
    """A namespace that a peer matches is deleted, and made anew without the label: the pods in it are not allowed."""
    world.new_namespace("w", {"team": "red"})
    made = world.new_pods("w", beside=["x/a", "x/b"])
    apply(one_way("ingress", "red", "x", allowing("ingress", RED)))
    meets(world, expect, "ingress", protocol(8080), dict.fromkeys(made, OPEN) | {"y/a": SHUT, "y/b": SHUT})

    world.end_namespace("w")
    world.new_namespace("w")
    made = world.new_pods("w", beside=["x/a", "x/b"])
    meets(world, expect, "ingress", protocol(8080), dict.fromkeys(made, SHUT) | {"y/a": SHUT}, control="y/a")


@behaviour("NPC-06f", protocol=[TCP], via=["pod-ip"])
def test_pod_made_anew_without_the_label(apply, expect, world, protocol):
    """A pod that a peer matches is deleted, and made anew under its name without the label: it is not allowed."""
    [name] = world.new_pods("y", beside=["y/a"], labels={"role": "friend"})
    apply(one_way("ingress", "friends", "x", allowing("ingress", FRIENDS)))
    meets(world, expect, "ingress", protocol(8080), {name: OPEN, "y/a": SHUT, "y/b": SHUT})

    world.renew_pod(name)
    meets(world, expect, "ingress", protocol(8080), {name: SHUT, "y/a": SHUT}, control="y/a")
