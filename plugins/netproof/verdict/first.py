"""The first instant of a new pod: nothing is awaited, so every attempt on a denied flow counts, from the first on.

https://kubernetes.io/docs/concepts/services-networking/network-policies/#pod-lifecycle
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netproof.model.flow import Flow
from netproof.model.history import Decision, History
from netproof.model.outcome import Attempt, Phase
from netproof.verdict.cell import Finding, Grade, grade
from netproof.verdict.course import probes_of


@dataclass(frozen=True, slots=True)
class Instant:
    """What one denied flow saw of it. `clean` attempts were denied at a time at which the flow's control connected already.

    `open_until`: seconds from the flow's first attempt to the last one that got through; None where none did.
    """

    attempts: tuple[Attempt, ...] = ()
    findings: tuple[Finding, ...] = ()
    clean: int = 0
    open_until: float | None = None

    @property
    def leaks(self) -> int:
        """The attempts that got through."""
        return sum(finding.grade is Grade.LEAK for finding in self.findings)

    @property
    def seen(self) -> str:
        """Why nothing is known of it, in a few words."""
        undecided = [finding.seen for finding in self.findings if finding.grade is Grade.UNDECIDED]
        return undecided[0] if undecided else "its control connected too late" if self.findings else "never probed"


def instant(flow: Flow, history: History) -> Instant | None:
    """The first instant of a denied flow; None in a step without new pods, and for other flows."""
    promised = history.expected[flow]
    if promised.decision is not Decision.DENY or not is_first(history):
        return None
    control = reached(history.controls.get(flow, flow), history)
    timed = [(attempt.began - since, attempt) for since, attempts in _series(flow, history) for attempt in attempts]
    graded = [(at, grade(attempt, promised, history.limits.late)) for at, attempt in timed]
    return Instant(
        attempts=tuple(attempt for _, attempt in timed),
        findings=tuple(finding for _, finding in graded),
        clean=sum(finding.grade is Grade.GOOD and control is not None and at >= control for at, finding in graded),
        open_until=max((at for at, finding in graded if finding.grade is Grade.LEAK), default=None),
    )


def missed(history: History) -> bool:
    """Whether nothing is known of the first instant of some denied flow, and none leaks: another pod may be seen better."""
    instants = [one for flow in history.expected if (one := instant(flow, history))]
    return any(not one.clean for one in instants) and not any(one.leaks for one in instants)


def is_first(history: History) -> bool:
    """Whether the step made new pods."""
    return any(round_.phase is Phase.FIRST for round_ in history.rounds)


def reached(flow: Flow, history: History) -> float | None:
    """Seconds from the first attempt on a flow to the first that connected, in the container that took longest.

    None where it did not connect in one of them.
    """
    firsts = []
    for since, attempts in _series(flow, history):
        connected = [attempt.began - since for attempt in attempts if _connected(attempt, flow, history)]
        firsts.append(min(connected, default=None))
    known = [first for first in firsts if first is not None]
    return max(known) if known and len(known) == len(firsts) else None


def allowed_from(history: History) -> float | None:
    """Seconds until the last of the allowed flows of new pods had connected; None where they did only later."""
    allowed = [flow for flow, promised in history.expected.items() if promised.decision is Decision.ALLOW]
    firsts = [reached(flow, history) for flow in allowed]
    known = [first for first in firsts if first is not None]
    return max(known, default=0.0) if len(known) == len(firsts) else None


def shown(instants: Sequence[Instant]) -> str:
    """What the attempts exclude: the flow with the fewest decides. Empty where there are none."""
    clean = min((one.clean for one in instants), default=0)
    return f"none of {clean} attempts on a flow got through from a new pod's first instant on" if clean else ""


def _series(flow: Flow, history: History) -> Iterator[tuple[float, tuple[Attempt, ...]]]:
    """The attempts on a flow of each container, with the begin of the first."""
    for round_ in history.rounds:
        if round_.phase is Phase.FIRST and (probe := probes_of(round_).get(flow)) and probe.attempts:
            yield min(attempt.began for attempt in probe.attempts), probe.attempts


def _connected(attempt: Attempt, flow: Flow, history: History) -> bool:
    promised = history.expected.get(flow)
    return promised is not None and grade(attempt, promised, history.limits.late).grade is Grade.GOOD
