"""What denied means for the traffic itself."""

from __future__ import annotations

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allow, default_deny, namespace, peer, policy


@behaviour("NPT-11", protocol=[UDP, TCP], via=["pod-ip"])
def test_denied_traffic_never_arrives(apply, expect, protocol):
    """Nothing of a denied flow reaches the server: the receiver's own log of nonces is the witness, silence at the sender is not enough.

    Egress stays open, so it is the server's isolation alone that stops the packets.
    """
    apply(default_deny("y", "Ingress"))

    expect(protocol(8080), protocol(8081)).matrix("""
             y/a  y/b  y/c
        x/a   X    X    X
        x/b   X    X    X
        z/a   X    X    X
    """)


CLIENTS = ("y/a", "y/b", "z/a", "z/b")


def through_services(world, protocol):
    """From y and z to a pod of x on each node, through a Service of its own: same-node and cross-node pairs by cluster IP."""
    services = {name: world.service(f"only-{name[-1]}", selects=[name], port=protocol(80), target=8080) for name in ("x/a", "x/b")}
    return {(client, name): world.pod(client).to(service.by_ip()) for client in CLIENTS for name, service in services.items()}


@behaviour("NPT-06a", protocol=[TCP, UDP], via=["cluster-ip"])
def test_ingress_policy_holds_through_a_service(apply, expect, world, protocol):
    """What a policy keeps from a pod it keeps from it through a cluster IP too: y gets in, z does not."""
    flows = through_services(world, protocol)
    apply(policy("peers", "x", types=["Ingress"], ingress=[allow(peer(namespaces=namespace("y")))]))

    decided = {flow: Decision.ALLOW if client.startswith("y") else Decision.DENY for (client, _), flow in flows.items()}
    expect().decided(decided, {flow: name for (_, name), flow in flows.items()})


@behaviour("NPT-06b", protocol=[TCP, UDP], via=["cluster-ip"])
def test_egress_policy_holds_through_a_service(apply, expect, world, protocol):
    """An egress policy is about the pods behind a cluster IP: y may send to x, z to nobody."""
    flows = through_services(world, protocol)
    apply(
        policy("out", "y", types=["Egress"], egress=[allow(peer(namespaces=namespace("x")), direction="to")]),
        default_deny("z", "Egress"),
    )

    decided = {flow: Decision.ALLOW if client.startswith("y") else Decision.DENY for (client, _), flow in flows.items()}
    expect().decided(decided, {flow: name for (_, name), flow in flows.items()})


@behaviour("NPR-09", protocol=[TCP, UDP], via=["cluster-ip"])
def test_port_of_a_rule_is_the_pods(apply, expect, world, protocol):
    """The port of a rule is the pod's, not the Service's: 8080 opens what is behind the Service's port 80, and 80 opens nothing."""
    flows = through_services(world, protocol)
    apply(
        policy("pods-port", "x", types=["Ingress"], ingress=[allow(ports=[protocol(8080)])]),
        policy("pods-port", "y", types=["Egress"], egress=[allow(ports=[protocol(8080)], direction="to")]),
        policy("services-port", "z", types=["Egress"], egress=[allow(ports=[protocol(80)], direction="to")]),
    )

    decided = {flow: Decision.ALLOW if client.startswith("y") else Decision.DENY for (client, _), flow in flows.items()}
    expect().decided(decided, {flow: name for (_, name), flow in flows.items()})
