"""Histories as JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from histories import DENY, OBSERVE, OPEN, REFUSE, SHUT, TWIN, allow, story
from hypothesis import given, settings
from hypothesis import strategies as st
from netproof.model.codec import VERSION, history_from_json, history_to_json
from netproof.model.flow import Family, Flow, Port, Protocol, Question
from netproof.model.history import Decision, Expectation, History, Incident, Limits
from netproof.model.outcome import Attempt, Outcome, Phase, Probe, Round

numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8)
questions = st.builds(Question, st.lists(words, min_size=1, max_size=3).map(tuple), words)
ports = st.builds(Port, st.sampled_from(Protocol), st.integers(0, 65535))
flows = st.builds(Flow, words, words, words, ports, st.sampled_from(Family), st.none() | questions)
expectations = st.builds(Expectation, st.sampled_from(Decision), st.frozensets(words, max_size=3), words, words)
attempts = st.builds(
    Attempt, numbers, numbers, st.sampled_from(Outcome), words, words, st.booleans(), st.booleans(), words, st.integers(0, 65535)
)
probes = st.builds(Probe, flows, st.lists(attempts, max_size=3).map(tuple))
rounds = st.builds(Round, st.sampled_from(Phase), numbers, numbers, st.lists(probes, max_size=3).map(tuple), st.none() | numbers)
limits = st.builds(Limits, budget=st.none() | numbers, cap=numbers, burst_denied=st.integers(0, 1000))
histories = st.builds(
    History,
    expected=st.dictionaries(flows, expectations, max_size=3),
    changed=numbers,
    rounds=st.lists(rounds, max_size=3).map(tuple),
    controls=st.dictionaries(flows, flows, max_size=2),
    incidents=st.lists(st.builds(Incident, numbers, words, st.booleans()), max_size=2).map(tuple),
    limits=limits,
    checked=st.booleans(),
)


def there_and_back(history: History) -> History:
    return history_from_json(json.loads(json.dumps(history_to_json(history), allow_nan=False)))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(histories.map(lambda history: replace(history, controls={f: c for f, c in history.controls.items() if f in history.expected})))
def test_any_history_comes_back_equal(history: History) -> None:
    assert there_and_back(history) == history


def test_a_real_history_comes_back_equal() -> None:
    expected = {OPEN: allow("x/b", "x/c", source="10.0.1.1"), SHUT: DENY, TWIN: REFUSE}
    history = story(expected, {OPEN: "..sX...", SHUT: "XXnbXXX", TWIN: "RRloRRR"}, burst={OPEN: "...", SHUT: "XXX"}, controls={SHUT: TWIN})
    history = replace(history, incidents=(Incident(3.5, "x/b is gone", implementation=True),), limits=Limits(budget=2.0, cap=9.0))
    assert there_and_back(history) == history


def test_the_types_come_back() -> None:
    asked = replace(OPEN, family=Family.IPV6, question=Question(("a.b.", "a."), "AAAA"))
    back = there_and_back(story({asked: OBSERVE}, {asked: "."}))
    (flow,) = back.expected
    attempt = back.rounds[-1].probes[0].attempts[0]
    assert flow == asked
    assert [type(value) for value in (flow.family, flow.port.protocol, attempt.outcome, back.rounds[-1].phase)] == [
        Family,
        Protocol,
        Outcome,
        Phase,
    ]
    assert isinstance(back.expected[flow].responders, frozenset)


def test_a_flow_stands_once() -> None:
    data = history_to_json(story({SHUT: DENY}, {SHUT: "X" * 50}, controls={SHUT: TWIN}))
    assert len(data["flows"]) == 2


def test_another_version_is_refused() -> None:
    data = history_to_json(story({SHUT: DENY}, {SHUT: "X"}))
    with pytest.raises(ValueError, match=f"this bundle has version {VERSION + 1}, this Netproof reads {VERSION}"):
        history_from_json(data | {"version": VERSION + 1})


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("rounds", None, TypeError),
        ("flows", [], IndexError),
        ("incidents", [{"at": 1}], TypeError),
        ("limits", {"nonsense": 1}, TypeError),
    ],
)
def test_what_is_no_history_raises(key: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        history_from_json(history_to_json(story({SHUT: DENY}, {SHUT: "X"})) | {key: value})


def test_an_unknown_outcome_raises() -> None:
    data = json.loads(json.dumps(history_to_json(story({SHUT: DENY}, {SHUT: "X"}))).replace("timed-out", "vanished"))
    with pytest.raises(ValueError, match="vanished"):
        history_from_json(data)
