"""A failure and its repetition in a fresh world."""

from __future__ import annotations

import pytest
from histories import DENY, SHUT
from netproof.model.history import Cell, Judgement
from netproof.model.verdict import Verdict
from netproof.verdict.confirm import HISTORY_DEPENDENT, confirm

LEAKING = Cell(SHUT, DENY, Verdict.FAIL, "leak: 1 of 104 attempts connected", leak=True)
DIFFERING = Cell(SHUT, DENY, Verdict.FAIL, "answered by z/c, not by x/b")


def said(verdict: Verdict, reason: str = "so it was", *cells: Cell) -> Judgement:
    return Judgement(verdict, reason, cells)


LEAK = Judgement(Verdict.FAIL, "a leak", (LEAKING,), converged=0.4)
NEVER_CLOSED = said(Verdict.FAIL, "a leak", LEAKING)
WRONG = said(Verdict.FAIL, "a wrong answer", DIFFERING)


@pytest.mark.parametrize("first", [verdict for verdict in Verdict if verdict is not Verdict.FAIL])
@pytest.mark.parametrize("again", [Verdict.PASS, Verdict.FAIL])
def test_only_a_fail_is_confirmed(first: Verdict, again: Verdict) -> None:
    assert confirm(said(first, "first"), said(again)) == said(first, "first")


def test_a_leak_that_does_not_come_back_stays_a_fail() -> None:
    confirmed = confirm(LEAK, said(Verdict.PASS))
    assert (confirmed.verdict, confirmed.cells) == (Verdict.FAIL, LEAK.cells)
    assert confirmed.reason == "a leak; it did not come back in a fresh world"


def test_a_flow_that_never_closed_and_then_did_is_flaky() -> None:
    confirmed = confirm(NEVER_CLOSED, said(Verdict.PASS))
    assert confirmed.verdict is Verdict.FLAKY
    assert confirm(NEVER_CLOSED, NEVER_CLOSED).verdict is Verdict.FAIL


@pytest.mark.parametrize("again", [Verdict.PASS, Verdict.OBSERVED, Verdict.SLOW, Verdict.FLAKY])
def test_another_fail_that_does_not_come_back_is_flaky(again: Verdict) -> None:
    confirmed = confirm(WRONG, said(again))
    assert (confirmed.verdict, confirmed.cells) == (Verdict.FLAKY, WRONG.cells)
    assert confirmed.reason == f"{HISTORY_DEPENDENT}: a wrong answer; {again} in a fresh world"


@pytest.mark.parametrize("first", [LEAK, WRONG])
def test_a_fail_that_comes_back_stays(first: Judgement) -> None:
    confirmed = confirm(first, WRONG)
    assert (confirmed.verdict, confirmed.reason) == (Verdict.FAIL, f"{first.reason}; again in a fresh world")
    assert confirmed.cells == first.cells


def test_a_leak_that_only_the_repetition_saw_is_told() -> None:
    assert confirm(WRONG, LEAK).leaks == (LEAKING,)


@pytest.mark.parametrize("again", [Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.UNSUPPORTED])
@pytest.mark.parametrize("first", [LEAK, WRONG])
def test_a_repetition_that_decided_nothing_refutes_nothing(first: Judgement, again: Verdict) -> None:
    confirmed = confirm(first, said(again, "x/b is gone"))
    assert (confirmed.verdict, confirmed.reason) == (Verdict.FAIL, f"{first.reason}; not confirmed: x/b is gone")
