"""Nodes as the API describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netproof.cluster.state import Node
from netproof.model.flow import Family
from netproof.world.placement import addresses, schedulable


def describe(nodes: Sequence[Mapping[str, Any]]) -> tuple[Node, ...]:
    """All nodes by name. Raises Problem where none takes pods."""
    takers = {node.name for node in schedulable(nodes)}
    return tuple(sorted((_node(node, takers) for node in nodes), key=lambda node: node.name))


def _node(node: Mapping[str, Any], takers: set[str]) -> Node:
    info = node["status"].get("nodeInfo", {})
    name = node["metadata"]["name"]
    return Node(
        name=name,
        schedulable=name in takers,
        addresses=_addresses(node),
        kubelet=info.get("kubeletVersion", ""),
        runtime=info.get("containerRuntimeVersion", ""),
        kernel=info.get("kernelVersion", ""),
        system=info.get("osImage", ""),
        architecture=info.get("architecture", ""),
    )


def _addresses(node: Mapping[str, Any]) -> dict[str, str]:
    return {Family.of(address).value: address for address in reversed(addresses(node))}


def families(nodes: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The families of the pod network, the primary one first: those of the nodes' pod ranges, else (a CNI with its own IPAM) those of
    their addresses, both in the order that the API gives them (https://kubernetes.io/docs/concepts/services-networking/dual-stack/).
    """
    ranges = [cidr.partition("/")[0] for node in nodes for cidr in node.get("spec", {}).get("podCIDRs") or ()]
    found = ranges or [address for node in nodes for address in addresses(node)]
    return tuple(dict.fromkeys(Family.of(address).value for address in found))


def ready(node: Mapping[str, Any]) -> bool:
    """Whether the kubelet says so."""
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in node["status"].get("conditions") or ())
