"""Shrinking as it is run: looks at single flows, worlds that are spoilt, means that end, and what is told; networks are imitated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from histories import CAP_10, DENY, OPEN, SHUT, allow, attempt, story
from netproof.drawing import FEATURES, Way
from netproof.drawing.stage import Policies
from netproof.model.flow import TCP, Family, Flow
from netproof.model.history import Cell, Decision, Expectation, Judgement, Limits
from netproof.model.outcome import Phase, Probe, Round
from netproof.model.verdict import Verdict
from netproof.oracle import Ruling
from netproof.report.counterexample import Counterexample
from netproof.run import shrinking
from netproof.run.shrinking import SECONDS, TRIES, WORLDS, Shrinking, failing, patience
from netproof.world.case import Step
from netproof.world.drawn import DrawnSet, stage
from netproof.world.trial import Spoilt, Trial

FEATURES_OF_ALL = frozenset(FEATURES)
WAY = Way("y/a", "x/b", TCP(8080))
FLOW = Flow("y/a", "x/b", "10.0.0.2", TCP(8080))


class Network:
    """Agents whose rounds take a second: of each flow one letter a round, the last one for ever; `before` is what the controls see."""

    def __init__(self, seen: str, *, before: str = ".", burst: str = "X") -> None:
        self.now, self.rounds, self.seen, self.before, self.bursting = 100.0, 0, seen, before, burst

    def clock(self) -> float:
        return self.now

    def round(self, flows: Sequence[Flow], phase: Phase) -> Round:
        letters, place = (self.before, 0) if phase is Phase.CONTROL else (self.seen, self.rounds)
        self.rounds += phase is not Phase.CONTROL
        began, self.now = self.now, self.now + 1.0
        letter = letters[min(place, len(letters) - 1)]
        return Round(phase, began, self.now, tuple(Probe(flow, (attempt(letter, began),)) for flow in flows))

    def burst(self, counts: Mapping[Flow, int], rate: float) -> Round:
        assert rate
        probes = tuple(Probe(flow, tuple(attempt(self.bursting[i % len(self.bursting)]) for i in range(n))) for flow, n in counts.items())
        return Round(Phase.BURST, self.now, self.now, probes)


def look(decision: Decision, network: Network, *, attempts: int = 0) -> tuple[tuple[Way, ...], list[str]]:
    """The wrong flows of one try on WAY with a patience of three seconds, and what was done."""
    done: list[str] = []
    runner = SimpleNamespace(clock=network.clock, fleet=network, budget=SimpleNamespace(rate=1000.0))
    case = SimpleNamespace(
        world=None,
        runner=runner,
        limits=Limits(cap=5.0),
        again=lambda _: done.append("again"),
        apply=lambda *_: done.append("apply"),
        carry_out=lambda: done.append("carry out"),
        restore=lambda: done.append("restore"),
        foretold=lambda flows: {flow: Ruling(decision, "because") for flow in flows},
    )
    drawn: Any = SimpleNamespace(world=SimpleNamespace(case=case), flow=lambda _: FLOW, placed=list, pod_blocks=True)
    try:
        return Trial(drawn, 3.0, attempts).wrong((), [WAY]), done
    except Spoilt:
        return (), [*done, "spoilt"]


@pytest.mark.parametrize(
    ("decision", "seen", "rounds", "wrong"),
    [
        (Decision.DENY, "X", 1, False),
        (Decision.DENY, "..X", 3, False),
        (Decision.DENY, ".", 3, True),
        (Decision.DENY, "n", 3, True),
        (Decision.ALLOW, "X", 3, True),
        (Decision.ALLOW, ".XX", 3, True),
        (Decision.ALLOW, ".X.", 3, False),
        (Decision.ALLOW, ".", 3, False),
        (Decision.ALLOW, "s", 9, False),  # starved agents say nothing
        (Decision.OBSERVE, "X", 3, False),
    ],
)
def test_a_flow_is_wrong_if_it_stays_so(decision: Decision, seen: str, rounds: int, wrong: bool) -> None:  # noqa: FBT001
    network = Network(seen)
    found, done = look(decision, network)
    assert (bool(found), network.rounds) == (wrong, rounds)
    assert done == ["again", "apply", "carry out", "restore"]


def test_a_leak_that_comes_at_times_needs_many_attempts() -> None:
    assert look(Decision.DENY, Network("X", burst="XXX."))[0] == ()
    assert look(Decision.DENY, Network("X", burst="XXX."), attempts=20)[0] == (WAY,)
    assert look(Decision.DENY, Network("X", burst="XXXX"), attempts=20)[0] == ()


def test_nothing_is_applied_where_the_flow_does_not_connect() -> None:
    network = Network(".", before="X")
    assert look(Decision.DENY, network) == ((), ["again", "apply", "restore", "spoilt"])
    assert network.now > 110  # it was waited for, longer than the cap of five seconds


# what is made of it

EVERY_PEER: Callable[[Policies], bool] = lambda policies: "from" in str(policies)  # noqa: E731


class Tries:
    """Stands for `Trial`: a network that is wrong on WAY whenever `shows` says so of a set."""

    shows: Callable[[Policies], bool] = staticmethod(EVERY_PEER)
    spoilt = 0  # of so many tries the world is spoilt
    fails = True  # by the whole rule
    made: tuple[float, int] = (0.0, 0)

    def __init__(self, _drawn: DrawnSet, patience: float, attempts: int) -> None:
        Tries.made = (patience, attempts)

    def wrong(self, policies: Policies, ways: Sequence[Way]) -> tuple[Way, ...]:
        if Tries.spoilt:
            Tries.spoilt -= 1
            raise Spoilt("x/a does not connect")
        return tuple(ways) if Tries.shows(policies) else ()

    def judged(self, policies: Policies, way: Way) -> Judgement | None:
        assert policies
        cell = Cell(replace(FLOW, source=way.source), Expectation(Decision.DENY, why="a rule"), Verdict.FAIL, "answered", leak=True)
        return Judgement(Verdict.FAIL, "a leak", (cell,)) if Tries.fails else None


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> type[Tries]:
    monkeypatch.setattr(shrinking, "Trial", Tries)
    for name, value in {"shows": staticmethod(EVERY_PEER), "spoilt": 0, "fails": True}.items():
        monkeypatch.setattr(Tries, name, value)
    return Tries


def policy(name: str, *, peers: int) -> dict[str, Any]:
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}} for _ in range(peers)], "ports": [{"port": 8080}]}
    metadata = {"name": name, "namespace": "x"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": {"ingress": [rule, {}]}}


def shrink(*, second: float = 1.0, leak: bool = True) -> tuple[Counterexample | str, list[str], int]:
    """What comes of a set of two policies, what was said meanwhile, and how many worlds were made. A look at the clock takes a second."""
    said: list[str] = []
    worlds: list[str] = []
    ticks = iter(range(100_000))
    runner = SimpleNamespace(clock=lambda: next(ticks) * second, progress=lambda what, *_: said.append(what))
    case = SimpleNamespace(runner=runner, again=lambda _: None)
    drawn: Any = SimpleNamespace(
        drawing=SimpleNamespace(policies=(policy("p1", peers=1), policy("p2", peers=3))),
        stage=stage(FEATURES_OF_ALL, Family.IPV4),
        world=SimpleNamespace(case=case),
        flow=lambda _: FLOW,
        shown=list,
    )
    cells = (Cell(FLOW, DENY, Verdict.FAIL, "answered", 100, 7 if leak else 100, leak=True), Cell(OPEN, allow(), Verdict.PASS, "allowed"))
    failed = Step(story({SHUT: DENY}, {SHUT: "......"}, limits=CAP_10), Judgement(Verdict.FAIL, "a leak", cells, 0.2), ())
    found = Shrinking(drawn, lambda: worlds.append("one")).shrink(failed)  # type: ignore[arg-type, return-value, func-returns-value]
    return found, said, len(worlds)


def test_the_smallest_set_is_told_with_its_flow(tries: type[Tries]) -> None:
    found, said, worlds = shrink(second=0.01)
    assert isinstance(found, Counterexample)
    assert [one["spec"] for one in found.policies] == [{"ingress": [{"from": [{"podSelector": {}}]}]}]
    assert (found.cell.seen, found.whole, worlds) == ("answered", True, 2)  # one for the tries, one for the judgement
    assert said[0] == f"shrinking, try 1 of at most {TRIES}: 2 policies with 4 rules"
    assert len(said) == found.tries
    assert tries.made == (1.0, 100)


def test_a_leak_that_is_always_there_needs_no_burst(tries: type[Tries]) -> None:
    shrink(leak=False)
    assert tries.made == (1.0, 0)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"shows": staticmethod(lambda _: False)}, "of 1 wrong flows none stayed wrong when they were looked at alone"),
        ({"fails": False}, "which did not fail when it was judged by the whole rule"),
        ({"spoilt": 50}, f"the tries used up {WORLDS} worlds (x/a does not connect)"),
    ],
)
def test_what_cannot_be_shown_is_not_told(
    tries: type[Tries], monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any], said: str
) -> None:
    for name, value in attributes.items():
        monkeypatch.setattr(tries, name, value)
    found, _, worlds = shrink(second=0.01)
    assert isinstance(found, str)
    assert said in found
    assert worlds <= WORLDS


def test_a_spoilt_world_is_replaced(tries: type[Tries], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "spoilt", 1)
    found, _, worlds = shrink(second=0.01)
    assert isinstance(found, Counterexample)
    assert worlds == 3


def test_the_tries_end_with_their_time(tries: type[Tries]) -> None:
    found, said, _ = shrink(second=SECONDS / 8)
    assert tries.made
    assert isinstance(found, Counterexample)
    assert not found.whole
    assert len(said) < 8


def test_a_cluster_that_fails_is_a_sentence(tries: type[Tries], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: Tries, _policies: Policies, _ways: Sequence[Way]) -> tuple[Way, ...]:
        raise TimeoutError("the API is away")

    monkeypatch.setattr(tries, "wrong", broken)
    assert shrink()[0] == "the tries were broken off (TimeoutError: the API is away)"


def test_leaks_are_looked_at_first() -> None:
    lost, leak = Cell(OPEN, allow(), Verdict.FAIL, "timed out"), Cell(SHUT, DENY, Verdict.FAIL, "answered", leak=True)
    fine = Cell(replace(OPEN, source="z/a"), allow(), Verdict.PASS, "allowed")
    assert failing(Judgement(Verdict.FAIL, "", (fine, lost, leak))) == [leak, lost]


@pytest.mark.parametrize(
    ("other", "expected"),
    [("XXXXXX", 1.0), ("..XXXX", 6.0), (".X.XXX", 9.0), (".....X", 10.0)],
    ids=["at once", "after two rounds", "after a relapse", "no longer than the cap"],
)
def test_tries_last_as_long_as_the_rest_of_the_set_took(other: str, expected: float) -> None:
    history = story({SHUT: DENY, OPEN: DENY}, {SHUT: "......", OPEN: other}, limits=CAP_10)
    assert patience(history) == pytest.approx(expected)
    assert patience(replace(history, limits=Limits(cap=90.0))) >= 9.0  # where everything is slow


# what is written


def counterexample(**changed: Any) -> Counterexample:
    cell = Cell(FLOW, Expectation(Decision.DENY, why="x/p2 and no rule"), Verdict.FAIL, "answered by x/b", leak=True)
    values: dict[str, Any] = {
        "policies": (policy("p2", peers=1),),
        "cell": cell,
        "labels": ["x/b has app=db"],
        "tries": 12,
        "seconds": 21.4,
        "whole": True,
    }
    return Counterexample(**values | changed)


def test_a_counterexample_for_people() -> None:
    text = counterexample().text()
    assert text.startswith(
        "the smallest that still fails: 1 policy, 2 rules (12 tries in 21 s; nothing more can be left out)\n\n    apiVersion:"
    )
    assert text.endswith(
        "deny expected, seen: answered by x/b\n    y/a -> x/b TCP/8080 (10.0.0.2)\n    rule: x/p2 and no rule\n    labels: x/b has app=db"
    )
    assert "1 try in" in counterexample(tries=1).text()
    assert "more could perhaps be left out" in counterexample(whole=False).text()


def test_a_counterexample_for_kubectl() -> None:
    text = counterexample(policies=(policy("p1", peers=1), policy("p2", peers=2))).yaml()
    assert list(yaml.safe_load_all(text)) == [policy("p1", peers=1), policy("p2", peers=2)]
    assert "# y/a -> x/b TCP/8080 (10.0.0.2)\n" in text
