"""How a denial looks to who is denied, and what becomes of ICMP: left to the implementation, and looked at."""

from __future__ import annotations

from netproof.cases import TCP, UDP, Decision, behaviour

from .policies import allow, namespace, one_way, peer, policy

SHUT, SEEN, OPEN = Decision.DENY, Decision.OBSERVE, Decision.ALLOW
PAIRS = [(client, server) for client in ("y/a", "y/b") for server in ("x/a", "x/b")]


@behaviour("NPT-12", protocol=[TCP, UDP], via=["pod-ip"], direction=["ingress", "egress"])
def test_how_a_denial_looks(apply, expect, world, protocol, direction):
    """y may not reach x, by the isolation of x (ingress) or of y (egress): whether it is refused or left waiting is looked at."""
    looked_at, denied = ([world.pod(a).to(world.pod(b).on(protocol(number))) for a, b in PAIRS] for number in (8080, 8081))
    apply(one_way(direction, "deny", "x" if direction == "ingress" else "y"))

    expect().decided(dict.fromkeys(looked_at, SEEN) | dict.fromkeys(denied, SHUT))


@behaviour("NPT-09", via=["pod-ip"])
def test_pings_under_a_policy(apply, expect, world):
    """x lets y in and nobody else: whether the pings of y and of z are answered is looked at."""
    pings = [world.pod(client).pings(world.pod(server)) for client in ("y/a", "z/a") for server in ("x/a", "x/b")]
    flows = {
        (client, server): world.pod(client).to(world.pod(server).on(TCP(8080))) for client in ("y/a", "z/a") for server in ("x/a", "x/b")
    }
    apply(policy("peers", "x", types=["Ingress"], ingress=[allow(peer(namespaces=namespace("y")))]))

    decided = {flow: OPEN if client == "y/a" else SHUT for (client, _), flow in flows.items()}
    expect().decided(dict.fromkeys(pings, SEEN) | decided)
