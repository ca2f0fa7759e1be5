"""What is said of one flow of a step, from all that was seen of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from netproof.model.flow import Flow
from netproof.model.history import Cell, Decision, Expectation
from netproof.model.outcome import Attempt, Outcome
from netproof.model.verdict import Verdict
from netproof.verdict.binomial import exceeds
from netproof.verdict.cell import Cause, Finding, Grade, grade
from netproof.verdict.first import Instant, instant
from netproof.verdict.loss import Tally, tally
from netproof.verdict.reading import Reading, attempts

_RIGHTLY = {Decision.ALLOW: "allowed", Decision.DENY: "denied", Decision.REFUSE: "refused", Decision.OBSERVE: "answered"}


@dataclass(frozen=True, slots=True)
class Account:
    """What was seen of one flow after the change."""

    flow: Flow
    promised: Expectation
    rounds: tuple[Finding, ...]  # one for each round of settling
    since_right: tuple[Finding, ...]  # those from the first round on that was right for all flows
    attempts: tuple[Attempt, ...]  # since all stayed right, or all where it did not
    burst: tuple[Finding, ...]  # one for each attempt
    tally: Tally  # the burst's, of an allowed flow
    unchosen: tuple[Finding, ...]  # attempts that the end of settling did not depend on: the burst's, and those of stability
    instant: Instant | None  # the first instant of a new pod, where the flow is denied

    @staticmethod
    def of(flow: Flow, reading: Reading) -> Account:
        """Collect it."""
        stayed = tuple(sighting.probes for sighting in reading.stayed_right or reading.sightings)
        # The first right round was waited for, and after a relapse so were the others: that they are good excludes nothing.
        stability = () if reading.relapses else tuple(sighting.probes for sighting in reading.stayed_right[1:])
        return Account(
            flow=flow,
            promised=reading.history.expected[flow],
            rounds=tuple(sighting.findings[flow] for sighting in reading.sightings),
            since_right=tuple(sighting.findings[flow] for sighting in reading.since_right),
            attempts=tuple(attempts(flow, stayed + reading.burst)),
            burst=_grades(flow, reading, attempts(flow, reading.burst)),
            tally=tally(attempts(flow, reading.burst), reading.history.expected[flow], reading.history.limits.late),
            unchosen=_grades(flow, reading, attempts(flow, stability + reading.burst)),
            instant=instant(flow, reading.history),
        )


def _grades(flow: Flow, reading: Reading, tried: list[Attempt]) -> tuple[Finding, ...]:
    return tuple(grade(attempt, reading.history.expected[flow], reading.history.limits.late) for attempt in tried)


def count(findings: Collection[Finding], of: Grade) -> int:
    """How many are of that grade."""
    return sum(finding.grade is of for finding in findings)


@dataclass(frozen=True, slots=True)
class _Said:
    verdict: Verdict
    seen: str
    leak: bool = False


def cell(account: Account, reading: Reading, loss_confidence: float) -> Cell:
    """The cell of a flow: `loss_confidence` is what a loss on this flow alone must be proven with."""
    said = _said(account, reading, loss_confidence)
    tried = account.attempts + (account.instant.attempts if account.instant else ())
    through = sum(attempt.outcome is Outcome.CONNECTED or attempt.received for attempt in tried)
    return Cell(account.flow, account.promised, said.verdict, said.seen, len(tried), through, said.leak)


def _said(account: Account, reading: Reading, loss_confidence: float) -> _Said:
    if account.promised.decision is Decision.OBSERVE:
        return _Said(Verdict.OBSERVED, _observed(account))
    if account.instant and (first := _at_first(account.instant)):
        return first
    if reading.settled:
        said = _in_burst(account, reading, loss_confidence) or _settled(account)
    elif reading.given_up:
        said = _excused(_given_up(account)) if reading.overloaded else _given_up(account)
    else:
        said = _Said(Verdict.INCONCLUSIVE, _last(account))
    if account.flow in reading.uncontrolled and said.verdict < Verdict.INCONCLUSIVE:
        return _Said(Verdict.INCONCLUSIVE, f"{said.seen}, without a control ({reading.uncontrolled[account.flow]})")
    return said


def _at_first(instant: Instant) -> _Said | None:
    """What the first instant of a new pod alone says: a leak, or that it says nothing; None where it was as promised."""
    if instant.open_until is not None:
        until = f"the last {instant.open_until:.2f} s after the first"
        return _Said(Verdict.FAIL, f"leak: {instant.leaks} of {len(instant.attempts)} attempts got through, {until}", leak=True)
    return None if instant.clean else _Said(Verdict.INCONCLUSIVE, f"nothing is known of the first instant ({instant.seen})")


def _excused(said: _Said) -> _Said:
    """What is said at the cap on a machine that gave nobody his time: no promise bounds how fast a starved network must be."""
    if said.verdict is not Verdict.FAIL or said.leak:
        return said  # a flow that never closed is repeated in a fresh world before it counts
    return _Said(Verdict.INCONCLUSIVE, f"{said.seen}, on an overloaded machine")


def _in_burst(account: Account, reading: Reading, loss_confidence: float) -> _Said | None:
    """What the burst alone says: a leak, a wrong answer, a proven loss, or that it says nothing; None where it is as promised."""
    total = len(account.burst)
    if leaks := count(account.burst, Grade.LEAK):
        return _Said(Verdict.FAIL, f"leak: {leaks} of {len(account.attempts)} attempts {_went_through(account)}", leak=True)
    if wrong := [finding for finding in account.burst if finding.wrong and finding.decisive]:
        return _Said(Verdict.FAIL, f"{wrong[0].seen}: {len(wrong)} of {total} attempts in the burst")
    if account.promised.decision is Decision.REFUSE:
        return None  # not bursted; where it was, time-outs show the rate limit of ICMP errors
    if exceeds(account.tally.lost, account.tally.counted, reading.history.limits.loss, loss_confidence):
        return _Said(Verdict.FAIL, f"{account.tally.lost} of {account.tally.counted} attempts in the burst were lost")
    if doubts := _doubts(account):
        return _Said(Verdict.INCONCLUSIVE, f"{doubts[0].seen}: {len(doubts)} of {total} attempts in the burst")
    return None


def _went_through(account: Account) -> str:
    connected = any(attempt.outcome is Outcome.CONNECTED for attempt in account.attempts)
    return "connected" if connected else "arrived, one-way: nothing came back"


def _doubts(account: Account) -> list[Finding]:
    """The attempts of the burst that forbid a verdict: all where none was clean, and those on a denied flow that something answered.

    In settling such an answer is tried again; the burst is not.
    """
    undecided = [finding for finding in account.burst if finding.grade is Grade.UNDECIDED]
    if account.promised.decision is Decision.DENY:
        answered = [finding for finding in undecided if finding.cause in (Cause.LATE, Cause.SILENT)]
        if answered:
            return answered
    return [] if account.tally.lost or count(account.burst, Grade.GOOD) else undecided


def _settled(account: Account) -> _Said:
    lost = f", {account.tally.lost} of {account.tally.counted} attempts in the burst were lost" if account.tally.lost else ""
    if any(finding.wrong for finding in account.since_right):
        return _Said(Verdict.FLAKY, _share(account.promised, account.since_right) + lost)
    return _Said(Verdict.PASS, _last(account) + lost)


def _given_up(account: Account) -> _Said:
    last = account.rounds[-1]
    seen = last.seen + (f" ({_share(account.promised, account.rounds)})" if count(account.rounds, Grade.GOOD) else "")
    if last.grade is Grade.LEAK:
        return _Said(Verdict.FAIL, f"leak: {seen}", leak=True)
    if last.grade is Grade.UNDECIDED:
        return _Said(Verdict.INCONCLUSIVE, seen)
    if last.grade is Grade.BAD:
        return _Said(Verdict.FAIL, seen)
    relapsed = any(finding.wrong for finding in account.since_right)
    return _Said(Verdict.FLAKY, _share(account.promised, account.since_right)) if relapsed else _Said(Verdict.PASS, last.seen)


def _share(promised: Expectation, findings: Collection[Finding]) -> str:
    """ "allowed in 14 of 20 rounds", the undecided ones left out."""
    decided = sum(finding.grade is not Grade.UNDECIDED for finding in findings)
    return f"{_RIGHTLY[promised.decision]} in {count(findings, Grade.GOOD)} of {decided} rounds"


def _last(account: Account) -> str:
    decided = [finding.seen for finding in account.rounds if finding.grade is not Grade.UNDECIDED]
    return (decided or [finding.seen for finding in account.rounds] or ["never probed"])[-1]


def _observed(account: Account) -> str:
    """What was seen most often, and of how many rounds: those since all that is promised was right, if it ever was."""
    seen = [finding.seen for finding in account.since_right or account.rounds]
    most = max(seen, key=seen.count, default="never probed")
    return most if seen.count(most) == len(seen) else f"{most} in {seen.count(most)} of {len(seen)} rounds"
