from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from netproof.model.behaviour import Behaviour, Level
from netproof.model.flow import TCP, Flow, Port, Protocol, Question
from netproof.model.history import Cell, Decision, Expectation, History, Incident, Judgement, Limits
from netproof.model.outcome import Attempt, Outcome, Phase, Probe, Round
from netproof.model.verdict import Verdict
from netproof.problem import Problem
from netproof.report.counterexample import Counterexample
from netproof.report.evidence import load_bundle, write_bundle
from netproof.report.replay import replay
from netproof.verdict.judge import judge

BEHAVIOUR = Behaviour("NPI-02a", "Nothing reaches a selected pod.", "https://k8s.io/policy", Level.MUST, "NetworkPolicy")
FLOW = Flow("x/a", "x/b", "10.244.1.7", TCP(8080))
DENY = Expectation(Decision.DENY, why="x/default-deny isolates x")


def _round(phase: Phase, began: float, outcome: Outcome, **more: Any) -> Round:
    return Round(phase, began, began + 0.9, (Probe(FLOW, (Attempt(began, 0.004, outcome, source_port=40001, **more),)),))


def _history(*after: Outcome) -> History:
    control = _round(Phase.CONTROL, 99.0, Outcome.CONNECTED, responder="x/b", source="10.244.1.5", received=True)
    rounds = [_round(Phase.STABILITY, 101.0 + i, outcome, detail="errno\n110") for i, outcome in enumerate(after)]
    return History(expected={FLOW: DENY}, changed=100.0, rounds=(control, *rounds), controls={FLOW: FLOW}, checked=True)


def _judge(history: History) -> Judgement:
    """A rule of one line: a denied flow that connected after the change is a leak."""
    attempts = [a for r in history.rounds if r.phase is not Phase.CONTROL for probe in r.probes for a in probe.attempts]
    connected = sum(attempt.outcome is Outcome.CONNECTED for attempt in attempts)
    verdict = Verdict.FAIL if connected else Verdict.PASS
    cell = Cell(FLOW, DENY, verdict, f"{connected} connected", len(attempts), connected, leak=connected > 0)
    return Judgement(verdict, f"{connected} of {len(attempts)} connected", (cell,), 0.3, 1, "nothing")


LEAKY = _history(Outcome.TIMED_OUT, Outcome.CONNECTED)


def _write(folder: Path, **more: Any) -> Path:
    values: dict[str, Any] = {"histories": [LEAKY], "judgements": [_judge(LEAKY)]}
    return write_bundle(folder, case="NPI-02a/tcp/ipv4", behaviour=BEHAVIOUR, **values | more)


def _tamper(path: Path, change: Callable[[Any], object]) -> None:
    data = json.loads((path / "bundle.json").read_text())
    change(data)
    (path / "bundle.json").write_text(json.dumps(data))


def test_a_bundle_reads_back_as_it_was(tmp_path: Path) -> None:
    asked = Flow("x/a", "dns", "10.96.0.10", Port(Protocol.UDP, 53), question=Question(("a.b", "a"), "A"))
    other = History(expected={asked: Expectation(Decision.ALLOW, frozenset({"NOERROR A 10.0.0.1"}))}, changed=200.0)
    judgements = [_judge(LEAKY), Judgement(Verdict.INCONCLUSIVE, "no rounds", ())]
    incident = Incident(101.5, "the listener of x/b died")
    path = _write(
        tmp_path,
        histories=[LEAKY, other],
        judgements=judgements,
        incidents=[incident],
        placement={"x/a": "worker"},
        header={"cluster": "kind"},
        repeat="pytest -k NPI-02a",
    )
    bundle = load_bundle(path)

    assert path == tmp_path / "evidence" / "NPI-02a__tcp__ipv4"
    assert bundle == load_bundle(path / "bundle.json")
    assert (bundle.case, bundle.behaviour, bundle.verdict) == ("NPI-02a/tcp/ipv4", BEHAVIOUR, Verdict.FAIL)
    assert bundle.histories == (LEAKY, other)
    assert bundle.judgements == tuple(judgements)
    assert bundle.incidents == (incident,)
    assert (bundle.placement, bundle.header, bundle.repeat) == ({"x/a": "worker"}, {"cluster": "kind"}, "pytest -k NPI-02a")


def test_a_second_bundle_leaves_the_first_alone(tmp_path: Path) -> None:
    first, second = _write(tmp_path), _write(tmp_path, repeat="again")

    assert second.name == "NPI-02a__tcp__ipv4--2"
    assert (load_bundle(first).repeat, load_bundle(second).repeat) == ("", "again")


def test_a_history_without_its_judgement_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        _write(tmp_path, judgements=[])


@pytest.mark.parametrize("name", ["../../etc", "a\x00b", "ü" * 300, ".", ""])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    path = write_bundle(tmp_path, case=name, behaviour=BEHAVIOUR, histories=[], judgements=[], logs={name: "said"})

    assert path.parent == tmp_path / "evidence"
    assert [log.read_text() for log in (path / "logs").iterdir()] == ["said"]


def test_attempts_stand_one_a_line_by_time(tmp_path: Path) -> None:
    lines = (_write(tmp_path) / "attempts.txt").read_text().splitlines()

    assert lines[3:] == [
        "step  phase      at      flow                              from port  outcome    took   responder  source seen  marks  detail",
        "1     control    -1.000  x/a -> x/b TCP/8080 (10.244.1.7)  40001      connected  0.004  x/b        10.244.1.5   n      -",
        "1     stability  +1.000  x/a -> x/b TCP/8080 (10.244.1.7)  40001      timed-out  0.004  -          -            -      errno 110",
        "1     stability  +2.000  x/a -> x/b TCP/8080 (10.244.1.7)  40001      connected  0.004  -          -            -      errno 110",
    ]


def test_objects_are_as_somebody_would_write_them(tmp_path: Path) -> None:
    policy = {"kind": "NetworkPolicy", "metadata": {"name": "deny", "uid": "u1", "managedFields": [{"manager": "us"}]}}
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"token": "aHVzaA=="}}
    text = (_write(tmp_path, objects=[policy, secret]) / "objects.yaml").read_text()

    assert text.startswith("---\nkind: NetworkPolicy\n")
    assert list(yaml.safe_load_all(text)) == [
        {"kind": "NetworkPolicy", "metadata": {"name": "deny", "uid": "u1"}},
        {"kind": "Secret", "metadata": {"name": "s"}, "data": {"token": "(left out)"}},
    ]
    assert policy["metadata"]["managedFields"]  # type: ignore[index]


def test_the_smallest_case_that_fails_too_has_a_file(tmp_path: Path) -> None:
    policy = {"kind": "NetworkPolicy", "metadata": {"name": "p1", "namespace": "x"}, "spec": {"podSelector": {}}}
    found = Counterexample((policy,), Cell(FLOW, DENY, Verdict.FAIL, "answered by x/b"), [], 3, 4.0, whole=True)
    path = _write(tmp_path, smallest=found)

    assert yaml.safe_load((path / "smallest.yaml").read_text()) == policy
    assert found.text() in (path / "README.txt").read_text()
    assert "smallest.yaml" in (path / "README.txt").read_text()
    assert not (_write(tmp_path) / "smallest.yaml").exists()


def test_the_readme_says_what_happened_and_how_to_judge_again(tmp_path: Path) -> None:
    path = _write(tmp_path, placement={"x/b": "worker2"}, incidents=[Incident(1.0, "x/b restarted")], repeat="pytest -k x")
    text = (path / "README.txt").read_text()

    for words in (
        "NPI-02a/tcp/ipv4: fail",
        "1 of 2 connected",
        "x/b on worker2",
        "x/b restarted",
        "pytest -k x",
        "3 attempts",
        "netproof replay",
    ):
        assert words in text


def test_logs_are_kept(tmp_path: Path) -> None:
    path = _write(tmp_path, logs={"cilium/worker": "dropped\n"})

    assert (path / "logs" / "cilium__worker.txt").read_text() == "dropped\n"


def test_a_replay_comes_to_the_same_verdict(tmp_path: Path) -> None:
    again = replay(_write(tmp_path), judge=_judge)

    assert again.same
    assert "then: fail: 1 of 2 connected\n  now:  fail: 1 of 2 connected" in again.text
    assert again.text.endswith("then: fail\nnow:  fail\nThe verdict is the same.")


def test_todays_rule_judges_a_replay(tmp_path: Path) -> None:
    """Denied for four seconds, and then one attempt of the burst gets through."""
    settled = [_round(Phase.STABILITY, began, Outcome.TIMED_OUT) for began in (100.5, 101.5, 102.5, 103.5)]
    burst = _round(Phase.BURST, 105.0, Outcome.CONNECTED, responder="x/b", received=True)
    leaky = replace(_history(), rounds=(*_history().rounds, *settled, burst), limits=Limits(burst_denied=1))
    judged = judge(leaky)
    path = _write(tmp_path, histories=[leaky], judgements=[judged])

    assert judged.verdict is Verdict.FAIL
    assert replay(path).same
    _tamper(path, lambda data: data["steps"][0]["history"]["rounds"][-1]["probes"][0][1][0].update(outcome="timed-out", received=False))
    assert replay(path).text.endswith("then: fail\nnow:  pass\nThe verdict is NOT the same.")


def test_a_tampered_history_is_judged_otherwise(tmp_path: Path) -> None:
    path = _write(tmp_path)
    _tamper(path, lambda data: data["steps"][0]["history"]["rounds"][2]["probes"][0][1][0].update(outcome="timed-out"))
    again = replay(path, judge=_judge)

    assert not again.same
    assert again.text.endswith("then: fail\nnow:  pass\nThe verdict is NOT the same.")
    assert "(10.244.1.7)  deny      1 connected" in again.text
    assert "(10.244.1.7)  deny      0 connected" in again.text


def test_a_tampered_verdict_is_noticed(tmp_path: Path) -> None:
    path = _write(tmp_path)
    _tamper(path, lambda data: data["steps"][0]["judgement"].update(verdict="pass"))

    assert not replay(path, judge=_judge).same


def test_each_step_must_keep_its_verdict(tmp_path: Path) -> None:
    """A worst step that stays the worst hides no other."""
    denied = _history(Outcome.TIMED_OUT)
    path = _write(tmp_path, histories=[LEAKY, denied], judgements=[_judge(LEAKY), Judgement(Verdict.FLAKY, "", ())])

    assert not replay(path, judge=_judge).same


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(version=99), "its version is 99"),
        (lambda data: data.pop("steps"), "'steps' is missing"),
        (lambda data: data["steps"][0]["judgement"].update(verdict="splendid"), "splendid"),
        (lambda data: data["steps"][0]["judgement"]["cells"][0].update(flow=7), "index"),
        (lambda data: data["steps"][0]["history"].update(rounds=[7]), "not subscriptable"),
        (lambda data: data.update(behaviour=[]), "bundle"),
    ],
)
def test_a_bad_bundle_is_one_sentence(tmp_path: Path, change: Callable[[Any], object], words: str) -> None:
    path = _write(tmp_path)
    _tamper(path, change)

    with pytest.raises(Problem, match=words) as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_a_file_that_is_none_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "bundle.json").write_text(text)

    with pytest.raises(Problem, match="is no evidence bundle"):
        load_bundle(tmp_path)


def test_a_missing_bundle_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="cannot be read \\(No such file"):
        load_bundle(tmp_path / "absent")
