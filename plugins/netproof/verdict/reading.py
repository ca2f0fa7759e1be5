"""A whole history, graded once: what the judge looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from netproof.model.flow import Flow
from netproof.model.history import Decision, History
from netproof.model.outcome import Attempt, Outcome, Probe, Round
from netproof.verdict.cell import grade
from netproof.verdict.control import uncontrolled
from netproof.verdict.course import Course, Sighting, State, burst_rounds, look, probes_of, settle_rounds
from netproof.verdict.settle import Step, given_up, next_step, settled

Probes = Mapping[Flow, Probe]

OVERLOADED = 0.2
"""The share of starved attempts above which being late at the cap proves nothing."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The rounds of a step, graded, and how far the step came."""

    history: History
    sightings: tuple[Sighting, ...]  # all rounds of settling
    since_right: tuple[Sighting, ...]  # from the first right one on
    stayed_right: tuple[Sighting, ...]  # from the first right one on that no wrong one followed
    relapses: tuple[Sighting, ...]  # the wrong ones that followed a right one
    burst: tuple[Probes, ...]
    course: Course
    step: Step  # what was still to be done
    settled: bool
    given_up: bool
    uncontrolled: Mapping[Flow, str]

    @staticmethod
    def of(history: History) -> Reading:
        """Grade every round of settling."""
        sightings = tuple(look(round_, history) for round_ in settle_rounds(history))
        course = Course()
        for sighting in sightings:
            course = course.after(sighting.round, sighting.state)
        return Reading(
            history=history,
            sightings=sightings,
            since_right=_from_first_right(sightings),
            stayed_right=_from_first_right(sightings[_last_wrong(sightings) + 1 :]),
            relapses=_relapses(sightings),
            burst=tuple(probes_of(round_) for round_ in burst_rounds(history)),
            course=course,
            step=next_step(history, course),
            settled=settled(history, course),
            given_up=given_up(history, course),
            uncontrolled=uncontrolled(history),
        )

    @property
    def overloaded(self) -> bool:
        """Whether so many attempts were starved that the machine, not the network, may be what was late."""
        return overloaded(sighting.round for sighting in self.sightings)

    @property
    def promised(self) -> tuple[Flow, ...]:
        """The flows of which anything is promised."""
        return tuple(flow for flow, promised in self.history.expected.items() if promised.decision is not Decision.OBSERVE)

    @property
    def wrong_until(self) -> float | None:
        """When the last wrong attempt before all stayed right began, on the runner's clock; None where none was seen.

        The network was wrong then. When it was right, is known less well: by the begin of the first right round.
        """
        if (last := _last_wrong(self.sightings)) < 0:
            return None
        expected, late = self.history.expected, self.history.limits.late
        probes = self.sightings[last].probes
        tried = [(flow, attempt) for flow in self.promised if flow in probes for attempt in probes[flow].attempts]
        return max(attempt.began for flow, attempt in tried if grade(attempt, expected[flow], late).wrong)


def overloaded(rounds: Iterable[Round]) -> bool:
    """Whether more than `OVERLOADED` of all attempts of these rounds were starved, and not answered all the same."""
    made = (attempt for round_ in rounds for probe in round_.probes for attempt in probe.attempts)
    tried = [attempt.starved and attempt.outcome is not Outcome.CONNECTED for attempt in made]
    return sum(tried) > OVERLOADED * len(tried)


def attempts(flow: Flow, rounds: tuple[Probes, ...]) -> list[Attempt]:
    """The attempts on a flow in these rounds."""
    return [attempt for probes in rounds if flow in probes for attempt in probes[flow].attempts]


def _from_first_right(sightings: tuple[Sighting, ...]) -> tuple[Sighting, ...]:
    first = next((i for i, sighting in enumerate(sightings) if sighting.state is State.RIGHT), len(sightings))
    return sightings[first:]


def _last_wrong(sightings: tuple[Sighting, ...]) -> int:
    return max((i for i, sighting in enumerate(sightings) if sighting.state is State.WRONG), default=-1)


def _relapses(sightings: tuple[Sighting, ...]) -> tuple[Sighting, ...]:
    decided = [sighting for sighting in sightings if sighting.state is not State.UNDECIDED]
    return tuple(after for before, after in pairwise(decided) if before.state is State.RIGHT and after.state is State.WRONG)
