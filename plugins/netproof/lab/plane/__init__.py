"""The data plane: objects become a plan (`plan`), a plan becomes nftables rules (`text`), and `reconcile` brings them to the nodes.

The first two are pure functions, so that each of the three things between and around them can be edited by a fault.
"""

from __future__ import annotations

from netproof.lab.plane.model import Plane
from netproof.lab.plane.policy import isolations, pods
from netproof.lab.plane.services import frontends
from netproof.lab.seams import Snapshot

KINDS = ("Service", "EndpointSlice", "Pod", "Namespace", "NetworkPolicy")  # what a plan is made from


def plan(snapshot: Snapshot, node: str) -> Plane:
    """What a node's rules shall do, as far as Services, their endpoints, pods, namespaces and network policies tell."""
    world = pods(snapshot)
    return Plane(node, frontends(snapshot, node), isolations(snapshot, node, world), world)
