"""One probe against what is promised of its flow: each row of the outcome table of the design ("How a case is judged")."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from netproof.model.history import Decision, Expectation
from netproof.model.outcome import Attempt, Outcome, Probe


class Grade(enum.StrEnum):
    """What a probe, or one attempt, says of the promise."""

    GOOD = "good"
    BAD = "bad"
    LEAK = "leak"  # of a denied flow: it connected, or its nonce arrived
    UNDECIDED = "undecided"  # says nothing, and is repeated
    OBSERVED = "observed"  # nothing is promised


class Cause(enum.StrEnum):
    """Why an attempt says nothing."""

    LATE = "late"
    STARVED = "starved"
    BROKEN = "broken"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Finding:
    """A grade, in a few words what was seen, and the cause of an undecided one.

    `decisive` marks a wrong one that no other attempt of the probe can mend: a leak, an answer by somebody else or with another
    source than promised, an answer where there must be none; of an observed flow, an answer.
    """

    grade: Grade
    seen: str
    cause: Cause | None = None
    decisive: bool = False

    @property
    def wrong(self) -> bool:
        """Whether it contradicts the promise."""
        return self.grade in (Grade.BAD, Grade.LEAK)


def evaluate(probe: Probe, expectation: Expectation, late: float) -> Finding:
    """What the staggered attempts of a probe say together; one without attempts is broken, unless it was only to be observed.

    An allowed (or to be refused) flow is good as soon as one attempt is good and none decisively bad, a denied one only if every
    attempt was cleanly denied.
    """
    findings = [grade(attempt, expectation, late) for attempt in probe.attempts]
    if not findings:
        return Finding(Grade.OBSERVED, "not probed") if expectation.decision is Decision.OBSERVE else _NOT_PROBED
    order = _WORST_FIRST if expectation.decision is Decision.DENY else _BEST_FIRST
    return min(findings, key=lambda finding: (not finding.decisive, order.index(finding.grade)))


_NOT_PROBED = Finding(Grade.UNDECIDED, "not probed", Cause.BROKEN)

# An attempt that says nothing might have been the good one (allowed), or the leak (denied): it weighs more than the last entry.
_BEST_FIRST = (Grade.OBSERVED, Grade.GOOD, Grade.UNDECIDED, Grade.BAD, Grade.LEAK)
_WORST_FIRST = (Grade.LEAK, Grade.BAD, Grade.UNDECIDED, Grade.GOOD, Grade.OBSERVED)


def grade(attempt: Attempt, expectation: Expectation, late: float) -> Finding:
    """What one attempt says, as the attempts of a burst are counted."""
    return _RULES[expectation.decision](attempt, expectation, late)


def _allow(attempt: Attempt, expectation: Expectation, late: float) -> Finding:
    if cause := _doubt(attempt, late):
        return _undecided(attempt, cause)
    if attempt.outcome is not Outcome.CONNECTED:
        return Finding(Grade.BAD, describe(attempt))
    if not _may_answer(attempt, expectation):
        return _misdelivered(attempt, expectation)
    if expectation.source and not _same_address(attempt.source, expectation.source):
        return Finding(Grade.BAD, f"source was {attempt.source or 'not told'}, promised {expectation.source}", decisive=True)
    return Finding(Grade.GOOD, "allowed")


def _deny(attempt: Attempt, expectation: Expectation, late: float) -> Finding:
    cause = _doubt(attempt, late)
    if cause is not Cause.LATE:
        if attempt.received or (attempt.outcome is Outcome.CONNECTED and _may_answer(attempt, expectation)):
            # A nonce in the destination's log, or an answer, is a fact, however starved or broken the agents were.
            return Finding(Grade.LEAK, describe(attempt), decisive=True)
        if attempt.outcome is Outcome.CONNECTED:
            return _misdelivered(attempt, expectation)
    return _undecided(attempt, cause) if cause else Finding(Grade.GOOD, describe(attempt))


def _refuse(attempt: Attempt, expectation: Expectation, late: float) -> Finding:
    cause = _doubt(attempt, late)
    if cause is not Cause.LATE and (attempt.received or attempt.outcome is Outcome.CONNECTED):
        return Finding(Grade.BAD, f"{describe(attempt)}, must be refused", decisive=True)
    if cause:
        return _undecided(attempt, cause)
    if attempt.outcome is Outcome.TIMED_OUT:
        return Finding(Grade.BAD, f"{describe(attempt)}, must be refused")
    return Finding(Grade.GOOD, describe(attempt))


def _observe(attempt: Attempt, expectation: Expectation, late: float) -> Finding:
    return Finding(Grade.OBSERVED, describe(attempt), decisive=attempt.outcome is Outcome.CONNECTED)


_RULES: dict[Decision, Callable[[Attempt, Expectation, float], Finding]] = {
    Decision.ALLOW: _allow,
    Decision.DENY: _deny,
    Decision.REFUSE: _refuse,
    Decision.OBSERVE: _observe,
}


def _doubt(attempt: Attempt, late: float) -> Cause | None:
    """Why the attempt says nothing of a promise, None where it does."""
    if attempt.outcome is Outcome.CONNECTED:
        # A SYN that was dropped before convergence is sent again after 1 s and may connect then (RFC 6298, 2.1): neither good nor a leak.
        return Cause.LATE if attempt.took > late else None
    if attempt.outcome is Outcome.BROKEN:
        return Cause.BROKEN
    if attempt.starved:
        return Cause.STARVED
    if attempt.outcome is Outcome.SILENT and not attempt.received:
        return Cause.SILENT
    return None


def _may_answer(attempt: Attempt, expectation: Expectation) -> bool:
    return not expectation.responders or attempt.responder in expectation.responders


def _same_address(seen: str, promised: str) -> bool:
    """Whether two texts are one address; a dual-stack socket reports IPv4 peers as `::ffff:192.0.2.1`."""
    return _canonical(seen) == _canonical(promised)


def _canonical(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _undecided(attempt: Attempt, cause: Cause) -> Finding:
    words = {
        Cause.LATE: f"{describe(attempt)} only after {attempt.took:.2f} s",
        Cause.STARVED: f"{describe(attempt)}, but an agent was starved",
        Cause.BROKEN: describe(attempt),
        Cause.SILENT: f"{describe(attempt)}: something else answers for the peer",
    }
    return Finding(Grade.UNDECIDED, words[cause], cause)


def _misdelivered(attempt: Attempt, expectation: Expectation) -> Finding:
    promised = sorted(expectation.responders)
    names = " or ".join(promised[:3]) + (f" or {len(promised) - 3} more" if len(promised) > 3 else "")
    return Finding(Grade.BAD, f"{describe(attempt)}, not {_by(promised[0])}{names}", decisive=True)


def describe(attempt: Attempt) -> str:
    """What one socket saw, in a few words and without a judgement."""
    if attempt.outcome is Outcome.CONNECTED:
        return f"answered {_by(attempt.responder)}{attempt.responder or 'somebody unnamed'}"
    words = "accepted, but silent" if attempt.outcome is Outcome.SILENT else attempt.outcome.replace("-", " ")
    named = ", ".join(filter(None, [attempt.responder, attempt.detail]))
    return words + (f" ({named})" if named else "") + (", though it arrived" if attempt.received else "")


def _by(responder: str) -> str:
    """`by ` before a name, nothing before a DNS answer (`NXDOMAIN`, `NOERROR A 10.96.0.10`)."""
    return "" if responder.partition(" ")[0].isupper() else "by "
