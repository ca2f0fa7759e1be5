"""What a cluster's state says in a report's header."""

from __future__ import annotations

import platform
from typing import Any

from netproof.cluster.state import ClusterState
from netproof.report.header import Component, Header, Node


def header_of(state: ClusterState) -> dict[str, Any]:
    """The header of a run on that cluster: its part that the cluster knows."""
    components = {}
    if state.implementation:
        components["cni"] = Component(state.implementation.name, state.implementation.version)
    if state.load_balancer:
        components["loadbalancer"] = Component(state.load_balancer.name, state.load_balancer.version)
    header = Header(
        run=state.run,
        cluster=state.name,
        provider=state.provider,
        versions={"python": platform.python_version(), **state.versions},
        implementation=components,
        nodes=tuple(Node(n.name, n.kubelet, n.system, n.kernel, n.runtime, n.schedulable) for n in state.nodes),
        families=state.families,
        features=state.implementation.claims if state.implementation else (),
        unsupported=state.unsupported,
        testbed=state.testbed,
    )
    return {key: value for key, value in header.as_json().items() if value and key != "conformance"}
