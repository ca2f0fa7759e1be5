"""LoadBalancer: an address is given, and what is sent to it from outside arrives."""

from __future__ import annotations

from netproof.cases import TCP, UDP, behaviour


@behaviour("LBR-01", protocol=[TCP], via=["load-balancer"])
def test_address_is_given(world, expect, protocol):
    """A Service of type LoadBalancer is given an address within a minute."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080, type="LoadBalancer")

    expect.address(web)


@behaviour("LBR-02", protocol=[TCP, UDP], via=["load-balancer"], needs=["Outsider"])
def test_reached_from_outside(world, expect, protocol):
    """What a client outside the cluster sends to the address is answered by an endpoint of the Service."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080, type="LoadBalancer")

    expect(world.outside().to(web.by_load_balancer()), world.outside("b").to(web.by_load_balancer())).answered_only_by("x/a", "x/b")


@behaviour("LBR-03", protocol=[TCP], via=["load-balancer"])
def test_reached_from_pods(world, expect, protocol):
    """Pods on every node reach the address too, with an endpoint on their node or without."""
    web = world.service("web", selects=["x/a"], port=protocol(80), target=8080, type="LoadBalancer")
    target = web.by_load_balancer()

    expect(world.pod("y/a").to(target), world.pod("y/b").to(target)).answered_only_by("x/a")


@behaviour("LBR-06", protocol=[TCP], via=["load-balancer"], needs=["Outsider"])
def test_source_ranges(world, expect, protocol):
    """loadBalancerSourceRanges leave out every client that is in none of them; before they were set, both got through."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080, type="LoadBalancer")
    target = web.by_load_balancer()
    inside, outside = world.outside("a").to(target), world.outside("b").to(target)
    expect(inside, outside).answered_only_by("x/a", "x/b")

    web.becomes(loadBalancerSourceRanges=[world.outside("a").cidr])
    expect(inside).answered_only_by("x/a", "x/b")
    expect(outside).denied()
