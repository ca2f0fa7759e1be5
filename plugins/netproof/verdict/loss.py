"""What a burst says of lost attempts on allowed flows, without counting for the network what a busy machine did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from netproof.model.history import Decision, Expectation, History, Limits
from netproof.model.outcome import Attempt
from netproof.verdict.binomial import exceeds, half_the_error
from netproof.verdict.cell import Cause, Grade, grade
from netproof.verdict.course import burst_rounds

ENOUGH = 0.5  # of all attempts: were so many made by agents that were awake, what they say is what there is to say


@dataclass(frozen=True, slots=True)
class Tally:
    """Attempts of bursts on allowed flows.

    Only those count during which both ends were awake for as long as silence takes: of the others the good ones would be known, and the
    lost ones not, so that a loss would hide behind a busy machine.
    """

    lost: int = 0  # nobody answered, and both ends were awake
    counted: int = 0  # lost, or good while both ends were awake
    good: int = 0
    doubtful: int = 0  # nobody answered, and an end was not awake

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.lost + other.lost, self.counted + other.counted, self.good + other.good, self.doubtful + other.doubtful)

    def proven(self, limits: Limits) -> bool:
        """Whether too much is lost over all flows, by the test that has half of the permitted error."""
        return exceeds(self.lost, self.counted, limits.loss, half_the_error(limits.confidence))

    def thin(self, limits: Limits) -> bool:
        """Whether few attempts count, and only with those that do not too much would be lost."""
        few = self.counted < ENOUGH * (self.lost + self.good + self.doubtful)
        with_all = replace(self, lost=self.lost + self.doubtful, counted=self.counted + self.doubtful)
        return few and not self.proven(limits) and with_all.proven(limits)


def tally(attempts: Iterable[Attempt], promised: Expectation, late: float) -> Tally:
    """Count the attempts on one flow; nothing is counted of one that is not allowed."""
    if promised.decision is not Decision.ALLOW:
        return Tally()
    graded = [(attempt, grade(attempt, promised, late)) for attempt in attempts]
    lost = sum(finding.grade is Grade.BAD and not finding.decisive for _, finding in graded)
    good = [attempt.starved for attempt, finding in graded if finding.grade is Grade.GOOD]
    doubtful = sum(finding.cause is Cause.STARVED for _, finding in graded)
    return Tally(lost, lost + good.count(False), len(good), doubtful)


def thin(history: History) -> bool:
    """Whether the bursts so far leave open whether too much is lost, and a further one would tell."""
    probes = [probe for round_ in burst_rounds(history) for probe in round_.probes if probe.flow in history.expected]
    found = sum((tally(probe.attempts, history.expected[probe.flow], history.limits.late) for probe in probes), Tally())
    return found.thin(history.limits)
