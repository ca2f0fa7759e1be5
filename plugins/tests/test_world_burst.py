"""Bursts in parts: what the connection tables bear, a soak that waits for them, and its end at the first leak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from netproof.model.flow import TCP, Flow
from netproof.model.history import Decision, Expectation, Limits
from netproof.model.outcome import Attempt, Outcome, Phase, Probe, Round
from netproof.world import burst as module
from netproof.world.budget import Budget
from netproof.world.burst import burst

CLOSED, OPEN = Flow("x/a", "x/b", "10.0.0.2", TCP(80)), Flow("x/a", "y/b", "10.0.0.3", TCP(80))
EXPECTED = {CLOSED: Expectation(Decision.DENY), OPEN: Expectation(Decision.ALLOW)}


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@dataclass
class Agents:
    """Of the attempts on the closed flow, number `leak` connects; 0: none."""

    leak: int = 0
    asked: list[Mapping[Flow, int]] = field(default_factory=list)

    def burst(self, counts: Mapping[Flow, int], **_: Any) -> Round:
        before = sum(part.get(CLOSED, 0) for part in self.asked)
        self.asked.append(dict(counts))
        leaks = before < self.leak <= before + counts.get(CLOSED, 0)
        seen = {CLOSED: Outcome.CONNECTED if leaks else Outcome.TIMED_OUT, OPEN: Outcome.CONNECTED}
        return Round(Phase.BURST, 0.0, 1.0, tuple(Probe(flow, (Attempt(0.0, 0.1, seen[flow]),) * n) for flow, n in counts.items()))


def made(agents: Agents, entries: int, **limits: Any) -> tuple[int, int, int]:
    """Parts, attempts on the closed flow, attempts on the open one."""
    runner: Any = SimpleNamespace(fleet=agents, clock=Clock(), budget=Budget(entries=entries, clock=Clock()))
    rounds = list(burst(runner, EXPECTED, Limits(**limits), {}, lambda *_: None))
    sums = (sum(part.get(flow, 0) for part in agents.asked) for flow in EXPECTED)
    assert {round_.phase for round_ in rounds} == {Phase.BURST}
    return len(rounds), *sums


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)


def test_what_the_tables_have_no_room_for_is_left_out_but_for_one_look() -> None:
    assert made(Agents(), entries=20_000) == (1, 100, 20)
    assert made(Agents(), entries=60) == (1, 50, 10)
    assert made(Agents(), entries=0) == (1, 1, 1)


def test_many_flows_share_a_burst() -> None:
    assert made(Agents(), entries=20_000, burst_denied=10_000, burst_allowed=5_000) == (1, 666, 333)


def test_a_soak_waits_for_room_and_is_whole() -> None:
    parts, closed, open_ = made(Agents(), entries=2_000, burst_denied=3_000, burst_allowed=600, whole=True)
    assert parts > 2
    assert (closed, open_) == (3_000, 600)


def test_a_leak_ends_a_soak() -> None:
    assert made(Agents(leak=1_500), entries=20_000, burst_denied=9_000, burst_allowed=0, whole=True) == (2, 2_000, 0)
