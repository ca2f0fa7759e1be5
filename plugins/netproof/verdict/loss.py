"""What a burst says of lost attempts on allowed flows, without counting for the network what a busy machine did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netproof.model.history import Decision, Expectation, History
from netproof.model.outcome import Attempt
from netproof.verdict.binomial import exceeds
from netproof.verdict.cell import Cause, Grade, grade
from netproof.verdict.course import burst_rounds, probes_of

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

    def thin(self, rate: float, confidence: float) -> bool:
        """Whether few attempts count, and only those that do not would prove a loss above `rate`."""
        few = self.counted < ENOUGH * (self.lost + self.good + self.doubtful)
        proven = exceeds(self.lost, self.counted, rate, confidence)
        return few and not proven and exceeds(self.lost + self.doubtful, self.counted + self.doubtful, rate, confidence)


def tally(attempts: Iterable[Attempt], promised: Expectation, late: float) -> Tally:
    """Count the attempts on one flow; nothing is counted of one that is not allowed."""
    if promised.decision is not Decision.ALLOW:
        return Tally()
    graded = [(attempt, grade(attempt, promised, late)) for attempt in attempts]
    lost = sum(finding.grade is Grade.BAD and not finding.decisive for _, finding in graded)
    good = [attempt.starved for attempt, finding in graded if finding.grade is Grade.GOOD]
    doubtful = sum(finding.cause is Cause.STARVED for _, finding in graded)
    return Tally(lost, lost + good.count(False), len(good), doubtful)


def tally_of(history: History) -> Tally:
    """That of all bursts of a history so far."""
    found = Tally()
    for round_ in burst_rounds(history):
        for flow, probe in probes_of(round_).items():
            if promised := history.expected.get(flow):
                found += tally(probe.attempts, promised, history.limits.late)
    return found


def thin(history: History) -> bool:
    """Whether the bursts so far leave open whether too much is lost, and a further one would tell."""
    return tally_of(history).thin(history.limits.loss, history.limits.confidence)
