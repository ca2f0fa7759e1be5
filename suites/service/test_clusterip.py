"""A Service's cluster IP: to whom it leads, and what happens where there is nobody."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, UDP, Decision, behaviour

CLIENTS = ("y/a", "y/b")  # one on each node


def clients(world, target):
    """A flow from each client to the target."""
    return [world.pod(name).to(target) for name in CLIENTS]


@pytest.mark.smoke
@behaviour("SVC-01a", protocol=[TCP], via=["cluster-ip"])
def test_cluster_ip_leads_to_an_endpoint(world, expect, protocol):
    """A TCP connection to the cluster IP is answered by an endpoint of the Service, from every node."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080)

    expect(*clients(world, web.by_ip())).answered_only_by("x/a", "x/b")


@behaviour("SVC-01b", protocol=[TCP], via=["name"])
def test_service_name_leads_to_an_endpoint(world, expect, protocol):
    """The Service's name resolves to its cluster IP, and a connection there is answered by an endpoint."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080)

    expect(*(world.pod(name).asks(web.dns) for name in CLIENTS)).answers(f"NOERROR {world.record} {web.address}")
    expect(*clients(world, web.by_ip())).answered_only_by("x/a", "x/b")


@pytest.mark.smoke
@behaviour("SVC-02", protocol=[UDP], via=["cluster-ip"])
def test_udp_cluster_ip(world, expect, protocol):
    """A datagram to the cluster IP is answered by an endpoint of the Service, from every node."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080)

    expect(*clients(world, web.by_ip())).answered_only_by("x/a", "x/b")


@behaviour("SVC-09a", protocol=[TCP, UDP], via=["cluster-ip"])
def test_endpoint_added(world, expect, protocol):
    """An endpoint that is the only one after the change answers all that is sent from then on."""
    web = world.service("web", selects=["x/a"], port=protocol(80), target=8080)
    expect(*clients(world, web.by_ip())).answered_only_by("x/a")

    web.selects("x/b")
    expect(*clients(world, web.by_ip())).answered_only_by("x/b")


@behaviour("SVC-09b", protocol=[TCP, UDP], via=["cluster-ip"])
def test_endpoint_removed(world, expect, protocol):
    """An endpoint that was removed gets nothing more, while the others go on answering."""
    web = world.service("web", selects=["x/a", "x/b", "x/c"], port=protocol(80), target=8080)
    expect(*clients(world, web.by_ip())).answered_only_by("x/a", "x/b", "x/c")

    web.selects("x/b", "x/c")
    expect(*clients(world, web.by_ip())).answered_only_by("x/b", "x/c")


@pytest.mark.early
@behaviour("SVC-12", protocol=[TCP, UDP], via=["cluster-ip"])
def test_source_kept(world, expect, protocol):
    """The endpoint sees the client's own pod IP as the source of what came through the cluster IP."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080)

    expect(*clients(world, web.by_ip())).answered_only_by("x/a", "x/b", source_kept=True)


@pytest.mark.early
@behaviour("SVC-14", protocol=[TCP, UDP], via=["cluster-ip"])
def test_no_endpoints_is_refused(world, expect, protocol):
    """A Service without endpoints refuses connections; it does not leave them to time out. That it worked with one is the control."""
    web = world.service("web", selects=["x/a"], port=protocol(80), target=8080)
    expect(*clients(world, web.by_ip())).answered_only_by("x/a")

    web.selects()
    expect(*clients(world, web.by_ip())).refused()


@behaviour("SVC-27a", protocol=[TCP, UDP], via=["cluster-ip"])
def test_not_ready_endpoints_get_nothing(world, expect, protocol):
    """A cluster IP leads to ready endpoints only."""
    ready = world.pods("ready", replicas=1)
    unready = world.pods("unready", replicas=2, ready=False)
    web = world.service("web", selects=[*ready, *unready], port=protocol(80), target=8080)

    expect(*clients(world, web.by_ip())).answered_only_by(*ready)


@behaviour("SVC-27b", protocol=[TCP], via=["cluster-ip"])
def test_ready_again_endpoints_answer(world, expect, protocol):
    """An endpoint that becomes ready again gets traffic again; the one that is no longer ready gets none."""
    first, second = world.pods("flip", replicas=2)
    world.set_ready(second, ready=False)
    web = world.service("web", selects=[first, second], port=protocol(80), target=8080)
    expect(*clients(world, web.by_ip())).answered_only_by(first)

    world.set_ready(second, ready=True)
    world.set_ready(first, ready=False)
    expect(*clients(world, web.by_ip())).answered_only_by(second)


@behaviour("SVC-11", protocol=[TCP, UDP], via=["cluster-ip"])
def test_endpoint_reaches_itself(world, expect, protocol):
    """The only endpoint of a Service reaches itself through the cluster IP."""
    web = world.service("web", selects=["x/a"], port=protocol(80), target=8080)

    expect(world.pod("x/a").to(web.by_ip())).answered_only_by("x/a")


@behaviour("NPO-08", protocol=[TCP], via=["cluster-ip"])
def test_internal_traffic_policy_local(world, expect, protocol):
    """With internalTrafficPolicy Local a client is led to endpoints of its own node alone; before, to those of both."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080)
    near, far = (world.pod(name).to(web.by_ip()) for name in CLIENTS)
    expect(near, far).answered_only_by("x/a", "x/b")

    web.becomes(internalTrafficPolicy="Local")
    expect().decided({near: Decision.ALLOW, far: Decision.ALLOW}, {near: "x/a", far: "x/b"}, by_chance=True)
