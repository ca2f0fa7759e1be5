"""ipBlock against addresses outside the cluster, which the API documentation says it is for."""

from __future__ import annotations

import ipaddress

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allow, block, namespace, peer, policy

CLIENTS = ("x/a", "x/b")
LOCAL = {"type": "NodePort", "externalTrafficPolicy": "Local"}


def out_of_x(world, opened, *ports):
    """From x on both nodes to both outsiders: open to those named, or on the ports of those for which ports are named."""
    outside = [world.outside("a"), world.outside("b")]
    flows = [(world.pod(c).to(o.on(port)), o.name, port) for c in CLIENTS for o in outside for port in ports]
    return {flow: decision(opened, name, port) for flow, name, port in flows}


def into_x(world, opened, *ports):
    """From both outsiders to a pod on each node, through a NodePort of that pod's own node.

    externalTrafficPolicy Local keeps the client's address
    (https://kubernetes.io/docs/reference/networking/virtual-ips/#external-traffic-policy), so the policy sees the outsider.
    """
    decided, responders = {}, {}
    for pod in CLIENTS:
        service = world.front(pod, ports, **LOCAL)
        for at, port in zip(service.vip.ports, ports, strict=True):
            target = next(t for t in service.by_node_port(at) if t.address == world.node_address_of(pod))
            for outsider in (world.outside("a"), world.outside("b")):
                flow = outsider.to(target)
                decided[flow] = decision(opened, outsider.name, port)
                responders[flow] = pod
    return decided, responders


def decision(opened, name, port):
    """`opened` is a set of outsiders, or a mapping from outsiders to ports."""
    allowed = port in opened.get(name, ()) if isinstance(opened, dict) else name in opened
    return Decision.ALLOW if allowed else Decision.DENY


def around(peer):
    """A block that holds both outsiders."""
    return str(ipaddress.ip_network(f"{peer.address}/{16 if '.' in peer.address else 64}", strict=False))


def out(*rules):
    """Isolates x for egress but for these rules."""
    return policy("out", "x", types=["Egress"], egress=rules)


def into(*rules):
    """Isolates x for ingress but for these rules."""
    return policy("in", "x", types=["Ingress"], ingress=rules)


def to(*blocks, ports=()):
    """An egress rule."""
    return allow(*blocks, ports=ports, direction="to")


@behaviour("NPB-01a", protocol=[TCP, UDP], via=["outside"], needs=["Outsider"])
def test_egress_to_a_block(apply, expect, world, protocol):
    """x may send to the one address of the block, not to its neighbour."""
    apply(out(to(block(world.outside("a").cidr))))

    expect().decided(out_of_x(world, {"outside/a"}, protocol(8080)))


@behaviour("NPB-01b", protocol=[TCP, UDP], via=["node-port"], needs=["Outsider"])
def test_ingress_from_a_block(apply, expect, world, protocol):
    """x gets what the one address of the block sends, not what its neighbour sends."""
    decided, responders = into_x(world, {"outside/a"}, protocol(8080))
    apply(into(allow(block(world.outside("a").cidr))))

    expect().decided(decided, responders)


@behaviour("NPB-01c", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_egress_to_everywhere(apply, expect, world, protocol):
    """The block of all addresses holds every one outside; that the rule is for one port shows that it is looked at."""
    ports = protocol(8080), protocol(8081)
    apply(out(to(block(world.everywhere), ports=ports[:1])))

    expect().decided(out_of_x(world, dict.fromkeys(("outside/a", "outside/b"), ports[:1]), *ports))


@behaviour("NPB-01d", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_ingress_from_everywhere(apply, expect, world, protocol):
    """The ingress twin: everybody outside gets in, on the rule's port alone."""
    ports = protocol(8080), protocol(8081)
    decided, responders = into_x(world, dict.fromkeys(("outside/a", "outside/b"), ports[:1]), *ports)
    apply(into(allow(block(world.everywhere), ports=ports[:1])))

    expect().decided(decided, responders)


@behaviour("NPB-01e", protocol=[TCP], via=["outside"], needs=["Outsider", "DualStack"])
def test_everywhere_is_of_one_family(apply, expect, world, protocol):
    """A block holds addresses of its own family: all of the other one let nobody out by this one."""
    other = "::/0" if world.everywhere == "0.0.0.0/0" else "0.0.0.0/0"
    apply(out(to(block(other))))

    expect().decided(out_of_x(world, set(), protocol(8080)))


@behaviour("NPB-01f", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_egress_to_a_block_or_to_pods(apply, expect, world, protocol):
    """A block and a selector in one rule: x may send to outside/a and to y, and to nobody else."""
    apply(out(to(block(world.outside("a").cidr), peer(namespaces=namespace("y")))))

    pods = {world.pod(client).to(world.pod(name).on(protocol(8080))): name for client in CLIENTS for name in ("y/a", "y/b", "z/a")}
    decided = {flow: Decision.ALLOW if name.startswith("y/") else Decision.DENY for flow, name in pods.items()}
    expect().decided({**out_of_x(world, {"outside/a"}, protocol(8080)), **decided})


@behaviour("NPB-01g", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_ingress_from_a_block_or_from_pods(apply, expect, world, protocol):
    """The ingress twin: x gets what outside/a and y send, and nothing else."""
    coming, responders = into_x(world, {"outside/a"}, protocol(8080))
    apply(into(allow(block(world.outside("a").cidr), peer(namespaces=namespace("y")))))

    pods = {world.pod(name).to(world.pod(server).on(protocol(8080))): name for name in ("y/a", "y/b", "z/a") for server in CLIENTS}
    decided = {flow: Decision.ALLOW if name.startswith("y/") else Decision.DENY for flow, name in pods.items()}
    expect().decided({**coming, **decided}, responders)


@behaviour("NPB-02a", protocol=[TCP, UDP], via=["outside"], needs=["Outsider"])
def test_egress_to_a_block_with_an_exception(apply, expect, world, protocol):
    """x may send to the block but for the address in `except`."""
    apply(out(to(block(around(world.outside("a")), world.outside("b").cidr))))

    expect().decided(out_of_x(world, {"outside/a"}, protocol(8080)))


@behaviour("NPB-02b", protocol=[TCP, UDP], via=["node-port"], needs=["Outsider"])
def test_ingress_from_a_block_with_an_exception(apply, expect, world, protocol):
    """x gets what the block sends but for the address in `except`."""
    decided, responders = into_x(world, {"outside/a"}, protocol(8080))
    apply(into(allow(block(around(world.outside("a")), world.outside("b").cidr))))

    expect().decided(decided, responders)


@behaviour("NPB-02c", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_egress_to_everywhere_with_an_exception(apply, expect, world, protocol):
    """x may send to all addresses but the one in `except`."""
    apply(out(to(block(world.everywhere, world.outside("b").cidr))))

    expect().decided(out_of_x(world, {"outside/a"}, protocol(8080)))


@behaviour("NPB-02d", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_several_exceptions(apply, expect, world, protocol):
    """Every address in `except` is closed: with both outsiders excepted neither is reached, the pods of the block stay reachable."""
    apply(out(to(block(world.everywhere, *(world.outside(name).cidr for name in ("a", "b"))))))

    expect().decided(out_of_x(world, set(), protocol(8080)))


@behaviour("NPB-02e", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_an_exception_is_its_own_blocks(apply, expect, world, protocol):
    """What one block of a rule excepts another block of the same rule may hold: outside/b is reached by the second."""
    a, b = world.outside("a"), world.outside("b")
    apply(out(to(block(around(a), a.cidr, b.cidr), block(b.cidr))))

    expect().decided(out_of_x(world, {"outside/b"}, protocol(8080)))


@behaviour("NPB-02f", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_ingress_from_everywhere_with_an_exception(apply, expect, world, protocol):
    """x gets what all addresses send but the one in `except`."""
    decided, responders = into_x(world, {"outside/a"}, protocol(8080))
    apply(into(allow(block(world.everywhere, world.outside("b").cidr))))

    expect().decided(decided, responders)


@behaviour("NPB-02g", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_several_exceptions_of_ingress(apply, expect, world, protocol):
    """With both outsiders excepted neither gets in."""
    decided, responders = into_x(world, set(), protocol(8080))
    apply(into(allow(block(world.everywhere, *(world.outside(name).cidr for name in ("a", "b"))))))

    expect().decided(decided, responders)


@behaviour("NPB-02h", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_an_exception_of_ingress_is_its_own_blocks(apply, expect, world, protocol):
    """What one block of an ingress rule excepts another block of it may hold: outside/b gets in by the second."""
    a, b = world.outside("a"), world.outside("b")
    decided, responders = into_x(world, {"outside/b"}, protocol(8080))
    apply(into(allow(block(around(a), a.cidr, b.cidr), block(b.cidr))))

    expect().decided(decided, responders)


@behaviour("NPB-03", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_what_one_policy_excepts_another_may_allow(apply, expect, world, protocol):
    """An exception is no denial: outside/b, excepted by one policy, is allowed by another, in either order of creation."""
    a, b = world.outside("a"), world.outside("b")
    excepting = policy("excepting", "x", types=["Egress"], egress=[to(block(around(a), b.cidr, a.cidr))])
    allowing = policy("allowing", "x", types=["Egress"], egress=[to(block(b.cidr))])
    apply(excepting, allowing)
    expect().decided(out_of_x(world, {"outside/b"}, protocol(8080)))


@behaviour("NPB-03", protocol=[UDP], via=["outside"], needs=["Outsider"])
def test_what_one_policy_allows_another_may_except(apply, expect, world, protocol):
    """The same with the allowing policy first: the later exception takes nothing away."""
    a, b = world.outside("a"), world.outside("b")
    apply(policy("allowing", "x", types=["Egress"], egress=[to(block(b.cidr))]))
    expect().decided(out_of_x(world, {"outside/b"}, protocol(8080)))
    apply(policy("excepting", "x", types=["Egress"], egress=[to(block(around(a), b.cidr, a.cidr))]))
    expect().decided(out_of_x(world, {"outside/b"}, protocol(8080)))


@behaviour("NPB-03b", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_whom_one_policy_excepts_another_may_let_in(apply, expect, world, protocol):
    """The ingress twin: outside/b, excepted by one policy, is let in by another."""
    a, b = world.outside("a"), world.outside("b")
    decided, responders = into_x(world, {"outside/b"}, protocol(8080))
    excepting = policy("excepting", "x", types=["Ingress"], ingress=[allow(block(around(a), b.cidr, a.cidr))])
    apply(excepting, policy("letting", "x", types=["Ingress"], ingress=[allow(block(b.cidr))]))

    expect().decided(decided, responders)


@behaviour("NPB-05", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_in_from_one_and_out_to_another(apply, expect, world, protocol):
    """One policy with a block for each direction: outside/a gets in and is not sent to, outside/b is sent to and does not get in."""
    a, b = world.outside("a"), world.outside("b")
    coming, responders = into_x(world, {"outside/a"}, protocol(8080))
    both = {"ingress": [allow(block(a.cidr))], "egress": [to(block(b.cidr))]}
    apply(policy("both", "x", types=["Ingress", "Egress"], **both))

    expect().decided({**coming, **out_of_x(world, {"outside/b"}, protocol(8080))}, responders)


@behaviour("NPB-07a", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_an_exception_beside_a_rule_for_anybody(apply, expect, world, protocol):
    """A second rule lets x send to anybody on 8081: that the first excepts outside/b from all addresses does not matter there."""
    ports = protocol(8080), protocol(8081)
    apply(out(to(block(world.everywhere, world.outside("b").cidr)), to(ports=ports[1:])))

    expect().decided(out_of_x(world, {"outside/a": ports, "outside/b": ports[1:]}, *ports))


@behaviour("NPB-07b", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_an_exception_of_ingress_beside_a_rule_for_anybody(apply, expect, world, protocol):
    """The ingress twin: outside/b gets in on 8081 by the rule for anybody, and not on 8080."""
    ports = protocol(8080), protocol(8081)
    decided, responders = into_x(world, {"outside/a": ports, "outside/b": ports[1:]}, *ports)
    apply(into(allow(block(world.everywhere, world.outside("b").cidr)), allow(ports=ports[1:])))

    expect().decided(decided, responders)


@behaviour("NPP-02c", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_all_pods_are_nobody_outside(apply, expect, world, protocol):
    """An empty namespaceSelector lets every pod in, and nobody who is none."""
    decided, responders = into_x(world, set(), protocol(8080))
    apply(into(allow({"namespaceSelector": {}})))

    pods = [world.pod(client).to(world.pod(server).on(protocol(8080))) for client in ("y/a", "y/b") for server in CLIENTS]
    expect().decided({**decided, **dict.fromkeys(pods, Decision.ALLOW)}, responders)


@behaviour("NPP-07k", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_egress_to_all_pods_is_to_nobody_outside(apply, expect, world, protocol):
    """The egress twin: x sends to every pod, and to nobody who is none."""
    apply(out(to({"namespaceSelector": {}})))

    pods = [world.pod(client).to(world.pod(server).on(protocol(8080))) for client in CLIENTS for server in ("y/a", "y/b")]
    expect().decided({**out_of_x(world, set(), protocol(8080)), **dict.fromkeys(pods, Decision.ALLOW)})
