"""What comes next after each round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from histories import (
    CAP_10,
    CHANGED,
    DEFAULT,
    DENY,
    EVERY,
    NO_BURST,
    OBSERVE,
    OPEN,
    REFUSE,
    SHUT,
    allow,
    bursting,
    controlled,
    round_,
    then,
)
from netproof.model.flow import Flow
from netproof.model.history import Expectation, History, Limits
from netproof.model.outcome import Phase
from netproof.verdict.course import Course, State, read
from netproof.verdict.settle import AGREEING, BURSTS, Step, next_step, settled, stability

BOTH = {OPEN: allow("x/b"), SHUT: DENY}
CANDIDATE, STABILITY, BURST, AFTERWARDS, DONE = Step.CANDIDATE, Step.STABILITY, Step.BURST, Step.AFTERWARDS, Step.DONE


def after(open_: str, shut: str, limits: Limits = DEFAULT) -> History:
    return then(controlled(BOTH, limits=limits), {OPEN: open_, SHUT: shut})


@pytest.mark.parametrize(
    ("open_", "shut", "step"),
    [
        ("", "", CANDIDATE),
        (".", ".", CANDIDATE),
        ("X", "X", CANDIDATE),
        (".", "X", STABILITY),
        ("..", ".X", STABILITY),
        (".X", "XX", CANDIDATE),
        ("..", "X.", CANDIDATE),
        (".", "s", CANDIDATE),  # undecided does not confirm
        ("..", "Xs", STABILITY),  # nor does it relapse
        (".X", "Xs", CANDIDATE),  # but a wrong cell beside an undecided one does
        ("...", "XXX", BURST),
        ("....", "XXXX", BURST),
    ],
)
def test_the_step_after_some_rounds(open_: str, shut: str, step: Step) -> None:
    assert next_step(after(open_, shut)) is step


def test_a_flow_that_was_not_probed_is_undecided() -> None:
    assert next_step(after(".", " ")) is CANDIDATE
    assert next_step(after("..", "X ")) is STABILITY


def slowly(expected: Mapping[Flow, Expectation], seen: Mapping[Flow, str], limits: Limits = DEFAULT) -> Callable[[int], Step]:
    """What comes after so many right rounds of a minute each."""
    slow = then(controlled(expected, limits=limits), seen)
    rounds = slow.rounds[:1] + tuple(replace(r, ended=CHANGED + 60 * i) for i, r in enumerate(slow.rounds[1:], 1))
    return lambda right: next_step(replace(slow, rounds=rounds[: 1 + right]))


def test_the_burst_is_a_further_look_at_what_one_slow_round_saw() -> None:
    step = slowly(BOTH, {OPEN: ".", SHUT: "X"})
    assert (step(0), step(1)) == (CANDIDATE, BURST)


@pytest.mark.parametrize(
    ("expected", "seen", "limits"),
    [
        (BOTH, {OPEN: "..", SHUT: "XX"}, NO_BURST),
        (BOTH, {OPEN: "..", SHUT: "XX"}, Limits(burst_allowed=0)),
        ({OPEN: allow("x/b"), SHUT: REFUSE}, {OPEN: "..", SHUT: "RR"}, DEFAULT),
    ],
    ids=["no burst", "none on allowed flows", "refused flows"],
)
def test_without_a_burst_on_every_flow_a_round_is_seen_again_however_slow(
    expected: Mapping[Flow, Expectation], seen: Mapping[Flow, str], limits: Limits
) -> None:
    step = slowly(expected, seen, limits)
    assert (step(AGREEING), step(AGREEING + 1) in (BURST, AFTERWARDS)) == (STABILITY, True)


def test_stability_takes_its_time_however_many_rounds() -> None:
    quick = tuple(
        replace(round_(Phase.STABILITY, CHANGED + 0.1 * i, {OPEN: ".", SHUT: "X"}), ended=CHANGED + 0.1 * i + 0.1) for i in range(30)
    )
    history = controlled(BOTH)
    assert next_step(replace(history, rounds=history.rounds + quick[:19])) is STABILITY
    assert next_step(replace(history, rounds=history.rounds + quick[:20])) is BURST


@pytest.mark.parametrize(("converged", "window"), [(0.0, 2.0), (0.5, 2.0), (1.0, 3.0), (4.0, 12.0), (10.0, 30.0), (20.0, 30.0)])
def test_stability_is_a_multiple_of_the_convergence_within_bounds(converged: float, window: float) -> None:
    course = Course().after(round_(Phase.CANDIDATE, CHANGED + converged, {}), State.RIGHT)
    assert stability(controlled(BOTH), course) == pytest.approx(window)


def test_what_a_glance_saw_right_counts_from_the_glance_on() -> None:
    """A round behind it takes its time, and tells only that nothing was overlooked; what was seen before is no part of the window."""
    round_behind = replace(round_(Phase.CANDIDATE, CHANGED + 1.5, {}), glanced=CHANGED + 1.0)
    course = Course().after(round_behind, State.RIGHT)
    assert stability(controlled(BOTH), course) == pytest.approx(3.0)
    assert (course.right_began, course.right_since) == (CHANGED + 1.5, CHANGED + 1.0)
    wrong = Course().after(replace(round_behind, glanced=CHANGED + 1.5), State.WRONG)
    assert stability(controlled(BOTH), wrong.after(round_(Phase.CANDIDATE, CHANGED + 2.0, {}), State.RIGHT)) == pytest.approx(6.0)


def test_behind_a_sentinel_its_own_convergence_counts() -> None:
    """All was right as soon as we looked, and we looked only once the sentinel was seen to act."""
    awaited = tuple(round_(Phase.SENTINEL, CHANGED + began, {}) for began in (0.0, 1.0))
    history = controlled(BOTH)
    course = Course().after(round_(Phase.CANDIDATE, CHANGED + 4.0, {}), State.RIGHT)
    assert stability(replace(history, rounds=(*history.rounds, *awaited)), course) == pytest.approx(3.0)
    assert stability(history, course) == pytest.approx(12.0)


def test_stability_after_a_late_convergence_is_longer() -> None:
    assert next_step(after("....." + "....", ".....XXXX")) is STABILITY
    assert next_step(after("....." + "." * 16, "....." + "X" * 16)) is BURST  # right from 5 s on: 15 s more
    assert next_step(after("....." + "." * 15, "....." + "X" * 15)) is STABILITY


def test_stability_begins_anew_after_a_relapse() -> None:
    relapsed = after("....", "XX.X")
    assert next_step(relapsed) is STABILITY
    course = read(relapsed)
    assert (course.agreeing, course.right_began) == (1, CHANGED + 3 * EVERY)


def test_undecided_rounds_do_not_count_as_agreeing() -> None:
    history = after("....", "Xsss")
    assert read(history).agreeing == 1
    assert next_step(history) is STABILITY
    assert next_step(then(history, {OPEN: ".", SHUT: "X"})) is BURST


@pytest.mark.parametrize("limits", [NO_BURST, Limits(burst_denied=0, burst_allowed=0, cap=3)])
def test_without_counts_there_is_no_bursting(limits: Limits) -> None:
    assert next_step(after("....", "XXXX", limits)) is AFTERWARDS


@pytest.mark.parametrize(
    ("expected", "letter", "limits", "step"),
    [
        ({OPEN: allow()}, ".", Limits(burst_denied=0), BURST),
        ({OPEN: allow()}, ".", Limits(burst_allowed=0), AFTERWARDS),
        ({SHUT: DENY}, "X", Limits(burst_allowed=0), BURST),
        ({SHUT: DENY}, "X", Limits(burst_denied=0), AFTERWARDS),
        ({SHUT: DENY}, "X", Limits(burst_denied=1), BURST),
        ({SHUT: REFUSE}, "R", Limits(), AFTERWARDS),
        ({SHUT: OBSERVE}, "X", Limits(), AFTERWARDS),
    ],
)
def test_whether_a_burst_is_wanted(expected: dict[Flow, Expectation], letter: str, limits: Limits, step: Step) -> None:
    assert next_step(then(controlled(expected, limits=limits), dict.fromkeys(expected, letter * 4))) is step


def test_a_burst_of_starved_agents_is_repeated_but_not_for_ever() -> None:
    assert BURSTS == 3
    history = after("....", "XXXX")
    for expected in (BURST, BURST, AFTERWARDS):
        history = bursting(history, {OPEN: "." * 20, SHUT: "sss"})
        assert next_step(history) is expected
    assert next_step(bursting(after("....", "XXXX"), {OPEN: "s" * 20, SHUT: "XXX"})) is BURST
    assert next_step(bursting(bursting(after("....", "XXXX"), {OPEN: "ss", SHUT: "XX"}), {OPEN: "..", SHUT: "XX"})) is AFTERWARDS


@pytest.mark.parametrize("seen", ["X" * 100, "X.XX", "ssX"])
def test_after_the_burst_comes_afterwards_whatever_it_saw(seen: str) -> None:
    history = bursting(after("....", "XXXX"), {OPEN: "." * 20, SHUT: seen})
    assert next_step(history) is AFTERWARDS
    assert next_step(replace(history, checked=True)) is DONE


def test_an_empty_burst_counts_as_done() -> None:
    assert next_step(bursting(after("....", "XXXX"), {})) is AFTERWARDS


@pytest.mark.parametrize(
    ("rounds", "step"),
    [
        ("." * 9, CANDIDATE),  # the last ends at 8.9 s
        ("." * 10, CANDIDATE),  # at 9.9 s
        ("." * 11, AFTERWARDS),  # at 10.9 s
        ("." * 10 + "X", STABILITY),  # right at last: it is never too late for stability
        ("." * 10 + "XX", STABILITY),
        ("XX" + "." * 9, AFTERWARDS),
    ],
)
def test_the_cap_is_reached_by_wrong_rounds(rounds: str, step: Step) -> None:
    assert next_step(then(controlled({SHUT: DENY}, limits=CAP_10), {SHUT: rounds})) is step


def test_a_round_that_began_before_the_cap_does_not_reach_it_however_long_it_took() -> None:
    early = then(controlled({SHUT: DENY}, limits=CAP_10), {SHUT: "."})
    slow = replace(early, rounds=(early.rounds[0], replace(early.rounds[1], ended=CHANGED + 12)))
    assert next_step(slow) is CANDIDATE
    at_cap = round_(Phase.CANDIDATE, CHANGED + 12, {SHUT: "."})
    assert next_step(replace(slow, rounds=(*slow.rounds, at_cap))) is AFTERWARDS


def test_after_the_cap_there_is_no_burst() -> None:
    assert next_step(then(controlled({SHUT: DENY}, limits=Limits(cap=10)), {SHUT: "." * 11})) is AFTERWARDS


def test_a_relapse_past_the_cap_ends_it() -> None:
    history = then(controlled({SHUT: DENY}, limits=CAP_10), {SHUT: "........XXXX."})
    assert next_step(history) is AFTERWARDS


def test_the_cap_counts_from_the_change_also_after_a_relapse() -> None:
    history = then(controlled({SHUT: DENY}, limits=CAP_10), {SHUT: ".....X....."})
    assert next_step(history) is AFTERWARDS


def test_a_runner_that_slept_past_the_cap_looks_once_more() -> None:
    history = then(controlled({SHUT: DENY}, limits=CAP_10), {SHUT: "..."})
    assert next_step(history) is CANDIDATE  # whatever the clock says
    woken = replace(history, rounds=(*history.rounds, round_(Phase.CANDIDATE, CHANGED + 5000, {SHUT: "X"})))
    assert next_step(woken) is STABILITY


def test_undecided_rounds_past_the_cap_are_repeated_for_half_of_it() -> None:
    at_cap = then(controlled({SHUT: DENY}, limits=CAP_10), {SHUT: "." * 9 + "ss"})
    assert next_step(at_cap) is CANDIDATE
    assert next_step(then(at_cap, {SHUT: "."})) is AFTERWARDS
    assert next_step(then(at_cap, {SHUT: "X"})) is STABILITY
    assert next_step(then(at_cap, {SHUT: "sss"})) is CANDIDATE
    assert next_step(then(at_cap, {SHUT: "ssss."})) is AFTERWARDS
    assert next_step(then(at_cap, {SHUT: "ssssX"})) is STABILITY
    assert next_step(then(at_cap, {SHUT: "sssss"})) is AFTERWARDS


def test_undecided_rounds_in_stability_are_repeated_up_to_the_cap() -> None:
    history = then(controlled({SHUT: DENY}, limits=CAP_10), {SHUT: "XX" + "s" * 8})
    assert next_step(history) is STABILITY
    assert next_step(then(history, {SHUT: "s"})) is AFTERWARDS


def test_undecided_rounds_in_a_late_stability_get_twice_its_time() -> None:
    history = then(controlled({SHUT: DENY}, limits=CAP_10), {SHUT: "." * 9 + "X" + "s" * 53})  # right at 9 s: stability takes 27 s
    assert next_step(history) is STABILITY
    assert next_step(then(history, {SHUT: "s"})) is AFTERWARDS


def test_a_step_of_which_nothing_is_promised_ends_too() -> None:
    assert next_step(then(controlled({SHUT: OBSERVE}), {SHUT: ".XsX"})) is AFTERWARDS


def test_rounds_of_other_phases_are_not_looked_at() -> None:
    history = controlled(BOTH)
    others = tuple(round_(phase, CHANGED, {OPEN: "X", SHUT: "."}) for phase in (Phase.CONTROL, Phase.SENTINEL, Phase.RESTORE))
    assert read(replace(history, rounds=others)) == Course()
    assert next_step(replace(after("....", "XXXX"), rounds=after("....", "XXXX").rounds + others)) is BURST


def test_several_probes_of_a_flow_in_a_round_hide_nothing() -> None:
    leaking = round_(Phase.CANDIDATE, CHANGED, {SHUT: "."}).probes + round_(Phase.CANDIDATE, CHANGED, {OPEN: ".", SHUT: "X"}).probes
    history = controlled(BOTH)
    torn = replace(history, rounds=(*history.rounds, replace(round_(Phase.CANDIDATE, CHANGED, {}), probes=leaking)))
    assert next_step(torn) is CANDIDATE


def test_a_known_course_saves_reading_and_changes_nothing() -> None:
    short = after("...", "..X")
    known = read(short)
    long = then(short, {OPEN: "X.....", SHUT: "XXsXXX"})
    assert read(long, known) == read(long)
    assert next_step(long, known) is next_step(long)
    assert known.rounds == 3
    assert read(short, known) is known


def test_settled_is_of_the_rounds_since_the_last_wrong_one() -> None:
    assert settled(after("....", "XXXX"), read(after("....", "XXXX")))
    assert not settled(after(".....", "XXXX."), read(after(".....", "XXXX.")))


@pytest.mark.parametrize("step", Step)
def test_the_phases_of_steps(step: Step) -> None:
    assert step.phase == (None if step in (AFTERWARDS, DONE) else Phase(str(step)))
