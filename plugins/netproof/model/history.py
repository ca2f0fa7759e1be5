"""What a step of a case promised, and all that was seen of it: the verdict layer's input, and an evidence bundle's heart."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from netproof.model.flow import Flow
from netproof.model.outcome import Round
from netproof.model.verdict import Verdict


class Decision(enum.StrEnum):
    """What shall become of a flow."""

    ALLOW = "allow"
    DENY = "deny"
    REFUSE = "refuse"  # must be refused, not hang (a Service without endpoints)
    OBSERVE = "observe"  # reported, never judged


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is promised of one flow.

    `responders`: who may answer (agents' names, or canonical DNS answers); empty means anybody of the run.
    `source`: the address that the responder must see as the sender, where that is promised.
    `why`: the rule or sentence that decides it, for people.
    """

    decision: Decision
    responders: frozenset[str] = frozenset()
    source: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """What went wrong around the flows and forbids a verdict: a dead listener, a changed object, a broken stream, an absent API.

    `implementation` marks what is the network's own failure after all (streams that break after a change and recover after its
    removal, twice). `voids` marks what makes even a leak prove nothing: somebody changed or removed the policy under test.
    """

    at: float
    what: str
    implementation: bool = False
    voids: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one step, in seconds unless said otherwise."""

    cap: float = 30.0  # from the change until observed = expected
    stable_least: float = 2.0
    stable_most: float = 30.0
    stable_factor: float = 3.0  # times the convergence of this step
    late: float = 0.5  # an answer later than this is neither good nor a leak
    budget: float | None = None  # slower than this is `slow`; None where the user set none
    burst_denied: int = 100  # attempts a flow; 0: no burst
    burst_allowed: int = 20
    whole: bool = False  # a burst waits for room in the connection tables rather than be smaller
    loss: float = 0.01  # of allowed attempts in bursts
    confidence: float = 0.99


@dataclass(frozen=True, slots=True)
class History:
    """One step of a case: from the control to the last round before the next change.

    `controls` names for a denied (or to be refused) flow another flow that shows it could have connected; without an entry it is the
    flow itself. Rounds of phase CONTROL hold what was seen before the change, or of the controls; later steps carry
    over the control rounds of earlier ones. `changed` is when the API had answered the last request of the change.
    """

    expected: Mapping[Flow, Expectation]
    changed: float
    rounds: tuple[Round, ...] = ()
    controls: Mapping[Flow, Flow] = field(default_factory=dict)
    incidents: tuple[Incident, ...] = ()
    limits: Limits = Limits()
    checked: bool = False  # the step "afterwards" was done: listeners, objects, pods, agents


@dataclass(frozen=True, slots=True)
class Cell:
    """What is said of one flow of a step."""

    flow: Flow
    expected: Expectation
    verdict: Verdict
    seen: str  # in a few words: "allowed", "timed out", "answered by y/b", "leak: 3 of 120 attempts connected"
    attempts: int = 0
    connected: int = 0
    leak: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a step, and what it rests on."""

    verdict: Verdict
    reason: str
    cells: tuple[Cell, ...]
    converged: float | None = None  # seconds from the change until all was seen right that stayed so
    relapses: int = 0
    excludes: str = ""  # what the burst excludes: "no leak above 3 % a flow at 95 %"

    @property
    def leaks(self) -> tuple[Cell, ...]:
        """The denied flows that connected or whose nonce arrived."""
        return tuple(cell for cell in self.cells if cell.leak)
