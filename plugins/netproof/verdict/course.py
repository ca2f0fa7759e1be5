"""How the rounds of a step went: which were right, since when, and what came in the burst."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

from netproof.model.flow import Flow
from netproof.model.history import Decision, History
from netproof.model.outcome import Phase, Probe, Round
from netproof.verdict.cell import Finding, Grade, evaluate, grade

_SETTLE = (Phase.CANDIDATE, Phase.STABILITY)


class State(enum.StrEnum):
    """What a round says of the step: a contradicted promise makes it wrong, a missing answer undecided."""

    RIGHT = "right"
    WRONG = "wrong"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A round with its probes by flow, and with what it says of each expected flow."""

    round: Round
    probes: Mapping[Flow, Probe]
    findings: Mapping[Flow, Finding]

    @property
    def state(self) -> State:
        grades = {finding.grade for finding in self.findings.values()}
        if grades & {Grade.BAD, Grade.LEAK}:
            return State.WRONG
        return State.UNDECIDED if Grade.UNDECIDED in grades else State.RIGHT


@dataclass(frozen=True, slots=True)
class Course:
    """What settling has come to: the last round, and the right ones since the last wrong one.

    Undecided rounds neither confirm nor relapse: they stand between the right ones without ending them.
    """

    rounds: int = 0  # that were read
    state: State | None = None  # of the last one
    began: float = 0.0  # the last one
    ended: float = 0.0  # the last one
    agreeing: int = 0  # right ones since the last wrong one
    right_began: float = 0.0  # the first of these
    right_ended: float = 0.0  # the first of these
    right_since: float = 0.0  # the begin of the first of these, or of the glance that led to it: so soon it was seen to be right
    right_until: float = 0.0  # end of the last of these

    def after(self, round_: Round, state: State) -> Course:
        """The course with one more round."""
        course = replace(self, rounds=self.rounds + 1, state=state, began=round_.began, ended=round_.ended)
        if state is State.UNDECIDED:
            return course
        if state is State.WRONG:
            return replace(course, agreeing=0)
        if not self.agreeing:
            since = round_.began if round_.glanced is None else round_.glanced
            course = replace(course, right_began=round_.began, right_ended=round_.ended, right_since=since)
        return replace(course, agreeing=self.agreeing + 1, right_until=round_.ended)


def read(history: History, known: Course | None = None) -> Course:
    """The course of a history; `known`, of the same history with fewer rounds, saves grading those again."""
    course = known or Course()
    for round_ in settle_rounds(history)[course.rounds :]:
        course = course.after(round_, look(round_, history).state)
    return course


def look(round_: Round, history: History) -> Sighting:
    """The round, graded. A flow that it did not probe is undecided, unless it is only observed."""
    probes, late = probes_of(round_), history.limits.late
    findings = {flow: evaluate(probes.get(flow, Probe(flow, ())), promised, late) for flow, promised in history.expected.items()}
    return Sighting(round_, probes, findings)


def probes_of(round_: Round) -> dict[Flow, Probe]:
    """The probes of a round by flow; several on one flow become one, so that none can hide another."""
    probes: dict[Flow, Probe] = {}
    for probe in round_.probes:
        before = probes[probe.flow].attempts if probe.flow in probes else ()
        probes[probe.flow] = Probe(probe.flow, before + probe.attempts)
    return probes


def settle_rounds(history: History) -> tuple[Round, ...]:
    """The candidate and stability rounds before the burst, as the runner made them: in the order of their begin."""
    return tuple(round_ for round_ in history.rounds[: _burst_at(history)] if round_.phase in _SETTLE)


def burst_rounds(history: History) -> tuple[Round, ...]:
    """The burst, and whatever rounds came after it: from its begin on a leak is a leak."""
    return tuple(round_ for round_ in history.rounds[_burst_at(history) :] if round_.phase in (*_SETTLE, Phase.BURST))


def barren(history: History) -> bool:
    """Whether the burst says nothing of some flow: every attempt on it, and there were some, was undecided."""
    tried: dict[Flow, set[Grade]] = {}
    for round_ in burst_rounds(history):
        for flow, probe in probes_of(round_).items():
            promised = history.expected.get(flow)
            if promised and promised.decision in (Decision.ALLOW, Decision.DENY):
                tried.setdefault(flow, set()).update(grade(a, promised, history.limits.late).grade for a in set(probe.attempts))
    return any(grades == {Grade.UNDECIDED} for grades in tried.values())


def _burst_at(history: History) -> int:
    return next((i for i, round_ in enumerate(history.rounds) if round_.phase is Phase.BURST), len(history.rounds))
