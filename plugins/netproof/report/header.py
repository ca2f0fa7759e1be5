"""What a run was about: the cluster, what is in it, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

REAL = frozenset({"kind", "context"})  # providers of real clusters; the lab is none


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the implementation (CNI, service proxy, DNS, load balancer), its version as it reports it itself."""

    name: str
    version: str = ""
    images: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the API server describes it (`status.nodeInfo`)."""

    name: str
    kubelet: str = ""
    os: str = ""
    kernel: str = ""
    runtime: str = ""
    schedulable: bool = True


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a run; `asdict` of it is what `RunStarted.header` holds.

    `implementation` goes from role (cni, proxy, dns, loadbalancer) to component, `versions` from any other program (kubernetes,
    python) to what it says of itself, `unsupported` from feature or means to the reason. `selected` of `behaviours` behaviours are
    proved by the `cases` cases that were selected. `testbed` marks results of images built from source, not the vendors' own.
    """

    run: str = ""
    cluster: str = ""
    provider: str = ""  # kind, context, lab
    versions: Mapping[str, str] = field(default_factory=dict)
    implementation: Mapping[str, Component] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    families: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    unsupported: Mapping[str, str] = field(default_factory=dict)
    testbed: bool = False
    selected: int = 0
    behaviours: int = 0
    cases: int = 0
    left_out: str = ""  # cases that a run of its own is for, and why
    command: str = ""

    @property
    def conformance(self) -> bool:
        """Whether the results speak of a real cluster's network."""
        return self.provider in REAL

    @staticmethod
    def of(headers: Iterable[Mapping[str, Any]]) -> Header:
        """One header of several: a later one, written when more was known, adds to the earlier ones and overrides them."""
        known = {f.name for f in fields(Header)}
        told = {key: value for header in headers for key, value in header.items() if key in known and value}
        told["implementation"] = {role: Component(**_tuples(c)) for role, c in told.get("implementation", {}).items()}
        told["nodes"] = tuple(Node(**node) for node in told.get("nodes", ()))
        return Header(**_tuples(told))

    def as_json(self) -> dict[str, Any]:
        """The header as it stands in the report document."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values | {"conformance": self.conformance}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
