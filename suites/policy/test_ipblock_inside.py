"""ipBlock against addresses inside the cluster.

"These should be cluster-external IPs, since Pod IPs are ephemeral and unpredictable"
(https://kubernetes.io/docs/concepts/services-networking/network-policies/#behavior-of-to-and-from-selectors): blocks on pods are a
feature that an implementation claims. Whether a packet is rewritten before or after a policy sees it is left open there, so blocks on
cluster IPs, on clients behind a translation and on nodes are observed.
"""

from __future__ import annotations

import ipaddress

from netproof.cases import TCP, behaviour

from .policies import allow, block, policy


def holding_all(world):
    """The smallest block that holds every standing pod."""
    found = [ipaddress.ip_address(world.pod(f"{letter}/{name}").address) for letter in "xyz" for name in "abc"]
    block_ = ipaddress.ip_network(found[0])
    while not all(address in block_ for address in found):
        block_ = block_.supernet()
    return str(block_)


def out(name, *blocks):
    """Isolates x for egress and lets it send to these blocks."""
    return policy(name, "x", types=["Egress"], egress=[allow(*blocks, direction="to")])


def into(name, *blocks):
    """Isolates x for ingress and lets these blocks in."""
    return policy(name, "x", types=["Ingress"], ingress=[allow(*blocks)])


@behaviour("NPB-04a", protocol=[TCP], via=["pod-ip"])
def test_egress_to_a_pods_address(apply, expect, world, protocol):
    """x may send to the address of y/b, and to no other."""
    apply(out("pod", block(world.pod("y/b").cidr)))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/b
        x/a   -    X    X    .    X
        x/b   X    -    X    .    X
        z/a   .    .    .    .    .
    """)


@behaviour("NPB-04b", protocol=[TCP], via=["pod-ip"])
def test_egress_to_all_pods_but_one(apply, expect, world, protocol):
    """x may send to the block that holds all pods, but not to y/b in its `except`."""
    apply(out("pods", block(holding_all(world), world.pod("y/b").cidr)))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/b
        x/a   -    .    .    X    .
        x/b   .    -    .    X    .
        z/a   .    .    .    .    .
    """)


@behaviour("NPB-04c", protocol=[TCP], via=["pod-ip"])
def test_a_pod_that_is_excepted_and_allowed(apply, expect, world, protocol):
    """y/b, which one policy excepts, is allowed by another; y/a, which nobody allows, stays closed."""
    excepted = [world.pod(name).cidr for name in ("y/a", "y/b")]
    apply(out("pods", block(holding_all(world), *excepted)), out("pod", block(world.pod("y/b").cidr)))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/b
        x/a   -    .    X    .    .
        x/b   .    -    X    .    .
        z/a   .    .    .    .    .
    """)


@behaviour("NPB-04d", protocol=[TCP], via=["pod-ip"])
def test_ingress_from_a_pods_address(apply, expect, world, protocol):
    """x gets what the address of y/b sends, and nothing else."""
    apply(into("pod", block(world.pod("y/b").cidr)))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a
        x/a   -    X    .
        x/b   X    -    .
        y/a   X    X    -
        y/b   .    .    .
        z/b   X    X    .
    """)


@behaviour("NPB-04e", protocol=[TCP], via=["pod-ip"])
def test_ingress_from_all_pods_but_one(apply, expect, world, protocol):
    """x gets what all pods send but y/b in `except`."""
    apply(into("pods", block(holding_all(world), world.pod("y/b").cidr)))

    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a
        x/a   -    .    .
        x/b   .    -    .
        y/a   .    .    -
        y/b   X    X    .
        z/b   .    .    .
    """)


@behaviour("NPB-06a", protocol=[TCP], via=["cluster-ip"])
def test_egress_to_a_cluster_ip(apply, expect, world, protocol):
    """y may send to a Service's cluster IP, and to no pod: whether the Service is reached depends on what the policy sees."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080)
    target = web.by_ip()
    whole = f"{target.address}/{ipaddress.ip_address(target.address).max_prefixlen}"
    apply(policy("out", "y", types=["Egress"], egress=[allow(block(whole), direction="to")]))

    expect(*(world.pod(client).to(target) for client in ("y/a", "y/b")), sentinel=True).observed()


@behaviour("NPB-06b", protocol=[TCP], via=["node-port"], needs=["Outsider"])
def test_ingress_from_a_client_behind_a_translation(apply, expect, world, protocol):
    """x lets one client outside in, whose address a NodePort may replace by the node's on its way to another node."""
    web = world.service("web", selects=["x/a", "x/b"], port=protocol(80), target=8080, type="NodePort")
    apply(into("client", block(world.outside("a").cidr)))

    expect(*(world.outside("a").to(target) for target in web.by_node_port()), sentinel=True).observed()


@behaviour("NPB-06c", protocol=[TCP], via=["node"])
def test_egress_to_a_nodes_address(apply, expect, world, protocol):
    """x may send to the addresses of the nodes; nothing serves the port there, so what was let through is refused by the node itself."""
    near, far = world.node_of("x/a", protocol(9)), world.node_of("x/b", protocol(9))
    blocks = [block(f"{target.address}/{ipaddress.ip_address(target.address).max_prefixlen}") for target in (near, far)]
    apply(out("nodes", *blocks))

    expect(world.pod("x/a").to(far), world.pod("x/b").to(near), sentinel=True).observed()
