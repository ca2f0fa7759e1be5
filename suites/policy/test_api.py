"""NetworkPolicies as objects: what the API server keeps, tells and refuses. No packet is sent."""

from __future__ import annotations

from netproof.cases import behaviour

from .policies import allow, namespace, one_way, peer, policy

Y, Z = peer(namespaces=namespace("y")), peer(namespaces=namespace("z"))


def peers_of(stored):
    """The peers of the first ingress rule, as the API holds them."""
    return stored["spec"]["ingress"][0]["from"]


@behaviour("NPC-10a")
def test_stored_edited_and_deleted(world, expect):
    """A policy is read as it was made, then as it was edited, and is gone once it is deleted."""
    shelf = world.stored("x")
    shelf.create(policy("kept", "x", types=["Ingress"], ingress=[allow(Y)]))
    expect.same("the peers after the policy was made", peers_of(shelf.read("kept")), [Y])

    shelf.edit("kept", policy("kept", "x", types=["Ingress"], ingress=[allow(Z)])["spec"])
    expect.same("the peers after the policy was edited", peers_of(shelf.read("kept")), [Z])

    shelf.delete("kept")
    expect.same("the policy after it was deleted", shelf.read("kept"), None)


@behaviour("NPC-10b")
def test_listed_by_label(world, expect):
    """A list by label holds the policies that have it, and no others."""
    shelf = world.stored("x")
    for name, shade in (("one", "red"), ("two", "red"), ("three", "blue")):
        shelf.create(one_way("ingress", name, "x"), shade=shade)

    expect.same("the policies with the label shade=red", shelf.names(shade="red"), ["one", "two"])


@behaviour("NPC-10c")
def test_watched_by_label(world, expect):
    """A watch by label tells what is made, edited and deleted among the policies that have it."""
    shelf = world.stored("x")
    before = shelf.version()
    shelf.create(one_way("ingress", "seen", "x"), shade="red")
    shelf.create(one_way("ingress", "unseen", "x"), shade="blue")
    shelf.edit("seen", one_way("egress", "seen", "x")["spec"])
    shelf.delete("seen")

    told = [("ADDED", "seen"), ("MODIFIED", "seen"), ("DELETED", "seen")]
    expect.same("what the watch tells of shade=red", shelf.changes(before, shade="red"), told)


FIELD = "spec.ingress[0].ports[0].endPort"


def a_range(**port):
    """A policy with one range of ports."""
    return policy("range", "x", types=["Ingress"], ingress=[allow(ports=[{"protocol": "TCP", **port}])])


@behaviour("NPC-10d")
def test_end_of_a_range_below_its_start(expect):
    """An endPort below its port is refused; one that equals it is not."""
    expect.refused(a_range(port=8080, endPort=8079), FIELD, but=a_range(port=8080, endPort=8080))


@behaviour("NPC-10e")
def test_end_of_a_range_without_a_start(expect):
    """An endPort without a port is refused."""
    expect.refused(a_range(endPort=8080), FIELD, but=a_range(port=8080, endPort=8080))


@behaviour("NPC-10f")
def test_end_of_a_range_behind_a_name(expect):
    """An endPort behind a named port is refused."""
    expect.refused(a_range(port="web", endPort=8080), FIELD, but=a_range(port=8080, endPort=8080))
