"""ipBlock against addresses outside the cluster, which the API documentation says it is for."""

from __future__ import annotations

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allow, block, policy

CLIENTS = ("x/a", "x/b")


def out_of_x(world, opened, protocol):
    """From x on both nodes to both outsiders: open to those named."""
    outside = [world.outside("a"), world.outside("b")]
    flows = [(world.pod(c).to(o.on(protocol(8080))), o.name) for c in CLIENTS for o in outside]
    return {flow: Decision.ALLOW if name in opened else Decision.DENY for flow, name in flows}


def into_x(world, opened, protocol):
    """From both outsiders to a pod on each node, through a NodePort of that pod's own node.

    externalTrafficPolicy Local keeps the client's address
    (https://kubernetes.io/docs/reference/networking/virtual-ips/#external-traffic-policy), so the policy sees the outsider.
    """
    decided, responders = {}, {}
    for pod in CLIENTS:
        name = f"only-{pod[-1]}"
        local = {"type": "NodePort", "externalTrafficPolicy": "Local"}
        service = world.service(name, selects=[pod], port=protocol(80), target=8080, **local)
        target = next(t for t in service.by_node_port() if t.address == world.node_address_of(pod))
        for outsider in (world.outside("a"), world.outside("b")):
            flow = outsider.to(target)
            decided[flow] = Decision.ALLOW if outsider.name in opened else Decision.DENY
            responders[flow] = pod
    return decided, responders


def subnet(address, prefix):
    """The network of that length around an IPv4 address."""
    import ipaddress

    return str(ipaddress.ip_network(f"{address}/{prefix}", strict=False))


@behaviour("NPB-01a", protocol=[TCP, UDP], via=["outside"], needs=["Outsider"])
def test_egress_to_a_block(apply, expect, world, protocol):
    """x may send to the one address of the block, not to its neighbour."""
    apply(policy("out", "x", types=["Egress"], egress=[allow(block(f"{world.outside('a').address}/32"), direction="to")]))

    expect().decided(out_of_x(world, {"outside/a"}, protocol))


@behaviour("NPB-01b", protocol=[TCP, UDP], via=["node-port"], needs=["Outsider"])
def test_ingress_from_a_block(apply, expect, world, protocol):
    """x gets what the one address of the block sends, not what its neighbour sends."""
    decided, responders = into_x(world, {"outside/a"}, protocol)
    apply(policy("in", "x", types=["Ingress"], ingress=[allow(block(f"{world.outside('a').address}/32"))]))

    expect().decided(decided, responders)


@behaviour("NPB-02a", protocol=[TCP, UDP], via=["outside"], needs=["Outsider"])
def test_egress_to_a_block_with_an_exception(apply, expect, world, protocol):
    """x may send to the block but for the address in `except`."""
    around, spared = subnet(world.outside("a").address, 16), f"{world.outside('b').address}/32"
    apply(policy("out", "x", types=["Egress"], egress=[allow(block(around, spared), direction="to")]))

    expect().decided(out_of_x(world, {"outside/a"}, protocol))


@behaviour("NPB-02b", protocol=[TCP, UDP], via=["node-port"], needs=["Outsider"])
def test_ingress_from_a_block_with_an_exception(apply, expect, world, protocol):
    """x gets what the block sends but for the address in `except`."""
    decided, responders = into_x(world, {"outside/a"}, protocol)
    around, spared = subnet(world.outside("a").address, 16), f"{world.outside('b').address}/32"
    apply(policy("in", "x", types=["Ingress"], ingress=[allow(block(around, spared))]))

    expect().decided(decided, responders)


@behaviour("NPB-02c", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_egress_to_everywhere_with_an_exception(apply, expect, world, protocol):
    """x may send to 0.0.0.0/0 but for the address in `except`."""
    apply(policy("out", "x", types=["Egress"], egress=[allow(block("0.0.0.0/0", f"{world.outside('b').address}/32"), direction="to")]))

    expect().decided(out_of_x(world, {"outside/a"}, protocol))


@behaviour("NPB-02d", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_several_exceptions(apply, expect, world, protocol):
    """Every address in `except` is closed: with both outsiders excepted neither is reached, the pods of the block stay reachable."""
    excepted = [f"{world.outside(name).address}/32" for name in ("a", "b")]
    apply(policy("out", "x", types=["Egress"], egress=[allow(block("0.0.0.0/0", *excepted), direction="to")]))

    expect().decided(out_of_x(world, set(), protocol))


@behaviour("NPB-02e", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_an_exception_is_its_own_blocks(apply, expect, world, protocol):
    """What one block of a rule excepts another block of the same rule may hold: outside/b is reached by the second."""
    a, b = (world.outside(name).address for name in ("a", "b"))
    around = subnet(a, 16)
    apply(policy("out", "x", types=["Egress"], egress=[allow(block(around, f"{a}/32", f"{b}/32"), block(f"{b}/32"), direction="to")]))

    expect().decided(out_of_x(world, {"outside/b"}, protocol))


@behaviour("NPB-03", protocol=[TCP], via=["outside"], needs=["Outsider"])
def test_what_one_policy_excepts_another_may_allow(apply, expect, world, protocol):
    """An exception is no denial: outside/b, excepted by one policy, is allowed by another, in either order of creation."""
    a, b = (world.outside(name).address for name in ("a", "b"))
    excepting = policy("excepting", "x", types=["Egress"], egress=[allow(block(subnet(a, 16), f"{b}/32", f"{a}/32"), direction="to")])
    allowing = policy("allowing", "x", types=["Egress"], egress=[allow(block(f"{b}/32"), direction="to")])
    apply(excepting, allowing)
    expect().decided(out_of_x(world, {"outside/b"}, protocol))


@behaviour("NPB-03", protocol=[UDP], via=["outside"], needs=["Outsider"])
def test_what_one_policy_allows_another_may_except(apply, expect, world, protocol):
    """The same with the allowing policy first: the later exception takes nothing away."""
    a, b = (world.outside(name).address for name in ("a", "b"))
    apply(policy("allowing", "x", types=["Egress"], egress=[allow(block(f"{b}/32"), direction="to")]))
    expect().decided(out_of_x(world, {"outside/b"}, protocol))
    apply(policy("excepting", "x", types=["Egress"], egress=[allow(block(subnet(a, 16), f"{b}/32", f"{a}/32"), direction="to")]))
    expect().decided(out_of_x(world, {"outside/b"}, protocol))
