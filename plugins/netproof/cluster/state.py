"""What a provider has made or found: JSON in the run folder, so that every worker of a run reads the same."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

FILE = "cluster.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """Pods whose logs are kept as evidence. An empty namespace means any, an empty container the pod's first."""

    selector: str
    namespace: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementation:
    """The CNI with what it claims. `reported_by` says where the version is from: "program", "image tag" or "nothing"."""

    name: str
    version: str
    reported_by: str
    claims: tuple[str, ...] = ()
    logs: tuple[LogSource, ...] = ()
    agent: str = ""  # namespace/name of the DaemonSet whose pods program the nodes; empty where nobody says
    conntrack: Mapping[str, int] = field(default_factory=dict)  # entries: tcp, any (the implementation's), kernel (nf_conntrack_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancer:
    """What gives addresses to Services. `pool` is a range, or empty where it is not ours."""

    name: str
    version: str
    pool: str = ""
    logs: tuple[LogSource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outsider:
    """An agent outside the cluster. `node_network`: it shares the nodes' link, so it sees what L2 announcements promise."""

    name: str  # outside/a
    container: str
    addresses: Mapping[str, str]  # by family, as in model.flow.Family
    node_network: bool
    socket: str = ""  # the unix socket that leads to an outsider of the lab, which has no container


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as its status describes it."""

    name: str
    schedulable: bool  # takes ordinary pods: not cordoned, no taint that keeps them out
    addresses: Mapping[str, str]
    kubelet: str
    runtime: str
    kernel: str
    system: str
    architecture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """A cluster that is ready for cases, and what it lacks. `made`: this run created it and removes it, unless `keep`."""

    provider: str
    name: str
    run: str
    folder: str
    kubeconfig: str | None
    context: str | None
    implementation: Implementation
    load_balancer: LoadBalancer | None
    outsiders: tuple[Outsider, ...]
    unsupported: Mapping[str, str]  # feature -> reason
    versions: Mapping[str, str]  # program -> version
    nodes: tuple[Node, ...]
    families: tuple[str, ...]
    notes: tuple[str, ...] = ()  # for the header
    seconds: Mapping[str, float] = field(default_factory=dict)  # stage -> how long it took
    made: bool = False
    keep: bool = False
    testbed: bool = False

    def write(self, folder: Path | None = None) -> Path:
        """Write it to `folder` (default: the run's) so that a reader sees all of it or nothing."""
        target = (folder or Path(self.folder)) / FILE
        new = target.with_name(f".{FILE}.{os.getpid()}")
        new.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        new.replace(target)
        return target

    @staticmethod
    def read(folder: Path) -> ClusterState | None:
        """The state of a run folder, None where there is none yet."""
        try:
            return from_json(json.loads((folder / FILE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None


def from_json(data: Mapping[str, Any]) -> ClusterState:
    """The state of its `asdict`."""
    implementation, balancer = data["implementation"], data["load_balancer"]
    return ClusterState(
        **{name: _value(data[name]) for name in _PLAIN},
        implementation=Implementation(**_logged(implementation)),
        load_balancer=LoadBalancer(**_logged(balancer)) if balancer else None,
        outsiders=tuple(Outsider(**outsider) for outsider in data["outsiders"]),
        nodes=tuple(Node(**node) for node in data["nodes"]),
    )


_PLAIN = [f.name for f in fields(ClusterState) if f.name not in {"implementation", "load_balancer", "outsiders", "nodes"}]


def _logged(data: Mapping[str, Any]) -> dict[str, Any]:
    logs = tuple(LogSource(**source) for source in data["logs"])
    return {key: _value(value) for key, value in data.items()} | {"logs": logs}


def _value(value: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(value) if isinstance(value, list) else value
