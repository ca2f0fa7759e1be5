"""The verdict on a step, without what the burst adds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import (
    CAP_10,
    CHANGED,
    DENY,
    NO_BURST,
    OBSERVE,
    OPEN,
    REFUSE,
    SHUT,
    TWIN,
    allow,
    controlled,
    round_,
    story,
    then,
)
from netproof.model.flow import Flow
from netproof.model.history import Cell, Expectation, History, Incident, Judgement, Limits
from netproof.model.outcome import Phase
from netproof.model.verdict import Verdict
from netproof.verdict.judge import judge

PASS, OBSERVED, SLOW, FLAKY, INCONCLUSIVE, FAIL = (
    Verdict.PASS,
    Verdict.OBSERVED,
    Verdict.SLOW,
    Verdict.FLAKY,
    Verdict.INCONCLUSIVE,
    Verdict.FAIL,
)
BOTH = {OPEN: allow("x/b"), SHUT: DENY}


def both(open_: str, shut: str, limits: Limits = NO_BURST) -> History:
    return story(BOTH, {OPEN: open_, SHUT: shut}, limits=limits)


def shut(seen: str, expectation: Expectation = DENY, limits: Limits = NO_BURST) -> History:
    return story({SHUT: expectation}, {SHUT: seen}, limits=limits)


def cell(judgement: Judgement, flow: Flow = SHUT) -> Cell:
    return next(cell for cell in judgement.cells if cell.flow == flow)


# right


def test_all_right_from_the_first_round() -> None:
    judgement = judge(both("....", "XXXX"))
    assert judgement.verdict is PASS
    assert judgement.reason == "as expected 0.0 s after the change"
    assert judgement.converged == 0.0
    assert (judgement.relapses, judgement.leaks) == (0, ())
    assert [(c.flow, c.verdict, c.seen, c.attempts, c.connected) for c in judgement.cells] == [
        (OPEN, PASS, "allowed", 4, 4),
        (SHUT, PASS, "timed out", 4, 0),
    ]


def test_a_denied_flow_that_connects_before_convergence_is_no_leak() -> None:
    judgement = judge(both("X.X." + "." * 14, "..X." + "X" * 14))
    assert judgement.verdict is PASS
    assert not judgement.leaks


def test_converged_is_the_begin_of_the_first_round_that_stayed_right() -> None:
    judgement = judge(both("X..........", "..XXXXXXXXX"))
    assert (judgement.verdict, judgement.converged) == (PASS, 2.0)
    assert judgement.reason == "as expected 2.0 s after the change"
    assert cell(judgement, OPEN).attempts == 9  # those since


def test_converged_is_never_negative() -> None:
    history = both("....", "XXXX")
    assert judge(replace(history, changed=CHANGED + 0.2)).converged == 0.0


def test_undecided_rounds_delay_but_do_not_harm() -> None:
    judgement = judge(both("s.b." + "." * 14, "XsXl" + "X" * 14))
    assert judgement.verdict is PASS
    assert judgement.relapses == 0


def test_a_refused_flow() -> None:
    assert judge(shut("XRRRRRRRR", REFUSE)).verdict is PASS


# observed


def test_a_step_of_which_nothing_is_promised_is_observed() -> None:
    judgement = judge(shut("XXX.", OBSERVE))
    assert (judgement.verdict, judgement.converged) == (OBSERVED, None)
    assert (cell(judgement).verdict, cell(judgement).seen) == (OBSERVED, "timed out in 3 of 4 rounds")
    assert judgement.reason == f"observed: timed out in 3 of 4 rounds ({SHUT})"


@pytest.mark.parametrize("seen", ["....", "XXXX", "ssss", "....wwww", "X.X."])
def test_an_observed_cell_never_changes_the_verdict(seen: str) -> None:
    judgement = judge(story({OPEN: allow(), SHUT: OBSERVE}, {OPEN: "." * len(seen), SHUT: seen}, limits=NO_BURST))
    assert judgement.verdict is PASS
    assert cell(judgement).verdict is OBSERVED


def test_what_was_observed_is_told_beside_what_was_promised() -> None:
    judgement = judge(story({OPEN: allow(), SHUT: OBSERVE}, {OPEN: "X....", SHUT: ".XXXX"}, limits=NO_BURST))
    assert judgement.verdict is PASS
    assert judgement.reason.endswith(f" after the change; observed: timed out ({SHUT})")


def test_an_observed_cell_that_was_always_the_same() -> None:
    assert cell(judge(shut("RRRR", OBSERVE))).seen == "refused"


# wrong up to the cap


def test_a_denied_flow_that_connects_at_the_cap_is_a_leak() -> None:
    judgement = judge(shut("." * 11, limits=CAP_10))
    assert judgement.verdict is FAIL
    assert judgement.reason == f"{SHUT}: leak: answered by x/b"
    assert judgement.leaks == (cell(judgement),)
    assert (cell(judgement).attempts, cell(judgement).connected) == (11, 11)
    assert judgement.converged is None
    assert judgement.excludes == ""


def test_a_denied_flow_whose_nonce_arrives_at_the_cap_is_a_leak_one_way() -> None:
    judgement = judge(shut("n" * 11, limits=CAP_10))
    assert (judgement.verdict, cell(judgement).leak) == (FAIL, True)
    assert cell(judgement).seen == "leak: timed out, though it arrived"
    assert cell(judgement).connected == 11


@pytest.mark.parametrize(
    ("letter", "seen"),
    [
        ("X", "timed out"),
        ("R", "refused"),
        ("n", "timed out, though it arrived"),
        ("w", "answered by z/c, not by x/b"),
        ("u", "unreachable"),
    ],
)
def test_an_allowed_flow_that_is_wrong_at_the_cap_fails(letter: str, seen: str) -> None:
    judgement = judge(both(letter * 11, "X" * 11, CAP_10))
    assert judgement.verdict is FAIL
    assert judgement.reason == f"1 of 2 not as expected at the cap of 10 s: {OPEN}: {seen}"
    assert (cell(judgement, OPEN).verdict, cell(judgement, SHUT).verdict) == (FAIL, PASS)
    assert not judgement.leaks


def test_a_wrong_source_at_the_cap_fails() -> None:
    judgement = judge(story({OPEN: allow("x/b", source="10.9.9.9")}, {OPEN: "." * 11}, limits=CAP_10))
    assert judgement.verdict is FAIL
    assert "source was 10.0.1.1, promised 10.9.9.9" in judgement.reason


def test_a_wrong_responder_on_a_denied_flow_at_the_cap_fails_and_is_no_leak() -> None:
    judgement = judge(shut("w" * 11, replace(DENY, responders=frozenset({"x/b"})), CAP_10))
    assert (judgement.verdict, judgement.leaks) == (FAIL, ())
    assert "answered by z/c, not by x/b" in judgement.reason


@pytest.mark.parametrize("letter", ["X", ".", "n"])
def test_a_flow_to_be_refused_that_hangs_or_connects_at_the_cap_fails(letter: str) -> None:
    judgement = judge(shut(letter * 11, REFUSE, CAP_10))
    assert (judgement.verdict, judgement.leaks) == (FAIL, ())
    assert "must be refused" in judgement.reason


def test_how_often_a_cell_was_right_is_told_where_it_changed() -> None:
    judgement = judge(both(".X" * 10 + "X", "." * 21, Limits(cap=20)))
    assert judgement.verdict is FAIL
    assert cell(judgement, OPEN).seen == "timed out (allowed in 10 of 21 rounds)"
    assert cell(judgement, SHUT).seen == "leak: answered by x/b"


def test_undecided_rounds_are_left_out_of_how_often() -> None:
    assert cell(judge(shut("X.sX.b....." + ".", REFUSE, CAP_10))).seen == "answered by x/b, must be refused"
    assert cell(judge(shut("R.sR.b.....", REFUSE, CAP_10))).seen == "answered by x/b, must be refused (refused in 2 of 9 rounds)"


def test_a_leaking_plane_that_relapses_up_to_the_cap_fails_by_what_is_wrong_at_last() -> None:
    judgement = judge(shut("XX.XX.XX.X.", limits=CAP_10))
    assert (judgement.verdict, judgement.relapses, cell(judgement).leak) == (FAIL, 4, True)
    assert cell(judgement).seen == "leak: answered by x/b (denied in 7 of 11 rounds)"
    assert "wrong again after it was right, 4 times, first 2.0 s after the change" in judgement.reason


def test_a_cell_that_relapsed_but_is_right_at_the_cap_is_flaky() -> None:
    judgement = judge(both(".X.X.X.X.X.X", "XXXXXXXXXX..", CAP_10))
    assert judgement.verdict is FAIL
    assert cell(judgement, OPEN).verdict is FAIL
    other = judge(both(".X.........", "XXXXXXXXXX.", CAP_10))
    assert (cell(other, OPEN).verdict, cell(other, OPEN).seen) == (FLAKY, "allowed in 10 of 11 rounds")
    assert cell(other, SHUT).leak


def test_only_some_cells_are_named_and_the_others_counted() -> None:
    flows = [replace(OPEN, destination=f"x/{n}") for n in "bcdefg"]
    judgement = judge(story(dict.fromkeys(flows, allow()), dict.fromkeys(flows, "X" * 11), limits=CAP_10))
    assert judgement.reason.startswith("6 of 6 not as expected at the cap of 10 s: x/a -> x/b TCP/8080: timed out, ")
    assert judgement.reason.endswith(", and 3 more")
    three = judge(story(dict.fromkeys(flows[:3], allow()), dict.fromkeys(flows[:3], "X" * 11), limits=CAP_10))
    assert three.reason.endswith("x/a -> x/d TCP/8080: timed out")


def test_only_what_is_promised_is_counted() -> None:
    judgement = judge(story({OPEN: allow(), SHUT: OBSERVE}, {OPEN: "X" * 11, SHUT: "." * 11}, limits=CAP_10))
    assert judgement.reason.startswith("1 of 1 not as expected")


def test_at_the_cap_nothing_is_excluded_and_nothing_is_slow() -> None:
    judgement = judge(both("X" * 4 + "." + "X" * 6, "X" * 11, replace(CAP_10, budget=1.0)))
    assert (judgement.verdict, judgement.excludes) == (FAIL, "")
    assert "budget" not in judgement.reason


def test_the_causes_are_those_of_the_last_round() -> None:
    assert "undecided (1 broken): " in judge(shut("o" * 15 + "b", limits=CAP_10)).reason


def test_a_cell_tells_what_was_decided_last() -> None:
    assert cell(judge(shut("XXXRs"))).seen == "refused"
    assert cell(judge(shut("sb"))).seen == "broken (stream closed)"
    assert cell(judge(shut(""))).seen == "never probed"


# undecided up to the cap

OVERLOADED = ", more than a fifth of all attempts starved: use fewer workers, or a higher --netproof-cap"


@pytest.mark.parametrize(
    ("letter", "cause"),
    [("s", "1 starved"), ("b", "1 broken"), ("l", "1 late"), ("o", "1 silent"), (" ", "1 broken")],
)
def test_undecided_up_to_the_cap_is_inconclusive_with_its_cause(letter: str, cause: str) -> None:
    for expectation in (DENY, allow("x/b"), REFUSE):
        judgement = judge(shut(letter * 16, expectation, CAP_10))
        assert judgement.verdict is INCONCLUSIVE
        assert f"undecided ({cause}{OVERLOADED if letter == 's' else ''}): {SHUT}: " in judgement.reason
        assert cell(judgement).verdict is INCONCLUSIVE
        assert not judgement.leaks


def test_silent_is_named() -> None:
    assert "accepted, but silent (HTTP/1.1 503): something else answers for the peer" in judge(shut("o" * 16, limits=CAP_10)).reason


def test_what_was_wrong_before_the_agents_broke_fails_nobody() -> None:
    assert judge(shut(".." + "b" * 14, limits=CAP_10)).verdict is INCONCLUSIVE


def test_what_was_right_before_the_agents_broke_passes_nobody() -> None:
    judgement = judge(shut("X" + "b" * 15, limits=CAP_10))
    assert judgement.verdict is INCONCLUSIVE
    assert judgement.converged is None


def test_a_wrong_cell_fails_beside_an_undecided_one() -> None:
    judgement = judge(both("X" * 16, "b" * 16, CAP_10))
    assert judgement.verdict is FAIL
    assert [c.verdict for c in judgement.cells] == [FAIL, INCONCLUSIVE]
    assert "undecided (1 broken)" in judgement.reason


def test_an_overloaded_machine_is_no_failure_of_the_network() -> None:
    judgement = judge(both("X" * 13, "s" * 13, CAP_10))
    assert judgement.verdict is INCONCLUSIVE
    assert OVERLOADED in judgement.reason
    assert judgement.cells[0].seen == "timed out, on an overloaded machine"
    assert judgement.cells[1].seen == "timed out, but an agent was starved"


def test_whoever_was_answered_was_not_starved() -> None:
    """In rounds that are made as bursts attempts are marked that were answered, though silence would have proven nothing."""
    history = then(controlled({OPEN: allow("x/b"), TWIN: allow("x/b")}, limits=CAP_10), {OPEN: "X" * 13, TWIN: "S" * 13})
    judgement = judge(replace(history, checked=True))
    assert judgement.verdict is FAIL
    assert judgement.cells[0].seen == "timed out"


def test_a_relapse_that_ends_undecided_is_inconclusive() -> None:
    judgement = judge(shut("X.X" + "s" * 10, limits=CAP_10))
    assert (judgement.verdict, judgement.relapses) == (INCONCLUSIVE, 1)


# relapses


def test_a_denied_flow_that_connects_in_stability_makes_it_flaky_at_best() -> None:
    judgement = judge(shut("XX.XXXXXXXXXXXX"))
    assert (judgement.verdict, judgement.relapses, judgement.converged) == (FLAKY, 1, 3.0)
    assert not judgement.leaks
    assert judgement.reason == f"wrong again after it was right, once, first 2.0 s after the change: {SHUT}: answered by x/b"
    assert (cell(judgement).verdict, cell(judgement).seen) == (FLAKY, "denied in 14 of 15 rounds")


def test_an_allowed_flow_that_fails_in_stability_makes_it_flaky_at_best() -> None:
    judgement = judge(both("..X............", "XXXXXXXXXXXXXXX"))
    assert (judgement.verdict, judgement.relapses) == (FLAKY, 1)
    assert (cell(judgement, OPEN).verdict, cell(judgement, OPEN).seen) == (FLAKY, "allowed in 14 of 15 rounds")
    assert str(SHUT) not in judgement.reason
    assert cell(judgement, SHUT).verdict is PASS


def test_rounds_before_the_first_right_one_do_not_count_as_relapses() -> None:
    judgement = judge(both("X.X..." + "." * 12, "..XXXX" + "X" * 12))
    assert (judgement.verdict, judgement.relapses) == (PASS, 0)


def test_two_relapses_are_counted_each_once() -> None:
    judgement = judge(shut("X..X.s.X" + "X" * 21))
    assert (judgement.verdict, judgement.relapses) == (FLAKY, 2)
    assert "twice" in judgement.reason


def test_undecided_between_right_and_wrong_does_not_hide_a_relapse() -> None:
    assert judge(shut("Xss.ssX" + "X" * 18)).relapses == 1


# the budget


@pytest.mark.parametrize(
    ("seen", "budget", "verdict"),
    [
        ("..." + "X" * 10, None, PASS),
        ("..." + "X" * 10, 1.9, SLOW),  # the last wrong attempt began at 2.0 s
        ("..." + "X" * 10, 2.0, PASS),
        ("s" * 3 + "X" * 10, 1.0, PASS),  # nothing shows that it was wrong then
        ("X.XXXXXXXXX", 0.5, FLAKY),  # worse than slow
    ],
)
def test_slow_is_what_was_seen_to_be_wrong_after_the_budget(seen: str, budget: float | None, verdict: Verdict) -> None:
    assert judge(shut(seen, limits=replace(NO_BURST, budget=budget))).verdict is verdict


def test_slow_goes_by_the_attempt_that_was_wrong() -> None:
    history = controlled({SHUT: DENY}, limits=replace(NO_BURST, budget=0.2))
    late_leak = round_(Phase.CANDIDATE, CHANGED, {SHUT: "..X"})  # the second attempt, at 0.25 s, was the last that connected
    history = then(replace(history, rounds=(*history.rounds, late_leak)), {SHUT: "XXXXX"})
    assert judge(replace(history, checked=True)).verdict is SLOW
    history = replace(history, limits=replace(history.limits, budget=0.3))
    assert judge(replace(history, checked=True)).verdict is PASS


def test_slow_goes_by_the_flows_that_were_probed_and_promised() -> None:
    limits = replace(NO_BURST, budget=0.5)
    expected = {OPEN: allow(), SHUT: DENY, TWIN: OBSERVE}
    history = story(expected, {OPEN: "X" + "." * 9, SHUT: " " + "X" * 9, TWIN: "." * 10}, limits=limits)
    assert (judge(history).verdict, judge(history).converged) == (PASS, 1.0)


def test_slow_says_both_figures() -> None:
    judgement = judge(shut("..." + "X" * 10, limits=replace(NO_BURST, budget=1.5)))
    assert judgement.reason == "still wrong 2.0 s after the change, the budget is 1.5 s"
    assert judgement.converged == 3.0


# controls


SEEN_BEFORE = ["timed out", "timed out, but an agent was starved", "broken (stream closed)"]


def test_without_a_control_nothing_is_proven() -> None:
    for letters in ("X", "s", "b"):
        before = tuple(round_(Phase.CONTROL, i, {SHUT: letters}) for i in range(3))
        judgement = judge(History({OPEN: allow(), SHUT: DENY}, float("nan"), before))
        assert judgement.verdict is INCONCLUSIVE
        assert judgement.reason in [f"no control shows that it could connect: {SHUT} ({words})" for words in SEEN_BEFORE]
        assert cell(judgement).verdict is INCONCLUSIVE
        assert judgement.converged is None


def test_a_denied_cell_without_a_control_never_passes() -> None:
    history = both("....", "XXXX")
    judgement = judge(replace(history, rounds=history.rounds[1:]))
    assert judgement.verdict is INCONCLUSIVE
    assert judgement.reason == f"no control shows that it could connect: {SHUT} (never probed)"
    assert (cell(judgement).verdict, cell(judgement).seen) == (INCONCLUSIVE, "timed out, without a control (never probed)")
    assert cell(judgement, OPEN).verdict is PASS


def test_without_a_control_a_step_that_went_on_and_did_not_end_is_told_as_such() -> None:
    history = replace(both("....", "XXXX"), checked=False)
    reason = judge(replace(history, rounds=history.rounds[1:])).reason
    assert reason.startswith("no control shows that it could connect")
    assert reason.endswith("listeners, objects and agents were not looked after afterwards")


def test_a_leak_needs_no_control() -> None:
    history = shut("." * 11, limits=CAP_10)
    assert judge(replace(history, rounds=history.rounds[1:])).verdict is FAIL


def test_a_wrong_allowed_flow_is_not_judged_where_a_control_is_missing() -> None:
    history = both("X" * 11, "X" * 11, CAP_10)
    assert judge(replace(history, rounds=history.rounds[1:])).verdict is INCONCLUSIVE


@pytest.mark.parametrize(("twin", "verdict"), [(".", PASS), ("X", INCONCLUSIVE)])
def test_a_twin_as_control(twin: str, verdict: Verdict) -> None:
    history = replace(shut("XXXX"), controls={SHUT: TWIN}, rounds=shut("XXXX").rounds[1:])
    judgement = judge(replace(history, rounds=(round_(Phase.CONTROL, CHANGED - 1, {TWIN: twin}), *history.rounds)))
    assert judgement.verdict is verdict


def test_the_time_after_as_control() -> None:
    history = shut("XXXX")
    judgement = judge(replace(history, rounds=(*history.rounds[1:], round_(Phase.CONTROL, CHANGED + 60, {SHUT: "."}))))
    assert judgement.verdict is PASS


# what else forbids a verdict


DEAD = Incident(CHANGED + 3, "the agent in x/b no longer answers on its own TCP/8080")
CUT = Incident(CHANGED + 3, "the streams of x/a broke with the change and came back with its removal, twice", implementation=True)


def with_incidents(history: History, *incidents: Incident) -> Judgement:
    return judge(replace(history, incidents=incidents))


def test_an_incident_forbids_a_pass() -> None:
    judgement = with_incidents(both("....", "XXXX"), DEAD)
    assert (judgement.verdict, judgement.reason) == (INCONCLUSIVE, DEAD.what)


def test_an_incident_forbids_a_fail() -> None:
    judgement = with_incidents(both("X" * 11, "X" * 11, CAP_10), DEAD)
    assert judgement.verdict is INCONCLUSIVE
    assert judgement.reason.startswith(DEAD.what)
    assert "not as expected" in judgement.reason


def test_an_incident_excuses_no_leak() -> None:
    judgement = with_incidents(shut("." * 11, limits=CAP_10), DEAD)
    assert judgement.verdict is FAIL
    assert DEAD.what in judgement.reason


def test_an_incident_of_the_implementation_is_its_failure() -> None:
    assert with_incidents(both("....", "XXXX"), CUT).verdict is FAIL
    assert with_incidents(shut("b" * 13, limits=CAP_10), CUT).verdict is FAIL
    judgement = with_incidents(both("....", "XXXX"), DEAD, CUT)
    assert (judgement.verdict, judgement.reason) == (FAIL, f"{CUT.what}; {DEAD.what}")


def test_a_history_that_nobody_ended_is_inconclusive() -> None:
    judgement = judge(replace(both("....", "XXXX"), checked=False))
    assert (judgement.verdict, judgement.reason) == (INCONCLUSIVE, "listeners, objects and agents were not looked after afterwards")


@pytest.mark.parametrize(
    ("shut_", "limits", "reason"),
    [
        ("", NO_BURST, "the step ended before all was as expected and before the cap"),
        ("...", NO_BURST, "the step ended before all was as expected and before the cap"),
        ("sss", NO_BURST, "the step ended before all was as expected and before the cap"),
        (".XX", NO_BURST, "the step ended before all had stayed as expected"),
        ("XXXX", Limits(), "the step ended without its burst"),
    ],
)
def test_a_history_that_ended_early_is_inconclusive(shut_: str, limits: Limits, reason: str) -> None:
    judgement = judge(shut(shut_, limits=limits))
    assert (judgement.verdict, judgement.reason) == (INCONCLUSIVE, reason)
    assert not judgement.leaks


def test_a_leak_at_the_cap_needs_no_look_afterwards() -> None:
    assert judge(replace(shut("." * 11, limits=CAP_10), checked=False)).verdict is FAIL


def test_a_step_without_expectations_is_no_pass() -> None:
    judgement = judge(story({}, {OPEN: "....", SHUT: "XXXX"}, limits=NO_BURST))
    assert (judgement.verdict, judgement.reason) == (INCONCLUSIVE, "nothing was expected of any flow")


def test_the_cells_are_in_the_order_of_the_expectations() -> None:
    assert [c.flow for c in judge(story({SHUT: DENY, OPEN: allow()}, {OPEN: "....", SHUT: "XXXX"}, limits=NO_BURST)).cells] == [SHUT, OPEN]


def test_a_leak_proves_nothing_where_somebody_changed_the_policy() -> None:
    leaking = shut("." * 13, limits=CAP_10)
    assert judge(leaking).verdict is FAIL
    tampered = replace(leaking, incidents=(Incident(1.0, "NetworkPolicy deny was deleted by somebody", voids=True),))
    assert judge(tampered).verdict is INCONCLUSIVE
