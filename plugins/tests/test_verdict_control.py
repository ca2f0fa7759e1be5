"""Controls, and cases that would say nothing of a node."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import CHANGED, DENY, OBSERVE, OPEN, REFUSE, SHUT, TWIN, allow, round_
from netproof.model.flow import TCP, Flow
from netproof.model.history import Expectation, History
from netproof.model.outcome import Phase
from netproof.verdict.control import Side, controls, refuse_unchanged, uncontrolled
from netproof.verdict.settle import CONTROL_ROUNDS, Step, control_step


def before(*seen: dict[Flow, str], expected: dict[Flow, Expectation] | None = None, controls: dict[Flow, Flow] | None = None) -> History:
    rounds = tuple(round_(Phase.CONTROL, 10.0 * i, letters) for i, letters in enumerate(seen))
    return History(expected or {SHUT: DENY}, CHANGED, rounds, controls or {})


def test_only_denied_and_refused_flows_need_a_control() -> None:
    history = before(expected={SHUT: DENY, TWIN: REFUSE, OPEN: allow()}, controls={TWIN: OPEN})
    assert controls(history) == {SHUT: SHUT, TWIN: OPEN}
    assert controls(before(expected={OPEN: OBSERVE})) == {}


@pytest.mark.parametrize("letters", [".", "S", "X.", "w"])
def test_a_control_that_connected(letters: str) -> None:
    assert uncontrolled(before({SHUT: letters})) == {}
    assert control_step(before({SHUT: letters})) is Step.DONE


@pytest.mark.parametrize(
    ("letters", "seen"),
    [
        ("X", "timed out"),
        ("R", "refused"),
        ("n", "timed out, though it arrived"),
        ("l", "answered by x/b only after 0.70 s"),
        ("s", "timed out, but an agent was starved"),
        ("b", "broken (stream closed)"),
        ("o", "accepted, but silent (HTTP/1.1 503): something else answers for the peer"),
    ],
)
def test_a_control_that_did_not(letters: str, seen: str) -> None:
    assert uncontrolled(before({SHUT: letters})) == {SHUT: seen}
    assert control_step(before({SHUT: letters})) is Step.CONTROL


def test_what_was_seen_last_is_told() -> None:
    assert uncontrolled(before({SHUT: "X"}, {SHUT: "s"}, {SHUT: "R"})) == {SHUT: "refused"}


def test_one_good_round_is_enough() -> None:
    assert uncontrolled(before({SHUT: "X"}, {SHUT: "."}, {SHUT: "X"})) == {}


def test_a_control_is_tried_a_few_times() -> None:
    assert CONTROL_ROUNDS == 3
    tries = [{SHUT: "X"}] * CONTROL_ROUNDS
    assert control_step(before()) is Step.CONTROL
    assert control_step(before(*tries[:-1])) is Step.CONTROL
    assert control_step(before(*tries)) is Step.DONE


def test_rounds_that_did_not_probe_a_control_do_not_count_as_tries() -> None:
    history = before(*[{OPEN: "."}] * CONTROL_ROUNDS)
    assert control_step(history) is Step.CONTROL
    assert uncontrolled(history) == {SHUT: "never probed"}


def test_one_missing_control_is_enough_to_go_on() -> None:
    history = before(*[{SHUT: "X", TWIN: "."}] * (CONTROL_ROUNDS - 1), expected={SHUT: DENY, TWIN: DENY})
    assert control_step(history) is Step.CONTROL
    assert set(uncontrolled(history)) == {SHUT}


def test_a_named_control_stands_for_the_flow() -> None:
    assert uncontrolled(before({TWIN: "."}, controls={SHUT: TWIN})) == {}
    assert uncontrolled(before({SHUT: "."}, controls={SHUT: TWIN})) == {SHUT: f"{TWIN}: never probed"}
    assert uncontrolled(before({SHUT: ".", TWIN: "X"}, controls={SHUT: TWIN})) == {SHUT: f"{TWIN}: timed out"}


def test_any_agent_may_answer_a_control() -> None:
    assert uncontrolled(before({SHUT: "w"}, expected={SHUT: replace(DENY, responders=frozenset({"x/b"}))})) == {}


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.CONTROL])
def test_only_control_rounds_are_controls(phase: Phase) -> None:
    history = History({SHUT: DENY}, CHANGED, (round_(phase, 0, {SHUT: "."}),))
    assert set(uncontrolled(history)) == {SHUT}


def test_a_control_may_come_after_the_change() -> None:
    rounds = (round_(Phase.STABILITY, CHANGED, {SHUT: "X"}), round_(Phase.CONTROL, CHANGED + 9, {SHUT: "."}))
    assert uncontrolled(History({SHUT: DENY}, CHANGED, rounds)) == {}


def test_late_of_a_control_is_measured_by_the_limits() -> None:
    history = before({SHUT: "l"})
    assert uncontrolled(replace(history, limits=replace(history.limits, late=0.8))) == {}


def flow(source: str, destination: str) -> Flow:
    return Flow(source, destination, "10.0.0.9", TCP(8080))


NEAR, FAR, BACK = flow("x/a", "x/c"), flow("x/a", "x/b"), flow("x/b", "x/a")
PLACES = {NEAR: ("n1", "n1"), FAR: ("n1", "n2"), BACK: ("n2", "n1")}
SOURCE, DESTINATION = {Side.SOURCE}, {Side.DESTINATION}
BOTH = SOURCE | DESTINATION


@pytest.mark.parametrize(
    ("denied", "refused"),
    [
        ({}, ("n1", "n2")),
        ({FAR: DESTINATION}, ("n1",)),
        ({FAR: SOURCE}, ("n2",)),
        ({FAR: DESTINATION, BACK: DESTINATION}, ()),
        ({NEAR: SOURCE, FAR: DESTINATION}, ()),
        ({FAR: BOTH}, ("n1", "n2")),  # either end can have denied it: it is a witness of neither
        ({NEAR: BOTH}, ("n2",)),
        ({FAR: set()}, ("n1", "n2")),
    ],
)
def test_nodes_on_which_no_cell_changes(denied: dict[Flow, set[Side]], refused: tuple[str, ...]) -> None:
    assert refuse_unchanged(PLACES, denied, {"n2", "n1"}) == refused


def test_a_node_without_subjects_is_not_asked_for() -> None:
    assert refuse_unchanged(PLACES, {FAR: SOURCE}, {"n1"}) == ()
    assert refuse_unchanged(PLACES, {FAR: SOURCE}, {"n1", "n3"}) == ("n3",)
