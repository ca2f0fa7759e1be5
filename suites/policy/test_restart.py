"""Policies and connections across a restart of the network's agents, on every node that the pods stand on. The cluster is needed alone."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, Decision, behaviour

from .policies import allowing, namespace, one_way, peer

Y, Z = peer(namespaces=namespace("y")), peer(namespaces=namespace("z"))
NEEDS = ["AgentRestart"]


@pytest.mark.disruptive
@behaviour("NPC-07a", protocol=[TCP], via=["pod-ip"], needs=NEEDS)
def test_policies_survive_a_restart(apply, restart_agents, expect, protocol):
    """x lets y in: the same is allowed and denied after the agents were restarted."""
    drawn = """
             x/a  x/b
        x/c   X    X
        y/a   .    .
        y/b   .    .
        z/a   X    X
        z/b   X    X
    """
    apply(one_way("ingress", "peers", "x", allowing("ingress", Y)))
    expect(protocol(8080)).matrix(drawn)

    restart_agents()
    expect(protocol(8080)).matrix(drawn)


@pytest.mark.disruptive
@behaviour("NPC-07b", protocol=[TCP], via=["pod-ip"], needs=NEEDS)
def test_changes_during_a_restart(apply, restart_agents, expect, protocol):
    """x lets y in, and z instead once the policy was edited while the agents were away."""
    apply(one_way("ingress", "peers", "x", allowing("ingress", Y)))
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   .    .
        y/b   .    .
        z/a   X    X
        z/b   X    X
    """)

    restart_agents()
    apply(one_way("ingress", "peers", "x", allowing("ingress", Z)))
    expect(protocol(8080)).matrix("""
             x/a  x/b
        y/a   X    X
        y/b   X    X
        z/a   .    .
        z/b   .    .
    """)


@pytest.mark.disruptive
@behaviour("NPT-08c", protocol=[TCP], via=["pod-ip"], needs=NEEDS)
def test_connections_survive_a_restart(apply, restart_agents, expect, world, protocol):
    """x lets y in, and y has connections to x: they go on after the agents were restarted."""
    pairs = [(client, server) for client in ("y/a", "y/b") for server in ("x/a", "x/b")]
    standing = [world.held(world.pod(client).to(world.pod(server).on(protocol(8080)))) for client, server in pairs]
    denied = [world.pod("z/a").to(world.pod(server).on(protocol(8080))) for server in ("x/a", "x/b")]
    decided = dict.fromkeys(standing, Decision.ALLOW) | dict.fromkeys(denied, Decision.DENY)
    apply(one_way("ingress", "peers", "x", allowing("ingress", Y)))
    expect().decided(decided)

    restart_agents()
    expect().decided(decided)
