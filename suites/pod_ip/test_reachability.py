"""Pod to pod on pod IP: the network model's first promise (every pod reaches every other without NAT)."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, UDP, behaviour


@pytest.mark.smoke
@behaviour("POD-01", protocol=[TCP], via=["pod-ip"])
def test_same_node(world, expect, protocol):
    """Pods on one node reach each other."""
    expect(*world.pairs(protocol(8080), same_node=True)).reaches()


@pytest.mark.smoke
@behaviour("POD-02", protocol=[TCP], via=["pod-ip"], needs=["SecondNode"])
def test_different_nodes(world, expect, protocol):
    """For every ordered pair of nodes that take pods, a pod on the one reaches a pod on the other."""
    spread = world.spread()
    pairs = [(a, b) for a in spread for b in spread if a != b]

    expect(*(world.pod(a).to(world.pod(b).on(protocol(8080))) for a, b in pairs)).reaches()


@pytest.mark.smoke
@behaviour("POD-03a", protocol=[UDP], via=["pod-ip"])
def test_udp_on_one_node(world, expect, protocol):
    """A datagram and its answer pass between pods on one node."""
    expect(*world.pairs(protocol(8080), same_node=True)).reaches()


@pytest.mark.smoke
@behaviour("POD-03b", protocol=[UDP], via=["pod-ip"], needs=["SecondNode"])
def test_udp_across_nodes(world, expect, protocol):
    """A datagram and its answer pass between pods on different nodes."""
    expect(*world.pairs(protocol(8080), same_node=False)).reaches()


@behaviour("POD-06a", protocol=[TCP, UDP], via=["pod-ip"])
def test_source_kept_on_one_node(world, expect, protocol):
    """The receiver sees the sender's own pod IP on one node."""
    expect(*world.pairs(protocol(8080), same_node=True)).reaches(source_kept=True)


@behaviour("POD-06b", protocol=[TCP, UDP], via=["pod-ip"], needs=["SecondNode"])
def test_source_kept_across_nodes(world, expect, protocol):
    """The receiver sees the sender's own pod IP across nodes."""
    expect(*world.pairs(protocol(8080), same_node=False)).reaches(source_kept=True)


@behaviour("POD-08", protocol=[TCP, UDP], via=["pod-ip"])
def test_namespaces_do_not_isolate(expect, protocol):
    """Without a policy a namespace is no boundary."""
    expect(protocol(8080)).matrix("""
             x/a  x/b  y/a  y/b  z/a  z/b
        x/a   -    -    .    .    .    .
        x/b   -    -    .    .    .    .
        y/a   .    .    -    -    .    .
        y/b   .    .    -    -    .    .
        z/a   .    .    .    .    -    -
        z/b   .    .    .    .    -    -
    """)


@behaviour("POD-09", via=["pod-ip"])
def test_mesh_is_whole(world, expect):
    """Every pod reaches every other on every port and protocol: the positive control of all that follows."""
    expect(*world.mesh()).reaches()
