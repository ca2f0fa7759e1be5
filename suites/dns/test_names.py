"""Cluster DNS: which names there are, and that the answer is the right one. Asked of the resolver in the pod's own /etc/resolv.conf."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, UDP, behaviour

CLIENTS = ("x/a", "x/b")  # one on each node


def asked(world, name, type_="", *, over=UDP):
    """The question from a pod on each node."""
    return [world.pod(client).asks(name, type_, over=over) for client in CLIENTS]


def domain(world):
    """The cluster's domain, read off the search list: `namespace.svc.cluster.local svc.cluster.local cluster.local`."""
    return next(suffix.removeprefix("svc.") for suffix in world.pod("x/a").search if suffix.startswith("svc."))


@pytest.mark.smoke
@behaviour("DNS-01", protocol=[UDP], via=["name"])
def test_kubernetes_service(world, expect, protocol):
    """`kubernetes.default`, short and in full, resolves to the API server's cluster IP."""
    address = world.api_service_address()
    names = ["kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{domain(world)}."]

    expect(*(flow for name in names for flow in asked(world, name, over=protocol))).answers(f"NOERROR {world.record} {address}")


@behaviour("DNS-02", protocol=[UDP], via=["name"])
def test_service_names(world, expect, protocol):
    """A Service's name resolves to its own cluster IP, and to nothing else, in every form that the search list allows."""
    web = world.service("web", selects=["x/a"], port=TCP(80), target=8080)
    namespace = web.vip.namespace
    names = ["web", f"web.{namespace}", f"web.{namespace}.svc", f"web.{namespace}.svc.{domain(world)}."]

    expect(*(flow for name in names for flow in asked(world, name, over=protocol))).answers(f"NOERROR {world.record} {web.address}")


@behaviour("DNS-03", protocol=[TCP], via=["name"])
def test_names_over_tcp(world, expect, protocol):
    """What is answered over UDP is answered over TCP too: the API server's name and a Service's."""
    web = world.service("web", selects=["x/a"], port=TCP(80), target=8080)
    full = f"{web.dns}.{domain(world)}."

    expect(*asked(world, full, over=protocol)).answers(f"NOERROR {world.record} {web.address}")
    expect(*asked(world, f"kubernetes.default.svc.{domain(world)}.", over=protocol)).answers(
        f"NOERROR {world.record} {world.api_service_address()}"
    )


@behaviour("DNS-06", protocol=[UDP], via=["name"])
def test_headless_service(world, expect, protocol):
    """A headless Service's name resolves to exactly the addresses of its ready pods."""
    ready, unready = world.pods("ready", replicas=2), world.pods("unready", ready=False)
    web = world.service("web", selects=[*ready, *unready], port=TCP(80), target=8080, clusterIP="None")
    addresses = sorted(world.pod(name).address for name in ready)

    expect(*asked(world, f"{web.dns}.{domain(world)}.", over=protocol)).answers(f"NOERROR {world.record} {' '.join(addresses)}")


@pytest.mark.smoke
@behaviour("DNS-16", protocol=[UDP, TCP], via=["name"])
def test_missing_name(world, expect, protocol):
    """A name that does not exist below the cluster's domain is answered by NXDOMAIN at once."""
    expect(*asked(world, f"no-such-service.default.svc.{domain(world)}.", over=protocol)).answers("NXDOMAIN")


@behaviour("DNS-05", protocol=[UDP], via=["name"])
def test_reverse_name(world, expect, protocol):
    """The reverse name of a cluster IP leads back to the Service's own name."""
    import ipaddress

    web = world.service("web", selects=["x/a"], port=TCP(80), target=8080)
    reverse = ipaddress.ip_address(web.address).reverse_pointer + "."

    expect(*asked(world, reverse, "PTR", over=protocol)).answers(f"NOERROR PTR {web.dns}.{domain(world)}")


@behaviour("DNS-07", protocol=[UDP], via=["name"])
def test_not_ready_addresses_published(world, expect, protocol):
    """A headless Service with publishNotReadyAddresses names its pods that are not Ready too."""
    ready, unready = world.pods("ready"), world.pods("unready", ready=False)
    published = {"clusterIP": "None", "publishNotReadyAddresses": True}
    web = world.service("web", selects=[*ready, *unready], port=TCP(80), target=8080, **published)
    addresses = sorted(world.pod(name).address for name in [*ready, *unready])

    expect(*asked(world, f"{web.dns}.{domain(world)}.", over=protocol)).answers(f"NOERROR {world.record} {' '.join(addresses)}")


@behaviour("DNS-17", protocol=[UDP], via=["name"])
def test_type_that_a_name_has_not(world, expect, protocol):
    """A name that exists is answered without records, and not by NXDOMAIN, for a type that it has none of."""
    web = world.service("web", selects=["x/a"], port=TCP(80), target=8080)

    expect(*asked(world, f"{web.dns}.{domain(world)}.", "PTR", over=protocol)).answers("NOERROR PTR")
