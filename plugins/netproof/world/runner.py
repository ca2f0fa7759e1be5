"""What a worker of the run has to work with: the cluster's API, the fleet of agents, and the bounds that the user set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from netproof.kube.client import Api
from netproof.model.flow import Family
from netproof.model.history import Limits
from netproof.probe.fleet import Fleet
from netproof.probe.stream import Dial
from netproof.world.budget import Budget
from netproof.world.placement import Node
from netproof.world.pods import Pod

Progress = Callable[[str, float, float], None]  # what is awaited, seconds waited, seconds at most


def _nobody() -> None:
    """Nobody else waits to be alone."""


@dataclass(frozen=True, slots=True)
class Outside:
    """An agent outside the cluster, in the fleet under `name`, and the addresses that the cluster's nodes see of it."""

    name: str
    addresses: Mapping[Family, str]


@dataclass(frozen=True, slots=True)
class Runner:
    """One worker's means. `nodes` are those that take pods; `every_node` also the others, as the API shows them."""

    api: Api
    fleet: Fleet
    run: str
    worker: str
    token: str
    image: str
    nodes: Sequence[Node]
    every_node: Sequence[Mapping[str, Any]]
    dial: Callable[[str, str, int], Dial]  # namespace, pod, the control port on its loopback
    progress: Progress
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=Budget)
    outside: Sequence[Outside] = ()
    families: tuple[Family, ...] = (Family.IPV4,)
    network_agent: str = ""  # namespace/name of the DaemonSet whose pods program the nodes
    clock: Callable[[], float] = time.monotonic
    repeat: int = 10  # how often a change is timed
    alone: Callable[[], AbstractContextManager[Callable[[], None]]] = lambda: nullcontext(_nobody)  # see `run.gate`. Raises Late

    def dial_pod(self, pod: Pod) -> Dial:
        """How to reach that pod's agent."""
        return self.dial(pod.namespace, pod.pod, pod.control)
