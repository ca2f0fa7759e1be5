"""What the burst adds: leaks, losses, and what is excluded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from histories import DENY, OPEN, REFUSE, SHUT, allow, bursting, round_, story
from netproof.model.flow import Flow
from netproof.model.history import Cell, Expectation, History, Incident, Judgement, Limits
from netproof.model.outcome import Phase
from netproof.model.verdict import Verdict
from netproof.verdict.binomial import at_least, exceeds, excluded_rate
from netproof.verdict.judge import judge
from netproof.verdict.settle import Step, next_step

PASS, FLAKY, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.FLAKY, Verdict.INCONCLUSIVE, Verdict.FAIL
BOTH = {OPEN: allow("x/b"), SHUT: DENY}
CLEAN = "X" * 100


def burst(open_: str = "." * 20, shut: str = CLEAN, *, expected: dict[Flow, Expectation] = BOTH) -> Judgement:
    return judge(story(expected, {OPEN: "....", SHUT: "XXXX"}, burst={OPEN: open_, SHUT: shut}))


def many(number: int, letters: str, *, lossy: int = 0) -> Judgement:
    """A step with that many allowed flows, `lossy` of them losing like `letters`."""
    flows = [replace(OPEN, destination=f"x/{i}") for i in range(number)]
    seen = {flow: letters if i < lossy else "." * len(letters) for i, flow in enumerate(flows)}
    return judge(story(dict.fromkeys(flows, allow()), dict.fromkeys(flows, "...."), burst=seen))


def cell(judgement: Judgement, flow: Flow) -> Cell:
    return next(cell for cell in judgement.cells if cell.flow == flow)


# denied flows


def test_a_clean_burst_passes_and_says_what_it_excludes() -> None:
    judgement = burst()
    assert judgement.verdict is PASS
    assert judgement.excludes == "no leak above 3 % a flow at 95 %"
    assert (cell(judgement, SHUT).attempts, cell(judgement, SHUT).connected) == (104, 0)


@pytest.mark.parametrize("where", [0, 50, 99])
def test_one_connection_in_the_burst_is_a_leak(where: int) -> None:
    judgement = burst(shut=CLEAN[:where] + "." + CLEAN[where + 1 :])
    assert judgement.verdict is FAIL
    assert judgement.reason == f"{SHUT}: leak: 1 of 104 attempts connected"
    assert (cell(judgement, SHUT).verdict, cell(judgement, SHUT).leak) == (FAIL, True)
    assert judgement.excludes == ""


def test_a_starved_connection_in_the_burst_is_a_leak() -> None:
    assert burst(shut="X" * 50 + "S" + "s" * 49).leaks


def test_a_one_way_leak_in_the_burst() -> None:
    judgement = burst(shut="XXnXX")
    assert (judgement.verdict, cell(judgement, SHUT).leak) == (FAIL, True)
    assert cell(judgement, SHUT).seen == "leak: 1 of 9 attempts arrived, one-way: nothing came back"


def test_a_leak_in_the_burst_stays_whatever_comes_later() -> None:
    history = story(BOTH, {OPEN: "....", SHUT: "XXXX"}, burst={OPEN: "...", SHUT: "X.X"})
    later = replace(history, rounds=(*history.rounds, round_(Phase.STABILITY, 200, {OPEN: ".", SHUT: "X"})))
    for incidents in ((), (Incident(0, "pod x/b is not the same any more"),)):
        for checked in (False, True):
            assert judge(replace(later, incidents=incidents, checked=checked)).verdict is FAIL


def test_a_leak_in_a_round_after_the_burst_is_a_leak() -> None:
    history = story(BOTH, {OPEN: "....", SHUT: "XXXX"}, burst={OPEN: "...", SHUT: "XXX"})
    later = replace(history, rounds=(*history.rounds, round_(Phase.STABILITY, 200, {OPEN: ".", SHUT: "."})))
    assert judge(later).leaks


@pytest.mark.parametrize("phase", [Phase.CONTROL, Phase.RESTORE, Phase.SENTINEL])
def test_what_connects_in_other_rounds_after_the_burst_is_no_leak(phase: Phase) -> None:
    history = story(BOTH, {OPEN: "....", SHUT: "XXXX"}, burst={OPEN: "...", SHUT: "XXX"})
    assert judge(replace(history, rounds=(*history.rounds, round_(phase, 200, {OPEN: ".", SHUT: "."})))).verdict is PASS


def test_a_leak_in_any_round_of_the_burst_is_one() -> None:
    history = story(BOTH, {OPEN: "....", SHUT: "XXXX"}, burst={OPEN: "...", SHUT: "X.X"})
    assert judge(bursting(history, {OPEN: "...", SHUT: "XXX"})).leaks


def test_a_leak_dominates_the_relapses_before() -> None:
    judgement = judge(story({SHUT: DENY}, {SHUT: "XX.XXXXXXXXXXXX"}, burst={SHUT: "X" * 99 + "."}))
    assert (judgement.verdict, judgement.relapses) == (FAIL, 1)


def test_a_burst_before_all_stayed_right_proves_no_leak() -> None:
    judgement = judge(story(BOTH, {OPEN: "..", SHUT: ".X"}, burst={OPEN: "...", SHUT: "X.X"}))
    assert (judgement.verdict, judgement.leaks) == (INCONCLUSIVE, ())


@pytest.mark.parametrize(("letter", "word"), [("l", "only after 0.70 s"), ("o", "accepted, but silent")])
def test_a_late_or_silent_answer_on_a_denied_flow_in_the_burst_is_inconclusive(letter: str, word: str) -> None:
    judgement = burst(shut="X" * 99 + letter)
    assert (judgement.verdict, judgement.leaks) == (INCONCLUSIVE, ())
    assert word in judgement.reason
    assert "1 of 100 attempts in the burst" in judgement.reason


def test_starved_and_broken_attempts_exclude_nothing() -> None:
    judgement = burst(shut="X" * 10 + "s" * 60 + "b" * 30)
    assert judgement.verdict is PASS
    assert judgement.excludes == "no leak above 21 % a flow at 95 %"  # 10, and 3 of stability


@pytest.mark.parametrize("letter", ["s", "b"])
def test_a_burst_without_a_clean_attempt_is_inconclusive(letter: str) -> None:
    for judgement in (burst(shut=letter * 100), burst(open_=letter * 20)):
        assert judgement.verdict is INCONCLUSIVE
        assert "attempts in the burst" in judgement.reason


def test_agents_that_were_starved_in_settling_only_are_not_told_of_in_the_burst() -> None:
    judgement = judge(story(BOTH, {OPEN: "s" * 5 + "." * 17, SHUT: "s" * 5 + "X" * 16 + "s"}, burst={OPEN: "...", SHUT: "XXo"}))
    assert judgement.verdict is INCONCLUSIVE
    assert judgement.reason.startswith(f"undecided: {SHUT}: ")


def test_flows_that_nobody_expects_do_not_matter() -> None:
    other = replace(SHUT, source="z/a")
    history = story(BOTH, {OPEN: "....", SHUT: "XXXX"}, burst={OPEN: "...", SHUT: "XXX", other: "..b"})
    assert judge(history).verdict is PASS


def test_a_wrong_responder_on_a_denied_flow_in_the_burst_fails() -> None:
    judgement = burst(shut="XXwXX", expected={OPEN: allow("x/b"), SHUT: replace(DENY, responders=frozenset({"x/b"}))})
    assert (judgement.verdict, judgement.leaks) == (FAIL, ())
    assert cell(judgement, SHUT).seen == "answered by z/c, not by x/b: 1 of 5 attempts in the burst"


@pytest.mark.parametrize(("letters", "verdict"), [("RRR", PASS), ("RXX", PASS), ("XXX", PASS), ("RR.", FAIL), ("RRn", FAIL), ("sss", PASS)])
def test_flows_to_be_refused_fail_in_a_burst_only_by_connecting(letters: str, verdict: Verdict) -> None:
    judgement = judge(story({SHUT: REFUSE, OPEN: allow()}, {SHUT: "RRRR", OPEN: "...."}, burst={SHUT: letters, OPEN: "..."}))
    assert judgement.verdict is verdict


# what is excluded


def test_the_flow_with_the_fewest_clean_attempts_decides() -> None:
    other = replace(SHUT, source="z/a")
    expected = {SHUT: DENY, other: DENY}
    judgement = judge(story(expected, dict.fromkeys(expected, "XXXX"), burst={SHUT: "X" * 300, other: "X" * 20}))
    assert judgement.excludes == "no leak above 13 % a flow at 95 %"  # 20, and 3 of stability


def test_the_first_right_round_was_waited_for_and_excludes_nothing() -> None:
    judgement = judge(story({SHUT: DENY}, {SHUT: "XXXX"}, limits=Limits(burst_denied=0)))
    assert judgement.excludes == "no leak above 64 % a flow at 95 %"  # 1 - 0.05 ** (1 / 3)


def test_undecided_rounds_before_the_first_right_one_do_not_make_it_count() -> None:
    judgement = judge(story({SHUT: DENY}, {SHUT: "sXXXX"}, limits=Limits(burst_denied=0)))
    assert judgement.excludes == "no leak above 64 % a flow at 95 %"


def test_an_unfinished_step_excludes_nothing() -> None:
    assert judge(story({SHUT: DENY}, {SHUT: "XX"}, limits=Limits(burst_denied=0))).excludes == ""


def test_after_a_relapse_only_the_burst_excludes() -> None:
    relapsed = {SHUT: "XX.XXXXXXXXXXXX"}
    assert judge(story({SHUT: DENY}, relapsed, burst={SHUT: "X" * 10})).excludes == "no leak above 26 % a flow at 95 %"
    assert judge(story({SHUT: DENY}, relapsed, limits=Limits(burst_denied=0))).excludes == ""


def test_without_denied_flows_nothing_is_excluded() -> None:
    assert judge(story({OPEN: allow()}, {OPEN: "...."}, burst={OPEN: "." * 20})).excludes == ""


@pytest.mark.parametrize(
    ("clean", "percent"), [(1, "95"), (3, "64"), (97, "4"), (100, "3"), (296, "2"), (299, "1"), (1000, "0.3"), (3000, "0.1")]
)
def test_the_bound_is_rounded_up(clean: int, percent: str) -> None:
    judgement = judge(story({SHUT: DENY}, {SHUT: "XX.XXXXXXXXXXXX"}, burst={SHUT: "X" * clean}))
    assert judgement.excludes == f"no leak above {percent} % a flow at 95 %"
    assert excluded_rate(clean, 0.95) <= float(percent) / 100


# allowed flows


@pytest.mark.parametrize(
    ("letters", "verdict"),
    [
        ("." * 20, PASS),
        ("." * 19 + "X", PASS),  # one of twenty proves nothing above 1 %
        ("." * 18 + "XX", PASS),
        ("." * 17 + "XXX", FAIL),
        ("." * 17 + "nRu", FAIL),  # whatever happened to them
        ("." * 17 + "sbl", PASS),  # these say nothing
        ("XXX" + "s" * 17, FAIL),
    ],
)
def test_loss_on_a_flow(letters: str, verdict: Verdict) -> None:
    judgement = judge(story({OPEN: allow("x/b")}, {OPEN: "...."}, burst={OPEN: letters}))
    assert judgement.verdict is verdict


def test_a_small_loss_is_reported() -> None:
    judgement = burst(open_="." * 19 + "X")
    assert judgement.verdict is PASS
    assert judgement.reason == "as expected 0.0 s after the change, 1 of 20 allowed attempts were lost"
    assert cell(judgement, OPEN).verdict is PASS
    assert cell(judgement, OPEN).seen == "allowed, 1 of 20 attempts in the burst were lost"


def test_starved_attempts_are_left_out_of_the_count() -> None:
    assert "1 of 10 allowed attempts were lost" in burst(open_="." * 9 + "X" + "S" * 10).reason


def test_a_loss_does_not_hide_behind_starved_agents() -> None:
    """Were the good ones of starved agents counted and their lost ones not, these 8 of 20 would be 1 of 13."""
    history = story({OPEN: allow("x/b")}, {OPEN: "...."}, burst={OPEN: "." * 4 + "X" + "S" * 8 + "s" * 7})
    assert next_step(replace(history, checked=False)) is Step.BURST
    judgement = judge(bursting(bursting(history, {OPEN: "." * 4 + "S" * 8 + "s" * 7}), {OPEN: "S" * 20}))
    assert judgement.verdict is INCONCLUSIVE
    assert judgement.reason == (
        "too much may be lost: 14 allowed attempts in the burst timed out while an agent was starved, 9 count; use fewer workers"
    )
    assert judge(bursting(history, {OPEN: "." * 60})).verdict is PASS
    assert judge(bursting(history, {OPEN: "." * 17 + "X" * 3})).verdict is FAIL


def test_one_in_ten_lost_over_all_flows_fails() -> None:
    judgement = many(36, "." * 18 + "XX", lossy=36)
    assert judgement.verdict is FAIL
    assert judgement.reason == "72 of 720 allowed attempts were lost, more than 1 % with 99 % confidence"
    assert {cell.verdict for cell in judgement.cells} == {FLAKY}


def test_only_the_flows_that_lost_share_in_the_loss_of_all() -> None:
    judgement = many(36, "." * 18 + "XX", lossy=12)
    assert judgement.verdict is FAIL
    assert [cell.verdict for cell in judgement.cells] == [FLAKY] * 12 + [PASS] * 24


def test_a_flow_that_lost_one_shares_in_the_loss_of_all_and_one_that_fails_stays_failed() -> None:
    shares = many(12, "." * 19 + "X", lossy=12)
    assert (shares.verdict, {cell.verdict for cell in shares.cells}) == (FAIL, {FLAKY})
    flows = [replace(OPEN, destination=f"x/{i}") for i in range(4)]
    seen = dict(zip(flows, ["X" * 20, "." * 19 + "X", "." * 20, "." * 20], strict=True))
    judgement = judge(story(dict.fromkeys(flows, allow()), dict.fromkeys(flows, "...."), burst=seen))
    assert [cell.verdict for cell in judgement.cells] == [FAIL, FLAKY, PASS, PASS]


@pytest.mark.parametrize(("attempts", "verdict"), [(32, FAIL), (40, PASS)])
def test_half_of_the_error_goes_to_each_kind_of_test(attempts: int, verdict: Verdict) -> None:
    assert at_least(3, 32, 0.01) < 0.005 < at_least(3, 40, 0.01) < 0.01
    judgement = many(1, "." * (attempts - 3) + "XXX", lossy=1)
    assert (judgement.verdict, judgement.cells[0].verdict) == (verdict, verdict)


def test_one_in_a_thousand_lost_is_no_fail() -> None:
    judgement = many(50, "." * 19 + "X", lossy=1)
    assert judgement.verdict is PASS
    assert "1 of 1000 allowed attempts were lost" in judgement.reason


def test_a_flow_that_loses_half_fails_among_many() -> None:
    judgement = many(72, "." * 10 + "X" * 10, lossy=1)
    assert judgement.verdict is FAIL
    assert judgement.cells[0].verdict is FAIL
    assert judgement.reason == "x/a -> x/0 TCP/8080: 10 of 20 attempts in the burst were lost"


def test_the_confidence_holds_over_all_tests_of_a_step() -> None:
    assert many(1, "." * 17 + "XXX", lossy=1).verdict is FAIL
    assert many(36, "." * 17 + "XXX", lossy=1).verdict is PASS  # one of 36 flows may lose three by chance


@pytest.mark.parametrize(
    ("loss", "confidence", "verdict"), [(0.01, 0.99, FAIL), (0.2, 0.99, PASS), (0.01, 0.9999999, PASS), (0.0, 0.99, FAIL)]
)
def test_loss_and_confidence_are_limits(loss: float, confidence: float, verdict: Verdict) -> None:
    history = story({OPEN: allow()}, {OPEN: "...."}, burst={OPEN: "." * 16 + "XXXX"}, limits=Limits(loss=loss, confidence=confidence))
    assert judge(history).verdict is verdict


def test_a_wrong_responder_in_the_burst_is_no_loss_but_a_failure() -> None:
    judgement = burst(open_="." * 19 + "w")
    assert judgement.verdict is FAIL
    assert cell(judgement, OPEN).seen == "answered by z/c, not by x/b: 1 of 20 attempts in the burst"
    assert judgement.reason == f"{OPEN}: answered by z/c, not by x/b: 1 of 20 attempts in the burst"


def test_wrong_answers_are_not_counted_as_lost() -> None:
    judgement = burst(open_="." * 10 + "w" * 10)
    assert judgement.verdict is FAIL
    assert "lost" not in judgement.reason


def test_a_wrong_source_in_the_burst_is_a_failure() -> None:
    expected = {OPEN: allow("x/b", source="10.0.1.1")}
    history = story(expected, {OPEN: "...."}, burst={OPEN: "." * 20})
    attempts = history.rounds[-1].probes[0].attempts
    other = replace(history.rounds[-1].probes[0], attempts=(replace(attempts[0], source="10.0.1.7"), *attempts[1:]))
    assert judge(history).verdict is PASS
    assert judge(replace(history, rounds=(*history.rounds[:-1], replace(history.rounds[-1], probes=(other,))))).verdict is FAIL


def test_late_and_silent_answers_on_an_allowed_flow_are_left_out() -> None:
    assert burst(open_="." * 10 + "l" * 5 + "o" * 5).verdict is PASS
    assert burst(open_="l" * 20).verdict is INCONCLUSIVE


def test_losses_after_a_relapse_are_told_beside_it() -> None:
    judgement = judge(story({OPEN: allow()}, {OPEN: "..X............"}, burst={OPEN: "." * 19 + "X"}))
    assert judgement.verdict is FLAKY
    assert judgement.cells[0].seen == "allowed in 14 of 15 rounds, 1 of 20 attempts in the burst were lost"


def test_loss_is_judged_only_after_all_stayed_right() -> None:
    history: History = story({OPEN: allow()}, {OPEN: ".."}, burst={OPEN: "X" * 20})
    assert judge(history).verdict is INCONCLUSIVE
    assert "lost" not in judge(history).reason


# the arithmetic


@pytest.mark.parametrize(
    ("successes", "attempts", "rate"), [(0, 10, 0.1), (1, 10, 0.1), (3, 20, 0.01), (20, 20, 0.5), (5, 7, 0.9), (40, 1000, 0.01)]
)
def test_the_binomial_tail_against_the_sum(successes: int, attempts: int, rate: float) -> None:
    summed = sum(math.comb(attempts, k) * rate**k * (1 - rate) ** (attempts - k) for k in range(successes, attempts + 1))
    assert at_least(successes, attempts, rate) == pytest.approx(summed, rel=1e-9)


def test_the_binomial_tail_at_its_ends() -> None:
    assert at_least(0, 10, 0.0) == 1.0
    assert at_least(1, 10, 0.0) == 0.0
    assert at_least(11, 10, 0.5) == 0.0
    assert at_least(10, 10, 1.0) == 1.0
    assert 0.4 < at_least(864, 86400, 0.01) < 0.6  # no overflow, no underflow
    assert at_least(2000, 86400, 0.01) < 1e-100


def test_exceeds_needs_more_than_the_rate() -> None:
    assert not exceeds(0, 0, 0.01, 0.99)
    assert not exceeds(1, 100, 0.01, 0.0)
    assert exceeds(3, 20, 0.01, 0.99)
    assert not exceeds(2, 20, 0.01, 0.99)  # the chance is 1.7 %
    assert exceeds(2, 20, 0.01, 0.98)


def test_the_excluded_rate() -> None:
    assert excluded_rate(0, 0.95) == 1.0
    assert excluded_rate(1, 0.95) == pytest.approx(0.95)
    assert excluded_rate(300, 0.95) == pytest.approx(0.00994, abs=1e-5)
