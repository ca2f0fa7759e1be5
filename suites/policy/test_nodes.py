"""Policies and the nodes: a pod's own node is not kept from it, and what comes from other nodes is left to the implementation."""

from __future__ import annotations

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allow, default_deny, namespace, one_way, peer, policy

OPEN, SHUT, SEEN = Decision.ALLOW, Decision.DENY, Decision.OBSERVE
NEAR = ("x/a", "x/b")


def from_y(world, port):
    """From y to a pod of x on either node."""
    return [world.pod(client).to(world.pod(server).on(port)) for client in ("y/a", "y/b") for server in NEAR]


@behaviour("NPT-02a", via=["pod-ip"])
def test_probes_pass_a_default_deny(apply, expect, world):
    """Pods that nothing may reach, and that may reach nothing, become Ready when they listen for the kubelet's probe."""
    probed = world.pods("probed", replicas=2)
    apply(default_deny("x", "Ingress", "Egress"))
    expect(*(world.pod("y/a").to(world.pod(name).on(TCP(8080))) for name in probed)).denied()

    expect.ready(*probed)


@behaviour("NPT-02b", protocol=[TCP, UDP], via=["pod-ip"], needs=["HostNetwork"])
def test_own_node_passes_a_default_deny(apply, expect, world, protocol):
    """Pods that nothing may reach are reached from their own node."""
    port = protocol(8080)
    own = [world.host(name).to(world.pod(name).on(port)) for name in NEAR]
    apply(default_deny("x", "Ingress", "Egress"))

    expect().decided(dict.fromkeys(own, OPEN) | dict.fromkeys(from_y(world, port), SHUT))


@behaviour("NPT-02c", protocol=[TCP], via=["pod-ip"], needs=["HostNetwork"])
def test_policy_on_a_host_network_pod_spares_its_node(apply, expect, world, protocol):
    """A default deny selects pods on the nodes' network: the pods of these nodes still talk, and the kubelet's probes still reach them."""
    probed = world.pods("probed", replicas=2)
    for name in NEAR:
        world.host(name)
    apply(default_deny("host", "Ingress", "Egress"))
    expect(*from_y(world, protocol(8080)), sentinel=True).reaches()

    expect.ready(*probed)


@behaviour("NPT-02d", protocol=[TCP], via=["node-ip"], needs=["HostNetwork"])
def test_own_node_under_an_egress_deny(apply, expect, world, protocol):
    """Pods that may send nothing: what of their own node they still reach is looked at."""
    own = [world.pod(name).to(world.host(name).on(protocol(world.host_port))) for name in NEAR]
    denied = [world.pod(name).to(world.pod(other).on(protocol(8080))) for name in NEAR for other in ("y/a", "y/b")]
    apply(one_way("egress", "deny", "x"))

    expect().decided(dict.fromkeys(own, SEEN) | dict.fromkeys(denied, SHUT))


@behaviour("NPT-05a", protocol=[TCP], via=["pod-ip"], needs=["HostNetwork", "SecondNode"])
def test_other_nodes_under_a_default_deny(apply, expect, world, protocol):
    """Pods that nothing may reach: whether other nodes still reach them is looked at."""
    port = protocol(8080)
    others = [world.host(far).to(world.pod(near).on(port)) for near, far in (NEAR, NEAR[::-1])]
    apply(default_deny("x", "Ingress"))

    expect().decided(dict.fromkeys(others, SEEN) | dict.fromkeys(from_y(world, port), SHUT))


@behaviour("NPT-05b", protocol=[TCP], via=["pod-ip"], needs=["HostNetwork", "SecondNode"])
def test_host_network_pod_as_a_peer(apply, expect, world, protocol):
    """A rule's peers are the pods of a namespace that are all on the nodes' network: whether it lets them in is looked at."""
    port = protocol(8080)
    others = [world.host(far).to(world.pod(near).on(port)) for near, far in (NEAR, NEAR[::-1])]
    apply(policy("hosts", "x", types=["Ingress"], ingress=[allow(peer(namespaces=namespace("host")))]))

    expect().decided(dict.fromkeys(others, SEEN) | dict.fromkeys(from_y(world, port), SHUT))
