"""What NetworkPolicy v1 says of a flow: policies, pods and namespaces in, a decision with its reasons out. Pure: no I/O, no clock.

    world = Snapshot(policies, pods, namespaces)
    ruling = decide(world, world.pod("x/a"), world.pod("y/b"), TCP(8080))

It is a reading of the API's text alone, and no part of it knows how any implementation works. It speaks of policy only: a flow that is
allowed connects if somebody listens there, and a port that nobody serves is allowed or denied like any other.

`fields` reads objects and names what is wrong with them, `selector` and `policy` give their parts a meaning, `decide` puts them together.
"""

from __future__ import annotations

from netproof.oracle.decide import Snapshot, decide
from netproof.oracle.fields import PolicyError
from netproof.oracle.policy import directions
from netproof.oracle.values import Clause, Direction, Endpoint, Isolation, Outside, Pod, Ruling

__all__ = ["Clause", "Direction", "Endpoint", "Isolation", "Outside", "Pod", "PolicyError", "Ruling", "Snapshot", "decide", "directions"]
