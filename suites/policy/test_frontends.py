"""Policies behind Services, node ports and load balancers, and pods that talk to themselves."""

from __future__ import annotations

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allow, allowing, default_deny, namespace, one_way, peer, policy

OPEN, SHUT, SEEN = Decision.ALLOW, Decision.DENY, Decision.OBSERVE
SERVERS = ("x/a", "x/b")


def fronts(world, protocol, **spec):
    """A Service of its own for a pod of x on either node."""
    return {name: world.service(f"only-{name[-1]}", selects=[name], port=protocol(80), target=8080, **spec) for name in SERVERS}


def one_way_flows(world, direction, port, pairs):
    """By pod IP, to the second of each pair for ingress, from it for egress."""
    ways = [pair if direction == "ingress" else pair[::-1] for pair in pairs]
    return [world.pod(client).to(world.pod(server).on(port)) for client, server in ways]


def through(world, clients, targets):
    """The flows of these clients to each target, with the pod behind it."""
    return {client.to(target): name for name, listed in targets.items() for target in listed for client in clients}


def anybody(world):
    """A client outside, and one of y on either node."""
    return [world.outside("a"), world.pod("y/a"), world.pod("y/b")]


def direct(world, protocol, *clients):
    """From these pods to a pod of x on either node by pod IP: what shows that the policy is in force."""
    return [world.pod(client).to(world.pod(server).on(protocol(8080))) for client in clients for server in SERVERS]


@behaviour("NPT-03", protocol=[TCP], via=["pod-ip"])
def test_pods_under_a_default_deny_and_themselves(apply, expect, world, protocol):
    """Pods that nothing may reach, and that may reach nothing: whether each reaches itself is looked at."""
    own = [world.pod(name).to(world.pod(name).on(protocol(8080))) for name in SERVERS]
    apply(default_deny("x", "Ingress", "Egress"))

    expect().decided(dict.fromkeys(own, SEEN) | dict.fromkeys(direct(world, protocol, "y/a", "y/b"), SHUT))


@behaviour("NPT-04", protocol=[TCP], via=["cluster-ip"], direction=["ingress", "egress"])
def test_pods_under_a_deny_and_their_own_service(apply, expect, world, protocol, direction):
    """Each pod of x is the one endpoint of a Service: whether it reaches itself by it when x is isolated is looked at."""
    own = {world.pod(name).to(service.by_ip()): name for name, service in fronts(world, protocol).items()}
    apply(one_way(direction, "deny", "x"))

    denied = one_way_flows(world, direction, protocol(8080), [("y/a", "x/c"), ("y/b", "x/c")])
    expect(sentinel=True).decided(dict.fromkeys(own, SEEN) | dict.fromkeys(denied, SHUT), own)


@behaviour("NPT-04b", protocol=[UDP], via=["cluster-ip"], direction=["ingress", "egress"])
def test_pods_that_reach_themselves_stay_isolated(apply, expect, world, protocol, direction):
    """Pods of x reach themselves through their Services all the while: no flow of others gets through with theirs."""
    own = {world.pod(name).to(service.by_ip()): name for name, service in fronts(world, protocol).items()}
    apply(one_way(direction, "deny", "x"))

    denied = one_way_flows(world, direction, protocol(8080), [("y/a", "x/a"), ("y/b", "x/b"), ("y/c", "x/b"), ("y/a", "x/c")])
    expect().decided(dict.fromkeys(own, SEEN) | dict.fromkeys(denied, SHUT), own)


@behaviour("NPT-06c", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_allow_all_holds_for_node_ports(apply, expect, world, protocol):
    """A rule for everybody lets in what comes by a node port, whatever its source address has become."""
    targets = {name: service.by_node_port() for name, service in fronts(world, protocol, type="NodePort").items()}
    flows = through(world, anybody(world), targets)
    apply(one_way("ingress", "open", "x", allowing("ingress")))

    expect(sentinel=True).decided(dict.fromkeys(flows, OPEN), flows)


@behaviour("NPT-06c", protocol=[TCP], via=["load-balancer"], needs=["Outsider", "LoadBalancer"])
def test_allow_all_holds_for_load_balancers(apply, expect, world, protocol):
    """A rule for everybody lets in what comes by a load balancer, whatever its source address has become."""
    targets = {name: [service.by_load_balancer()] for name, service in fronts(world, protocol, type="LoadBalancer").items()}
    flows = through(world, anybody(world), targets)
    apply(one_way("ingress", "open", "x", allowing("ingress")))

    expect(sentinel=True).decided(dict.fromkeys(flows, OPEN), flows)


@behaviour("NPT-06d", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_default_deny_holds_for_node_ports_that_keep_the_source(apply, expect, world, protocol):
    """With externalTrafficPolicy Local a client outside comes under its own address, and a default deny keeps it out."""
    targets = {}
    for name, service in fronts(world, protocol, type="NodePort", externalTrafficPolicy="Local").items():
        targets[name] = [target for target in service.by_node_port() if target.address == world.node_address_of(name)]
    flows = through(world, [world.outside("a"), world.outside("b")], targets)
    apply(default_deny("x", "Ingress"))

    expect().decided(dict.fromkeys(flows, SHUT), flows)


@behaviour("NPT-06e", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_default_deny_and_node_ports(apply, expect, world, protocol):
    """Pods that nothing may reach: whether they are reached by node ports, which may replace the source address, is looked at."""
    targets = {name: service.by_node_port() for name, service in fronts(world, protocol, type="NodePort").items()}
    flows = through(world, anybody(world), targets)
    apply(default_deny("x", "Ingress"))

    expect().decided(dict.fromkeys(flows, SEEN) | dict.fromkeys(direct(world, protocol, "y/a", "y/b"), SHUT), flows)


@behaviour("NPT-06e", protocol=[TCP], via=["load-balancer"], needs=["Outsider", "LoadBalancer"])
def test_default_deny_and_load_balancers(apply, expect, world, protocol):
    """Pods that nothing may reach: whether they are reached by a load balancer, which may replace the source address, is looked at."""
    targets = {name: [service.by_load_balancer()] for name, service in fronts(world, protocol, type="LoadBalancer").items()}
    flows = through(world, anybody(world), targets)
    apply(default_deny("x", "Ingress"))

    expect().decided(dict.fromkeys(flows, SEEN) | dict.fromkeys(direct(world, protocol, "y/a", "y/b"), SHUT), flows)


@behaviour("NPT-06f", protocol=[TCP], via=["node-port"])
def test_rule_for_pods_and_node_ports(apply, expect, world, protocol):
    """x lets y in: whether y and z get in by node ports, which may replace their addresses, is looked at."""
    targets = {name: service.by_node_port() for name, service in fronts(world, protocol, type="NodePort").items()}
    flows = through(world, [world.pod("y/a"), world.pod("z/a")], targets)
    apply(policy("peers", "x", types=["Ingress"], ingress=[allow(peer(namespaces=namespace("y")))]))

    decided = dict.fromkeys(direct(world, protocol, "y/a"), OPEN) | dict.fromkeys(direct(world, protocol, "z/a"), SHUT)
    expect().decided(dict.fromkeys(flows, SEEN) | decided, flows)
