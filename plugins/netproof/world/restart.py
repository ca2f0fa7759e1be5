"""The restart of what programs the nodes: the network's agents are deleted, and their DaemonSet puts others in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netproof.kube.objects import path
from netproof.kube.wait import Late, NotYet, until
from netproof.world.runner import Runner
from netproof.world.verdicts import Unsupported

SUCCESSION = 10.0  # seconds until a DaemonSet has made another pod in the place of one that ended
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
    """Delete the agents of these nodes. From now until `complete` returns the nodes may be without. Raises Unsupported.

    One that is ending, or whose program does not run yet, is left to it: another case of the run restarts it right now.
    """
    if not runner.network_agent:
        raise Unsupported("nobody says which agent programs the nodes")
    namespace, name = runner.network_agent.split("/")
    labels = runner.api.get(path("DaemonSet", name, namespace))["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    there = _agents(runner, namespace, selector, nodes)
    for pod in filter(_runs, there):
        runner.api.delete(path("Pod", pod["metadata"]["name"], namespace), uid=pod["metadata"]["uid"])
    ending = (pod for pod in there if _runs(pod) or pod["metadata"].get("deletionTimestamp"))
    return Agents(selector, namespace, frozenset(nodes), frozenset(pod["metadata"]["uid"] for pod in ending))


def _agents(runner: Runner, namespace: str, selector: str, nodes: Sequence[str]) -> list[dict[str, Any]]:
    """The agents on these nodes; one that was just deleted is soon followed by another. Raises Unsupported where a node has none."""

    def whole() -> list[dict[str, Any]] | None:
        found = [pod for pod in runner.api.list(path("Pod", namespace=namespace), labels=selector) if pod["spec"].get("nodeName") in nodes]
        if lacking := sorted(set(nodes) - {pod["spec"]["nodeName"] for pod in found}):
            raise NotYet(", ".join(lacking))
        return found

    try:
        return until(whole, what="an agent of the network on each node", limit=SUCCESSION, every=0.5, progress=runner.progress)
    except Late as late:
        raise Unsupported(f"{runner.network_agent} has no pod on {late.last}") from None


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
    return not pod["metadata"].get("deletionTimestamp") and any(
        entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions
    )


def _runs(pod: Object) -> bool:
    """Whether its program runs, Ready or not, and nobody has ended it: one that had begun before would else pass for restarted."""
    containers = (pod.get("status") or {}).get("containerStatuses") or []
    begun = any((container.get("state") or {}).get("running") for container in containers)
    return not pod["metadata"].get("deletionTimestamp") and (begun or _is_ready(pod))
