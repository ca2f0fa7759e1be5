"""Which pods stand where: a and c on one schedulable node, b on another, so that every matrix holds same-node and cross-node pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netproof.problem import Problem

# A node with one of these takes no pod that does not ask for it; Netproof's pods tolerate nothing.
_KEEPS_AWAY = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Node:
    """A node that takes probe pods: its name, the value of its hostname label, its addresses."""

    name: str
    hostname: str
    addresses: tuple[str, ...]


def schedulable(nodes: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The Linux nodes that are Ready and take ordinary pods, by name. Raises Problem where there is none."""
    found = [_node(node) for node in nodes if _takes_pods(node)]
    if not found:
        raise Problem(
            f"none of the cluster's {len(nodes)} nodes takes probe pods: a Ready Linux node without NoSchedule or NoExecute taints is "
            "needed; `kubectl get nodes` and `kubectl describe node` tell why"
        )
    return sorted(found, key=lambda node: node.name)


def addresses(node: Mapping[str, Any]) -> tuple[str, ...]:
    """A node's InternalIP addresses, in the order that the API gives them."""
    return tuple(entry["address"] for entry in node["status"].get("addresses", []) if entry["type"] == "InternalIP")


def _node(node: Mapping[str, Any]) -> Node:
    name = node["metadata"]["name"]
    return Node(name, node["metadata"].get("labels", {}).get("kubernetes.io/hostname", name), addresses(node))


def _takes_pods(node: Mapping[str, Any]) -> bool:
    spec, labels = node.get("spec", {}), node["metadata"].get("labels", {})
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in node["status"].get("conditions", []))
    tainted = any(taint["effect"] in _KEEPS_AWAY for taint in spec.get("taints", []))
    return ready and not tainted and not spec.get("unschedulable") and labels.get("kubernetes.io/os", "linux") == "linux"


def place(nodes: Sequence[Node]) -> dict[str, Node]:
    """The node of each of a, b and c. On one node all stand together: no pair is cross-node then."""
    first, second = nodes[0], nodes[min(1, len(nodes) - 1)]
    return {"a": first, "b": second, "c": first}
