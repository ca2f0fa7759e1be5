"""The restart of what programs the nodes: the network's agents are deleted, and their DaemonSet puts others in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netproof.kube.objects import path
from netproof.kube.wait import NotYet, until
from netproof.world.runner import Runner
from netproof.world.verdicts import Unsupported

LIMIT = 180.0  # seconds until all agents are Ready again

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Agents:
    """The agents that were deleted, by uid, and the nodes on which they ran."""

    selector: str
    namespace: str
    nodes: frozenset[str]
    gone: frozenset[str]


def begin(runner: Runner, nodes: Sequence[str]) -> Agents:
    """Delete the agents of these nodes. From now until `complete` returns the nodes may be without. Raises Unsupported."""
    if not runner.network_agent:
        raise Unsupported("nobody says which agent programs the nodes")
    namespace, name = runner.network_agent.split("/")
    labels = runner.api.get(path("DaemonSet", name, namespace))["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    there = [pod for pod in runner.api.list(path("Pod", namespace=namespace), labels=selector) if pod["spec"].get("nodeName") in nodes]
    for pod in there:
        runner.api.delete(path("Pod", pod["metadata"]["name"], namespace), uid=pod["metadata"]["uid"])
    found = frozenset(pod["spec"]["nodeName"] for pod in there)
    if found < set(nodes):
        raise Unsupported(f"{runner.network_agent} has no pod on {', '.join(sorted(set(nodes) - found))}")
    return Agents(selector, namespace, found, frozenset(pod["metadata"]["uid"] for pod in there))


def complete(runner: Runner, agents: Agents) -> None:
    """Wait until each of the nodes has a new agent that is Ready. Raises Late."""

    def all_ready() -> bool | None:
        pods = runner.api.list(path("Pod", namespace=agents.namespace), labels=agents.selector)
        ready = {pod["spec"].get("nodeName") for pod in pods if pod["metadata"]["uid"] not in agents.gone and _is_ready(pod)}
        if missing := agents.nodes - ready:
            raise NotYet(f"none on {', '.join(sorted(missing))}")
        return True

    until(all_ready, what="new agents of the network to be Ready", limit=LIMIT, every=0.5, progress=runner.progress)


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
