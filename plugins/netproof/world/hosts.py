"""Agents on their nodes' network, in a namespace of its own: what they send is, to policies, their node's own traffic.

They need the privileged Pod Security Standard (https://kubernetes.io/docs/concepts/security/pod-security-standards/), so on a cluster that
is somebody's there are none unless they are asked for. They live as long as the case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from netproof.model.flow import TCP, UDP
from netproof.world import pods as probes
from netproof.world.placement import Node
from netproof.world.world import World

LETTER = "host"
_LABELS = {"pod-security.kubernetes.io/enforce": "privileged"}
# Two ports a world: one on loopback for the runner, the other served, both on a network that worlds of other workers and runs share.
# They lie below the NodePorts and the ports that systems choose by themselves.
_FIRST_PORT, _PAIRS = 18100, 5900
_WORLDS = 16  # of a worker that may stand at once


def add(world: World, nodes: Sequence[Node]) -> None:
    """An agent on the network of each of these nodes that has none yet: `host/lab-1`."""
    if LETTER not in world.namespaces:
        world.add_namespace(LETTER, _LABELS)
    control = _control_port(world)
    wanted = {f"{LETTER}/{node.name}": _pod(node, world, control) for node in nodes}
    world.start({name: obj for name, obj in wanted.items() if name not in world.pods}, control=control)


def served_port(world: World) -> int:
    """The number of the port that these agents serve, by TCP and by UDP."""
    return _control_port(world) + 1


def _control_port(world: World) -> int:
    """Another one for each worker of a run and each of its worlds; runs begin apart."""
    worker, number = (int(re.sub(r"\D", "", text) or 0) for text in world.recipe.world.rsplit("-", 1))
    return _FIRST_PORT + 2 * ((crc32(world.recipe.run.encode()) + worker * _WORLDS + number % _WORLDS) % _PAIRS)


def _pod(node: Node, world: World, control: int) -> dict[str, Any]:
    made = probes.pod(f"{LETTER}/{node.name}", world.namespaces[LETTER], node, world.recipe)
    made["spec"]["hostNetwork"] = True
    container = made["spec"]["containers"][0]
    del container["ports"]  # on the node's network each would be a hostPort, for which pods are kept apart
    served = [str(protocol(control + 1)) for protocol in (TCP, UDP)]
    settings = json.loads(probes.agent_settings(world.recipe.run, world.recipe.token)) | {"control": control, "ports": served}
    container["env"] = [entry for entry in container["env"] if entry["name"] != "NETPROOF_AGENT"]
    container["env"].append({"name": "NETPROOF_AGENT", "value": json.dumps(settings)})
    return made
