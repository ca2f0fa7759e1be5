"""What happens in a run, in the past tense: the only source of every report. Each is one JSON line; times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from netproof.model.timing import Timing
from netproof.model.verdict import Verdict


@dataclass(frozen=True, slots=True)
class RunStarted:
    """`header`: run id, cluster, versions as the programs report them, implementation, nodes, families, features, what is unsupported."""

    at: float
    header: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CaseStarted:
    at: float
    case: str  # NPI-02a/tcp/ipv4/pod-ip
    node_id: str  # pytest's
    worker: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Progress of a long wait: what for, how long already, until when at most (seconds)."""

    at: float
    case: str
    what: str
    waited: float
    limit: float


@dataclass(frozen=True, slots=True)
class CaseFinished:
    """`caused_by` names the case that a further result (NPI-01: removed policies stop acting) goes back to."""

    at: float
    case: str
    behaviour: str
    suite: str
    node_id: str
    worker: str
    verdict: Verdict
    reason: str
    seconds: float
    converged: float | None = None
    tags: tuple[str, ...] = ()
    excludes: str = ""
    deviation: str = ""  # the link of the deviation that applied
    evidence: str = ""  # folder of the bundle, relative to the report folder
    matrix: str = ""  # expected beside observed, as shown to people
    counterexample: str = ""  # of a generated set that fails: the smallest that still does, as shown to people
    caused_by: str = ""
    coverage: str = ""  # "same node only", where the cluster has no second node
    figures: Mapping[str, float] = field(default_factory=dict)
    timings: tuple[Timing, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseDropped:
    """A case that ran ahead of its turn, which did not come: the run was ended by one before it. It counts as not run."""

    at: float
    case: str
    worker: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    at: float
    exit_code: int
    incomplete: str = ""  # why: "interrupted by SIGTERM"
    leftovers: tuple[str, ...] = ()
    stale_deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Event = RunStarted | CaseStarted | Waiting | CaseFinished | CaseDropped | RunFinished


class Sink(Protocol):
    """Who listens. Must not raise."""

    def __call__(self, event: Event) -> None: ...


def as_json(event: Event) -> dict[str, Any]:
    """The event as JSON values, its type under `event`."""
    return {"event": type(event).__name__} | asdict(event)
