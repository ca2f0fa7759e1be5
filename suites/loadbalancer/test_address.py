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
