"""The first instant of a new pod: what counts from the first attempt on, and what shows that it could have connected."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import CHANGED, DENY, NO_BURST, OPEN, SHUT, TWIN, allow, born, controlled, round_, then
from netproof.model.codec import history_from_json, history_to_json
from netproof.model.flow import Flow
from netproof.model.history import Cell, History, Incident, Judgement
from netproof.model.outcome import Phase
from netproof.model.verdict import Verdict
from netproof.verdict.confirm import confirm
from netproof.verdict.first import missed
from netproof.verdict.judge import judge

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
EXPECTED = {OPEN: allow("x/b"), SHUT: DENY}


def birth(*seen: tuple[str, str], open_: str = "....", shut: str = "XXXX", control: str = ".") -> History:
    """A pod that is born under a policy: of each of its containers what an allowed and a denied flow saw, then the rounds."""
    history = controlled(EXPECTED, limits=replace(NO_BURST, stable_factor=0.0), controls={SHUT: OPEN})
    history = replace(history, rounds=(round_(Phase.CONTROL, CHANGED, {OPEN: control}),))
    history = then(history, {OPEN: open_, SHUT: shut})
    return replace(born(history, *({OPEN: first, SHUT: second} for first, second in seen)), checked=True)


def cell(judgement: Judgement, flow: Flow = SHUT) -> Cell:
    return next(cell for cell in judgement.cells if cell.flow == flow)


def test_isolated_from_the_first_instant_on() -> None:
    judgement = judge(birth(("X...", "XXXX")))
    assert judgement.verdict is PASS
    assert judgement.reason == "isolated from the first instant on, and what is allowed connected 0.25 s later"
    assert judgement.converged == 0.25
    assert judgement.excludes.startswith("none of 3 attempts on a flow got through from a new pod's first instant on; no leak above")


@pytest.mark.parametrize("shut", [".XXX", "nXXX", "XX.X"])
def test_whatever_gets_through_is_a_leak(shut: str) -> None:
    """The first attempt as any other, one way or both; all that came later being right mends nothing."""
    judgement = judge(birth(("....", shut)))
    assert judgement.verdict is FAIL
    assert cell(judgement).leak


def test_a_leak_says_how_long_it_lasted() -> None:
    judgement = judge(birth(("....", "...X")))
    assert cell(judgement).seen == "leak: 3 of 4 attempts got through, the last 0.50 s after the first"
    assert judgement.converged == 0.5
    assert judgement.excludes == ""


def test_a_leak_in_an_init_container_is_one() -> None:
    judgement = judge(birth(("....", "..XX"), ("....", "XXXX")))
    assert cell(judgement).seen == "leak: 2 of 8 attempts got through, the last 0.25 s after the first"
    assert judge(birth(("....", "XXXX"), ("....", "XXXX"))).verdict is PASS


def test_what_is_allowed_may_come_late() -> None:
    judgement = judge(birth(("XXX.", "XXXX"), open_="X....", shut="XXXXX"))
    assert judgement.verdict is PASS


def test_what_is_allowed_must_come() -> None:
    history = birth(("...X", "XXXX"), open_="X" * 32, shut="X" * 32)
    assert judge(history).verdict is FAIL


@pytest.mark.parametrize(
    ("open_", "shut", "why"),
    [
        ("....", "ssss", "timed out, but an agent was starved"),
        ("....", "bbbb", "broken (stream closed)"),
        ("XXX.", "XXX", "its control connected too late"),
        ("XXXX", "XXXX", "its control connected too late"),
        ("....", "", "never probed"),
    ],
)
def test_an_instant_that_nobody_saw_proves_nothing(open_: str, shut: str, why: str) -> None:
    """Without a clean attempt, at a time when the control connected already, its silence is no isolation."""
    judgement = judge(birth((open_, shut)))
    assert missed(birth((open_, shut)))
    assert judgement.verdict is INCONCLUSIVE
    assert cell(judgement).seen == f"nothing is known of the first instant ({why})"


@pytest.mark.parametrize("seen", [("....", "XXXX"), ("....", "..XX"), ("....", ".sss"), ("XXX.", ".XX")])
def test_an_instant_that_tells_something_is_not_missed(seen: tuple[str, str]) -> None:
    """A leak does, whatever is missing beside it."""
    assert not missed(birth(seen))


def test_without_a_control_nothing_is_proven() -> None:
    judgement = judge(birth(("XXXX", "XXXX"), control="X", open_="", shut=""))
    assert judgement.verdict is INCONCLUSIVE
    assert f"no control shows that it could connect: {SHUT} ({OPEN}: timed out)" in judgement.reason


def test_a_leak_needs_no_control_and_no_end() -> None:
    assert judge(birth(("XXXX", ".XXX"), control="X", open_="", shut="")).verdict is FAIL


def test_an_incident_forbids_a_pass_and_no_fail() -> None:
    lost = (Incident(CHANGED, "x/new did not reach y/a, which so could not dial it back"),)
    assert judge(replace(birth(("....", "XXXX")), incidents=lost)).verdict is INCONCLUSIVE
    assert judge(replace(birth(("....", ".XXX")), incidents=lost)).verdict is FAIL


def test_a_leak_that_does_not_come_back_stays_a_fail() -> None:
    first, again = judge(birth(("....", ".XXX"))), judge(birth(("....", "XXXX")))
    assert confirm(first, again).verdict is FAIL


def test_a_bundle_keeps_it() -> None:
    history = birth(("....", "..XX"), ("....", "XXXX"))
    assert history_from_json(history_to_json(history)) == history


def test_a_step_without_new_pods_is_judged_as_ever() -> None:
    history = replace(then(controlled({TWIN: DENY}, limits=NO_BURST), {TWIN: ".XXXX"}), checked=True)
    assert judge(history).verdict is PASS
