"""A stream to an agent whose trouble is scripted: absent API servers, dead and slow streams, agents that are gone or others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from netproof.model.flow import TCP, Flow
from netproof.model.outcome import Outcome, Phase
from netproof.probe.fleet import Fleet
from netproof.probe.stream import AgentLost, AgentRefused, AgentUnreachable, Channel, Identity, Setting, Stream

Answer = dict[str, Any]


class Time:
    """A clock that runs only while somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("netproof.probe.stream.time.sleep", self.sleep)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Agent:
    """An agent of the tests: answers by `work`, whose None is silence; `delay` is added to every answer."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.boot, self.run, self.delay, self.ahead = "boot-1", "run", 0.0, 1000.0
        self.work: Callable[[Answer], Answer | None] = lambda _message: {}
        self.messages: list[Answer] = []
        self.dials = 0
        self.refuse: Exception | None = None

    def dial(self) -> Channel:
        self.dials += 1
        if self.refuse:
            raise self.refuse
        return Wire(self)

    def answer(self, message: Answer) -> Answer | None:
        self.messages.append(message)
        if message["op"] == "hello":
            identity = {"pod": "ns/a", "uid": "uid", "node": "n", "boot": self.boot, "python": "3"}
            return {**identity, "run": self.run, "protocol": 1}
        return {"clock": self.time.now + self.ahead} if message["op"] == "ping" else self.work(message)

    def ops(self) -> list[str]:
        return [message["op"] for message in self.messages]


class Wire:
    """One connection to it."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.waiting, self.cut = agent, b"", False

    def send(self, data: bytes) -> None:
        if self.cut:
            raise BrokenPipeError("cut")
        for line in data.splitlines():
            message = json.loads(line)
            answer = self.agent.answer(message)
            if answer is not None:
                self.waiting += json.dumps({"id": message["id"], **answer}).encode() + b"\n"

    def receive(self, timeout: float) -> bytes:
        if self.cut:
            raise ConnectionResetError("cut")
        self.agent.time.sleep(self.agent.delay if self.waiting else timeout)
        data, self.waiting = self.waiting[:7], self.waiting[7:]  # in pieces, as streams have it
        return data

    def close(self) -> None:
        self.cut = True


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def agent(time: Time) -> Agent:
    return Agent(time)


def opened(agent: Agent, alive: Callable[[], bool] = lambda: True) -> Stream:
    stream = Stream("a", agent.dial, Setting("token", "run", "session", agent.time, alive, 60.0))
    assert stream.open() == Identity("ns/a", "uid", "n", "boot-1", "3")
    return stream


def test_clocks_are_compared(agent: Agent) -> None:
    """The agent's clock on ours, half the way there and half the way back."""
    stream = opened(agent)
    assert stream.offset == pytest.approx(-1000.0)


def test_clocks_are_compared_again_when_it_is_long_ago(agent: Agent, time: Time) -> None:
    stream = opened(agent)
    agent.ahead, time.now = 1001.0, time.now + 30
    stream.ask("memory")
    assert stream.offset == pytest.approx(-1001.0)


def test_a_refusal_is_told(agent: Agent) -> None:
    stream = opened(agent)
    agent.work = lambda _message: {"error": "TCP/80: Permission denied"}
    with pytest.raises(AgentRefused, match="a: TCP/80: Permission denied"):
        stream.ask("listen", port="TCP/80")


def test_while_the_api_is_away_the_stream_is_kept(agent: Agent, time: Time) -> None:
    """No answer, and the API server does not answer either: it is waited for, and the old stream goes on."""
    stream = opened(agent, alive=lambda: time.now > 130)
    silent: list[Answer] = []
    agent.work = lambda message: silent.append(message)
    number = stream.post("round")

    wire = stream._channel
    assert isinstance(wire, Wire)
    original = wire.receive

    def receive(timeout: float) -> bytes:
        if time.now > 130 and not wire.waiting and silent:
            wire.waiting = json.dumps({"id": silent.pop()["id"], "fine": True}).encode() + b"\n"
        return original(timeout)

    wire.receive = receive  # type: ignore[method-assign]
    assert stream.collect(number, 6)["fine"]
    assert (agent.dials, agent.ops().count("round")) == (1, 1)


def test_a_stream_that_died_in_silence_is_dialled_again(agent: Agent) -> None:
    """No answer though the API is there: dialled again, and the same request sent with its number."""
    stream = opened(agent)
    agent.work = lambda _message: {} if agent.dials > 1 else None
    number = stream.post("round", nonce="n")
    stream.collect(number, 6)
    assert agent.dials == 2
    assert [message["id"] for message in agent.messages if message["op"] == "round"] == [number, number]


def test_patience_ends(agent: Agent, time: Time) -> None:
    """After a minute of refused dials the agent is lost; from then on one dial tells, until it is back."""
    stream, began = opened(agent), time.now
    agent.work = lambda _message: None
    agent.refuse = ConnectionRefusedError("refused")
    with pytest.raises(AgentLost, match="a is out of reach: refused"):
        stream.ask("memory")
    assert 60 <= time.now - began < 70
    dials = agent.dials
    with pytest.raises(AgentLost):
        stream.ask("memory")
    assert agent.dials == dials + 1
    agent.refuse, agent.work = None, lambda _message: {"pss": 1}
    assert stream.ask("memory")["pss"] == 1


def test_a_pod_that_is_gone_costs_no_patience(agent: Agent, time: Time) -> None:
    """A dial that says 404 is believed at once."""
    stream, began = opened(agent), time.now
    agent.refuse = Exception("pods x/a not found")
    agent.refuse.status = 404  # type: ignore[attr-defined]
    stream.close()
    with pytest.raises(AgentLost, match="a is out of reach: pods x/a not found"):
        stream.ask("memory")
    assert time.now - began < 1


def test_an_agent_that_restarted_is_another(agent: Agent) -> None:
    """What it knew of the round is gone with it."""
    stream = opened(agent)
    stream.close()
    agent.boot = "boot-2"
    for _ in range(2):
        with pytest.raises(AgentLost, match="the agent a restarted"):
            stream.ask("memory")
    assert agent.dials == 2


def test_the_heartbeat_speaks_only_into_silence(agent: Agent, time: Time) -> None:
    """A ping after 15 s without a word; a broken stream is dialled again."""
    stream = opened(agent)
    agent.messages.clear()
    stream.beat()
    assert agent.messages == []
    time.now += 16
    stream.beat()
    assert agent.ops() == ["ping"]
    stream.close()
    time.now += 16
    stream.beat()
    assert agent.dials == 2


def test_a_long_wait_keeps_the_agent_awake(agent: Agent, time: Time) -> None:
    """A job of two minutes: the agent hears a ping every 15 s."""
    stream, began = opened(agent), time.now
    agent.work = lambda _message: None
    number = stream.post("watch")
    agent.refuse = ConnectionRefusedError("refused")
    with pytest.raises(AgentLost):
        stream.collect(number, 120)
    assert time.now - began > 120
    assert 7 <= agent.ops().count("ping") - 1 <= 9


def test_another_run_is_not_ours(agent: Agent, time: Time) -> None:
    """An agent of another run: no second try."""
    agent.run = "other"
    with pytest.raises(AgentUnreachable, match="the agent there is of run other, protocol 1; expected run run, protocol 1"):
        Fleet("token", "run", clock=time).add("a", agent.dial, limit=60)
    assert agent.dials == 1


def test_what_is_no_agent_is_told(agent: Agent, time: Time) -> None:
    """Something else listens there."""

    class Talker(Wire):
        def receive(self, timeout: float) -> bytes:
            return b"SSH-2.0-OpenSSH\r\n"

    with pytest.raises(AgentUnreachable, match="not an agent's answer: b'SSH-2"):
        Fleet("token", "run", clock=time).add("a", lambda: Talker(agent), limit=0.2)


def test_a_round_without_an_agent_is_broken(time: Time) -> None:
    """A flow from nobody: no exception, a broken attempt and an incident."""
    fleet = Fleet("token", "run", clock=time)
    (probe,) = fleet.round([Flow("a", "b", "10.0.0.1", TCP(80))], Phase.CONTROL).probes
    assert (probe.attempts[0].outcome, probe.attempts[0].detail) == (Outcome.BROKEN, "there is no agent a in the fleet")
    assert [incident.what for incident in fleet.incidents] == ["there is no agent a in the fleet"]
