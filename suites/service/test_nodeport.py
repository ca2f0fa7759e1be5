"""NodePort: the same Service on every node's address."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, UDP, Decision, behaviour

CLIENTS = ("y/a", "y/b")


@pytest.mark.smoke
@behaviour("NPO-01a", protocol=[TCP], via=["node-port"])
def test_every_node_address(world, expect, protocol):
    """The node port answers on the address of every node, with or without an endpoint there, from pods on every node."""
    web = world.service("web", selects=["x/a"], port=protocol(80), target=8080, type="NodePort")
    flows = [world.pod(client).to(target) for client in CLIENTS for target in web.by_node_port()]

    expect(*flows).answered_only_by("x/a")


@behaviour("NPO-01b", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_every_node_address_from_outside(world, expect, protocol):
    """The node port answers on the address of every node to a client outside the cluster."""
    web = world.service("web", selects=["x/a"], port=protocol(80), target=8080, type="NodePort")

    expect(*(world.outside().to(target) for target in web.by_node_port())).answered_only_by("x/a")


@behaviour("NPO-01c", protocol=[TCP], via=["cluster-ip"])
def test_cluster_ip_of_a_node_port_service(world, expect, protocol):
    """A NodePort Service has a cluster IP, resolved by its name, that works as that of any other."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080, type="NodePort")

    expect(*(world.pod(client).asks(web.dns) for client in CLIENTS)).answers(f"NOERROR {world.record} {web.address}")
    expect(*(world.pod(client).to(web.by_ip()) for client in CLIENTS)).answered_only_by("x/a", "x/b")


@behaviour("NPO-06a", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_external_traffic_policy_local(world, expect, protocol):
    """With externalTrafficPolicy Local only the endpoint's own node answers clients outside; before, every node did."""
    web = world.service("web", selects=["x/a"], port=protocol(80), target=8080, type="NodePort")
    flows = {target.address: world.outside().to(target) for target in web.by_node_port()}
    expect(*flows.values()).answered_only_by("x/a")

    web.becomes(externalTrafficPolicy="Local")
    home = world.node_address_of("x/a")
    decided = {flow: Decision.ALLOW if address == home else Decision.DENY for address, flow in flows.items()}
    expect().decided(decided, dict.fromkeys(decided, "x/a"))


@behaviour("NPO-06b", protocol=[TCP, UDP], via=["node-port"], needs=["Outsider"])
def test_client_address_under_local(world, expect, protocol):
    """With externalTrafficPolicy Local the endpoint sees the address of the client outside."""
    web = world.service("web", selects=["x/a"], port=protocol(80), target=8080, type="NodePort", externalTrafficPolicy="Local")
    home = next(target for target in web.by_node_port() if target.address == world.node_address_of("x/a"))

    expect(world.outside("a").to(home), world.outside("b").to(home)).answered_only_by("x/a", source_kept=True)
