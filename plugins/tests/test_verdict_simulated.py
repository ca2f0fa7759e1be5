"""The whole loop against small simulated networks with an artificial clock: which verdicts come out, and how often."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from histories import DEFAULT
from netproof.model.flow import TCP, Flow
from netproof.model.history import Decision, Expectation, History, Incident, Judgement, Limits
from netproof.model.outcome import Attempt, Outcome, Phase, Probe, Round
from netproof.model.verdict import Verdict
from netproof.verdict.control import controls, uncontrolled
from netproof.verdict.course import Course, read
from netproof.verdict.judge import judge
from netproof.verdict.settle import Step, control_step, next_step

PASS, SLOW, FLAKY, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.SLOW, Verdict.FLAKY, Verdict.INCONCLUSIVE, Verdict.FAIL
SEEDS = range(20)  # for networks that throw dice
FEW = range(2)  # for those that do not
ALL = len(SEEDS)
ALLOWED = [Flow("x/a", f"x/{i}", "10.0.0.2", TCP(8080)) for i in range(6)]
DENIED = [Flow("y/a", f"x/{i}", "10.0.0.2", TCP(8080)) for i in range(3)]
DROPPED = Attempt(0, 0.9, Outcome.TIMED_OUT)


@dataclass
class Network:
    """Denies what shall be denied from `converges` seconds after the change on, but for its faults, each a chance for one attempt."""

    converges: float = 0.3
    leak: float = 0.0
    one_way: float = 0.0
    loss: float = 0.0
    starved: float = 0.0
    late: float = 0.0
    wrong: float = 0.0
    lapses: tuple[tuple[float, float], ...] = ()  # nothing is denied
    outages: tuple[tuple[float, float], ...] = ()  # nothing is allowed
    changed: float | None = None

    def attempt(self, flow: Flow, now: float, dice: random.Random) -> Attempt:
        attempt = replace(self._seen(flow, now, dice), began=now)
        if dice.random() < self.starved:
            return replace(DROPPED, began=now, starved=True)
        return attempt

    def _seen(self, flow: Flow, now: float, dice: random.Random) -> Attempt:
        after = -1.0 if self.changed is None else now - self.changed
        answer = Attempt(0, 0.01, Outcome.CONNECTED, flow.destination, received=True)
        if any(a <= after < b for a, b in self.outages) or dice.random() < self.loss:
            return DROPPED
        if flow in DENIED and after >= self.converges and not any(a <= after < b for a, b in self.lapses):
            if dice.random() < self.one_way:
                return replace(DROPPED, received=True)
            return answer if dice.random() < self.leak else DROPPED
        if self.changed is not None and dice.random() < self.late:
            return replace(answer, took=0.7)
        return replace(answer, responder="z/z") if dice.random() < self.wrong else answer


@dataclass
class Runner:
    network: Network
    seed: int
    limits: Limits
    afterwards: tuple[Incident, ...] = ()
    now: float = 1000.0
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def run(self, expected: dict[Flow, Expectation]) -> History:
        history = History(expected, float("nan"), limits=self.limits)
        while control_step(history) is Step.CONTROL:
            history = _add(history, self.round(Phase.CONTROL, list(controls(history).values()), 3))
        if uncontrolled(history):
            return history
        self.network.changed = self.now
        return self.settle(replace(history, changed=self.now))

    def settle(self, history: History) -> History:
        known = Course()
        while (step := next_step(history, known)) is not Step.DONE:
            assert len(history.rounds) < 1000, "the step does not end"
            if step is Step.AFTERWARDS:
                history = replace(history, checked=True, incidents=self.afterwards)
            elif step is Step.BURST:
                history = _add(history, self.burst(history))
            else:
                history = _add(history, self.round(Phase(str(step)), list(history.expected), 3))
            known = read(history, known)
        return history

    def round(self, phase: Phase, flows: list[Flow], tries: int) -> Round:
        began = self.now
        probes = tuple(Probe(flow, self.staggered(flow, tries)) for flow in flows)
        answered = all(probe.attempts[0].outcome is Outcome.CONNECTED for probe in probes)
        self.now += 0.3 if answered else 0.25 * (tries - 1) + 0.9
        return Round(phase, began, self.now, probes)

    def staggered(self, flow: Flow, tries: int) -> tuple[Attempt, ...]:
        """Attempts a quarter of a second apart, none after an answer, as agents make them."""
        attempts: list[Attempt] = []
        while len(attempts) < tries and not any(attempt.outcome is Outcome.CONNECTED for attempt in attempts):
            attempts.append(self.network.attempt(flow, self.now + 0.25 * len(attempts), self.dice))
        return tuple(attempts)

    def burst(self, history: History) -> Round:
        began = self.now
        counts = {Decision.DENY: self.limits.burst_denied, Decision.ALLOW: self.limits.burst_allowed}
        probes = tuple(
            Probe(flow, tuple(self.network.attempt(flow, began + 0.02 * i, self.dice) for i in range(counts[promised.decision])))
            for flow, promised in history.expected.items()
        )
        self.now += 2.0
        return Round(Phase.BURST, began, self.now, probes)


def _add(history: History, round_: Round) -> History:
    return replace(history, rounds=(*history.rounds, round_))


EXPECTED = {flow: Expectation(Decision.ALLOW, frozenset({flow.destination})) for flow in ALLOWED} | dict.fromkeys(
    DENIED, Expectation(Decision.DENY)
)


def runs(network: Network, limits: Limits = DEFAULT, *, seeds: range = SEEDS, afterwards: tuple[Incident, ...] = ()) -> list[Judgement]:
    return [judge(Runner(replace(network), seed, limits, afterwards).run(EXPECTED)) for seed in seeds]


def verdicts(judgements: list[Judgement]) -> Counter[Verdict]:
    return Counter(judgement.verdict for judgement in judgements)


@pytest.mark.parametrize("converges", [0.0, 0.3, 2.0, 9.0, 25.0])
def test_a_right_network_always_passes(converges: float) -> None:
    judgements = runs(Network(converges), seeds=FEW)
    assert verdicts(judgements) == {PASS: len(FEW)}
    for judgement in judgements:
        assert judgement.converged is not None
        assert converges <= judgement.converged <= converges + 1.5  # the length of a round
        assert judgement.excludes in ("no leak above 3 % a flow at 95 %", "no leak above 2 % a flow at 95 %")


@pytest.mark.parametrize("chance", [0.05, 0.3])
@pytest.mark.parametrize("way", ["both", "one"])
def test_a_leaking_network_always_fails(way: str, chance: float) -> None:
    judgements = runs(Network(leak=chance) if way == "both" else Network(one_way=chance))
    assert verdicts(judgements) == {FAIL: ALL}
    assert all(judgement.leaks for judgement in judgements)


@pytest.mark.parametrize("network", [Network(converges=1e9), Network(leak=1.0), Network(one_way=1.0)], ids=["open", "leak", "one-way"])
def test_a_network_that_never_denies_fails(network: Network) -> None:
    judgements = runs(network, seeds=FEW)
    assert verdicts(judgements) == {FAIL: len(FEW)}
    assert all({cell.flow for cell in judgement.leaks} == set(DENIED) for judgement in judgements)


def test_a_rare_leak_is_found_as_often_as_the_burst_allows() -> None:
    judgements = runs(Network(leak=0.002))
    found = verdicts(judgements)
    assert found[PASS] + found[FAIL] + found[FLAKY] == ALL
    assert 0.25 * ALL < found[FAIL] < 0.7 * ALL  # 1 - 0.998 ** 300 is 45 %
    assert all(bool(judgement.leaks) is (judgement.verdict is FAIL) for judgement in judgements)


def test_a_network_that_loses_one_in_ten_fails_and_leaks_nothing() -> None:
    judgements = runs(Network(loss=0.1), Limits(burst_allowed=100))
    assert verdicts(judgements) == {FAIL: ALL}
    assert not any(judgement.leaks for judgement in judgements)


@pytest.mark.parametrize("loss", [0.001, 0.0001])
def test_a_network_that_loses_one_in_a_thousand_passes(loss: float) -> None:
    assert verdicts(runs(Network(loss=loss))) == {PASS: ALL}


def test_a_network_at_just_the_permitted_loss_seldom_fails() -> None:
    assert verdicts(runs(Network(loss=0.01)))[FAIL] <= 2


def test_a_network_that_loses_everything_has_no_control() -> None:
    judgements = runs(Network(loss=1.0), seeds=FEW)
    assert verdicts(judgements) == {INCONCLUSIVE: len(FEW)}
    assert all("no control" in judgement.reason for judgement in judgements)


def test_a_network_that_denies_all_from_the_change_on_fails() -> None:
    judgements = runs(Network(outages=((0.0, 1e9),)), seeds=FEW)
    assert verdicts(judgements) == {FAIL: len(FEW)}
    assert not any(judgement.leaks for judgement in judgements)


@pytest.mark.parametrize("network", [Network(lapses=((1.5, 3.5),)), Network(outages=((1.5, 3.5),))], ids=["opens", "closes"])
def test_a_network_that_flips_while_it_shall_be_stable_is_flaky(network: Network) -> None:
    judgements = runs(network, seeds=FEW)
    assert verdicts(judgements) == {FLAKY: len(FEW)}
    assert {judgement.relapses for judgement in judgements} == {1}
    assert not any(judgement.leaks for judgement in judgements)


def test_a_network_that_flips_for_ever_fails() -> None:
    judgements = runs(Network(lapses=tuple((t, t + 1.0) for t in range(2, 60, 2))), seeds=FEW)
    assert verdicts(judgements) == {FAIL: len(FEW)}
    assert all(judgement.relapses > 1 for judgement in judgements)


def test_a_network_that_answers_late_only_is_inconclusive() -> None:
    judgements = runs(Network(late=1.0), seeds=FEW)
    assert verdicts(judgements) == {INCONCLUSIVE: len(FEW)}
    assert all("late" in judgement.reason for judgement in judgements)


def test_a_network_that_sometimes_answers_late_passes() -> None:
    assert verdicts(runs(Network(late=0.02))) == {PASS: ALL}


def test_a_network_that_misdelivers_never_passes() -> None:
    found = verdicts(runs(Network(wrong=0.1)))
    assert found[FAIL] == ALL


def test_a_busy_machine_invents_nothing() -> None:
    assert verdicts(runs(Network(starved=0.03))) == {PASS: ALL}


def test_a_busy_machine_hides_no_leak() -> None:
    found = verdicts(runs(Network(starved=0.03, leak=0.05)))
    assert found[FAIL] >= ALL - 2
    assert found[FAIL] + found[INCONCLUSIVE] == ALL  # the last round at the cap may be a starved one


def test_a_machine_too_busy_is_inconclusive() -> None:
    judgements = runs(Network(starved=0.6))
    assert verdicts(judgements) == {INCONCLUSIVE: ALL}


@pytest.mark.parametrize(("budget", "verdict"), [(2.0, SLOW), (10.0, PASS)])
def test_a_slow_network(budget: float, verdict: Verdict) -> None:
    assert verdicts(runs(Network(converges=5.0), Limits(budget=budget), seeds=FEW)) == {verdict: len(FEW)}


def test_a_destination_that_dies_with_the_change_passes_nobody() -> None:
    dead = Incident(1010.0, "the agent in x/0 no longer answers on its own TCP/8080")
    for network in (Network(outages=((0.0, 1e9),)), Network()):
        assert verdicts(runs(network, seeds=FEW, afterwards=(dead,))) == {INCONCLUSIVE: len(FEW)}


def test_the_same_seed_gives_the_same_judgement() -> None:
    for seed in SEEDS[:5]:
        once, twice = (Runner(Network(leak=0.002, loss=0.02, starved=0.02), seed, Limits()).run(EXPECTED) for _ in range(2))
        assert judge(once) == judge(twice) == judge(once)
