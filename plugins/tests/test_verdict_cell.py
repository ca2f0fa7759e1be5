"""The outcome table of the design, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import DENY, OBSERVE, OPEN, REFUSE, allow, attempt, probe
from netproof.model.history import Decision, Expectation
from netproof.model.outcome import Attempt, Outcome, Probe
from netproof.verdict.cell import Cause, Finding, Grade, evaluate, grade

GOOD, BAD, LEAK, UNDECIDED, OBSERVED = Grade.GOOD, Grade.BAD, Grade.LEAK, Grade.UNDECIDED, Grade.OBSERVED
LATE = 0.5
B = allow("x/b")
DENY_B = Expectation(Decision.DENY, frozenset({"x/b"}))


def see(letters: str, expectation: Expectation) -> Finding:
    return evaluate(probe(OPEN, letters), expectation, LATE)


@pytest.mark.parametrize(
    ("letter", "allowed", "denied", "refused"),
    [
        (".", GOOD, LEAK, BAD),
        ("S", GOOD, LEAK, BAD),  # a connection is a fact, however starved
        ("n", BAD, LEAK, BAD),
        ("w", BAD, BAD, BAD),
        ("o", UNDECIDED, UNDECIDED, UNDECIDED),
        ("X", BAD, GOOD, BAD),
        ("R", BAD, GOOD, GOOD),
        ("r", BAD, GOOD, GOOD),
        ("u", BAD, GOOD, GOOD),
        ("l", UNDECIDED, UNDECIDED, UNDECIDED),
        ("b", UNDECIDED, UNDECIDED, UNDECIDED),
        ("s", UNDECIDED, UNDECIDED, UNDECIDED),
    ],
)
def test_one_attempt(letter: str, allowed: Grade, denied: Grade, refused: Grade) -> None:
    assert see(letter, B).grade is allowed
    assert see(letter, DENY_B).grade is denied
    assert see(letter, REFUSE).grade is refused
    assert see(letter, OBSERVE).grade is OBSERVED


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.REFUSED, Outcome.RESET, Outcome.UNREACHABLE, Outcome.SILENT])
@pytest.mark.parametrize("expectation", [B, DENY, REFUSE], ids=["allow", "deny", "refuse"])
def test_starved_and_not_connected_says_nothing(outcome: Outcome, expectation: Expectation) -> None:
    finding = grade(Attempt(0, 0.9, outcome, starved=True), expectation, LATE)
    assert (finding.grade, finding.cause) == (UNDECIDED, Cause.STARVED)


@pytest.mark.parametrize(
    "outcome", [Outcome.TIMED_OUT, Outcome.REFUSED, Outcome.RESET, Outcome.UNREACHABLE, Outcome.SILENT, Outcome.BROKEN]
)
@pytest.mark.parametrize("starved", [False, True])
def test_a_nonce_that_arrived_on_a_denied_flow_is_a_leak_whatever_came_back(outcome: Outcome, starved: bool) -> None:  # noqa: FBT001
    assert grade(Attempt(0, 0.9, outcome, received=True, starved=starved), DENY, LATE).grade is LEAK


@pytest.mark.parametrize(
    ("letter", "cause"),
    [("l", Cause.LATE), ("s", Cause.STARVED), ("b", Cause.BROKEN), ("o", Cause.SILENT)],
)
@pytest.mark.parametrize("expectation", [B, DENY, REFUSE], ids=["allow", "deny", "refuse"])
def test_the_cause_of_an_undecided_attempt_is_named(letter: str, cause: Cause, expectation: Expectation) -> None:
    assert see(letter, expectation).cause is cause


def test_a_one_way_attempt_of_starved_agents_is_undecided_on_an_allowed_flow() -> None:
    finding = grade(replace(attempt("n"), starved=True), B, LATE)
    assert (finding.grade, finding.cause) == (UNDECIDED, Cause.STARVED)


def test_silent_but_received_is_a_fact_on_an_allowed_flow() -> None:
    assert grade(replace(attempt("o"), received=True), B, LATE).grade is BAD


@pytest.mark.parametrize(("took", "expected"), [(0.5, GOOD), (0.501, UNDECIDED)])
def test_late_begins_after_the_limit(took: float, expected: Grade) -> None:
    assert grade(Attempt(0, took, Outcome.CONNECTED, "x/b"), B, LATE).grade is expected


def test_a_refusal_may_take_long() -> None:
    assert grade(Attempt(0, 1.1, Outcome.REFUSED), REFUSE, LATE).grade is GOOD


def test_a_late_wrong_answer_is_undecided_too() -> None:
    assert grade(replace(attempt("w"), took=0.7), B, LATE).cause is Cause.LATE


def test_anybody_may_answer_where_nobody_is_named() -> None:
    assert see("w", allow()).grade is GOOD
    assert see("w", DENY).grade is LEAK


def test_a_wrong_answer_on_a_denied_flow_is_a_leak_where_the_nonce_arrived() -> None:
    assert grade(attempt("w"), DENY_B, LATE).grade is BAD
    assert grade(replace(attempt("w"), received=True), DENY_B, LATE).grade is LEAK


@pytest.mark.parametrize(
    ("promised", "seen", "expected"),
    [
        ("10.0.1.1", "10.0.1.1", GOOD),
        ("10.0.1.1", "10.0.1.2", BAD),
        ("10.0.1.1", "::ffff:10.0.1.1", GOOD),
        ("fd00::1", "fd00:0:0:0::1", GOOD),
        ("fd00::1", "fd00::2", BAD),
        ("10.0.1.1", "", BAD),
        ("10.0.1.1", "nonsense", BAD),
    ],
)
def test_the_source_is_compared_where_it_is_promised(promised: str, seen: str, expected: Grade) -> None:
    assert grade(replace(attempt("."), source=seen), allow("x/b", source=promised), LATE).grade is expected


def test_the_words() -> None:
    assert see(".", B).seen == "allowed"
    assert see("X", B).seen == "timed out"
    assert see("w", B).seen == "answered by z/c, not by x/b"
    assert see(".", allow("x/b", source="10.9.9.9")).seen == "source was 10.0.1.1, promised 10.9.9.9"
    assert see("n", B).seen == "timed out, though it arrived"
    assert see(".", DENY).seen == "answered by x/b"
    assert see("o", B).seen == "accepted, but silent (HTTP/1.1 503): something else answers for the peer"
    assert see("l", DENY).seen == "answered by x/b only after 0.70 s"
    assert see("s", DENY).seen == "timed out, but an agent was starved"
    assert see("b", DENY).seen == "broken (stream closed)"
    assert see("X", REFUSE).seen == "timed out, must be refused"
    assert see(".", REFUSE).seen == "answered by x/b, must be refused"
    assert see("w", allow("a", "b", "c")).seen == "answered by z/c, not by a or b or c"
    assert see("w", allow("a", "b", "c", "d")).seen == "answered by z/c, not by a or b or c or 1 more"
    assert grade(replace(attempt("."), responder=""), B, LATE).seen == "answered by somebody unnamed, not by x/b"
    assert grade(replace(attempt("."), source=""), allow(source="10.9.9.9"), LATE).seen == "source was not told, promised 10.9.9.9"
    assert see("w", allow("a", "b", "c", "d", "e")).seen == "answered by z/c, not by a or b or c or 2 more"


def test_a_dns_answer_is_told_as_one() -> None:
    answer = replace(attempt("."), responder="NXDOMAIN")
    assert grade(answer, allow("NOERROR A 10.96.0.10"), LATE).seen == "answered NXDOMAIN, not NOERROR A 10.96.0.10"
    assert grade(replace(answer, responder="NOERROR A 10.96.0.10"), allow("NOERROR A 10.96.0.10"), LATE).grade is GOOD


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("XX.", GOOD),
        ("X.X", GOOD),
        ("XXX", BAD),
        (".w.", BAD),  # a wrong responder can't be mended by a right one
        ("w..", BAD),
        ("Xs.", GOOD),
        ("XXs", UNDECIDED),  # the starved one might have been good
        ("sXX", UNDECIDED),
        ("XXl", UNDECIDED),
        ("n.X", GOOD),
        ("nXX", BAD),
        ("bbb", UNDECIDED),
        ("ws.", BAD),
    ],
)
def test_staggered_attempts_on_an_allowed_flow(letters: str, expected: Grade) -> None:
    assert see(letters, B).grade is expected


def test_a_wrong_source_is_not_mended_by_a_right_one() -> None:
    other = replace(attempt("."), source="10.0.1.9")
    for attempts in [(attempt("."), other), (other, attempt("."))]:
        assert evaluate(Probe(OPEN, attempts), allow("x/b", source="10.0.1.1"), LATE).grade is BAD


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("XXX", GOOD),
        ("XRu", GOOD),
        ("XX.", LEAK),
        ("nXX", LEAK),
        ("XsX", UNDECIDED),
        ("XXl", UNDECIDED),
        ("oXX", UNDECIDED),
        ("bXX", UNDECIDED),
        ("sS.", LEAK),
        ("wXX", BAD),
        ("w.X", LEAK),
        (".wX", LEAK),
        ("wsX", BAD),
    ],
)
def test_staggered_attempts_on_a_denied_flow(letters: str, expected: Grade) -> None:
    assert see(letters, DENY_B).grade is expected


@pytest.mark.parametrize(
    ("letters", "expected"),
    [("RRR", GOOD), ("XXR", GOOD), ("XXX", BAD), ("RR.", BAD), ("nRR", BAD), ("XsX", UNDECIDED), ("sR", GOOD), ("bb", UNDECIDED)],
)
def test_staggered_attempts_on_a_flow_to_be_refused(letters: str, expected: Grade) -> None:
    assert see(letters, REFUSE).grade is expected


@pytest.mark.parametrize("expectation", [B, DENY, REFUSE])
def test_a_probe_without_attempts_is_broken(expectation: Expectation) -> None:
    finding = evaluate(Probe(OPEN, ()), expectation, LATE)
    assert (finding.grade, finding.cause) == (UNDECIDED, Cause.BROKEN)


def test_an_observed_flow_is_described() -> None:
    assert see("XX", OBSERVE).seen == "timed out"
    assert see("X.", OBSERVE).seen == "answered by x/b"
    assert see("l", OBSERVE).seen == "answered by x/b"
    assert evaluate(Probe(OPEN, ()), OBSERVE, LATE) == Finding(OBSERVED, "not probed")
