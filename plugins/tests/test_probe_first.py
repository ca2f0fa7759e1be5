"""The first instant of a pod, with real packets: what its agent dials before anything else, and who dials it back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from netproof.model.flow import TCP, UDP, Family, Flow
from netproof.model.outcome import Attempt, Outcome, Phase, Round
from netproof.probe.first import FirstInstant
from netproof.probe.fleet import Fleet
from test_probe_net import RUN, TOKEN, Net, needs_namespaces

pytestmark = needs_namespaces

LASTS = 0.5  # seconds


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net("a", "b", "new") as net:
        for name in "ab":
            net.agent(name)
        yield net


@pytest.fixture
def fleet(net: Net) -> Iterator[Fleet]:
    fleet = Fleet(TOKEN, RUN, patience=5)
    fleet.add_many({name: net.dial(name) for name in "ab"}, limit=5)
    yield fleet
    fleet.close()
    net.end("new")


def born(net: Net, fleet: Fleet, instant: FirstInstant, record: Path | None = None) -> tuple[Round, ...]:
    """Start the new pod's agent and collect what it and the others saw."""
    net.agent("new", first=instant.settings("new", init=False, record=str(record or "")))
    fleet.add("new", net.dial("new"), limit=5)
    return instant.collect({("new", Family.IPV4): net.address("new")})


def seen(round_: Round) -> dict[Flow, list[Attempt]]:
    return {probe.flow: list(probe.attempts) for probe in round_.probes}


def outcomes(attempts: list[Attempt]) -> set[Outcome]:
    return {attempt.outcome for attempt in attempts}


def unaddressed(flow: Flow) -> Flow:
    return replace(flow, address="")


def test_a_new_pod_dials_at_once_and_is_dialled_back(net: Net, fleet: Fleet) -> None:
    """Open and closed flows, TCP and UDP, out of the pod and into it: each is tried from its first instruction on, many times over."""
    out, shut, datagram = net.flow("new", "a"), net.flow("new", "b"), net.flow("new", "a", UDP(8080))
    back, unheard = net.flow("a", "new"), net.flow("a", "new", UDP(8081))
    instant = FirstInstant(fleet, [out, shut, datagram], {unaddressed(back): out, unaddressed(unheard): datagram}, lasts=LASTS)
    instant.await_calls()
    with net.rule("new", "b"), net.rule("a", "new", "ipproto", "udp", "dport", "8081"):
        (round_,) = born(net, fleet, instant)
    found = seen(round_)
    assert (round_.phase, fleet.incidents) == (Phase.FIRST, [])
    assert set(found) == {out, shut, datagram, back, unheard}
    assert outcomes(found[shut]) | outcomes(found[unheard]) == {Outcome.TIMED_OUT}
    assert not any(attempt.received for attempt in found[shut] + found[unheard])
    assert {attempt.responder for attempt in found[out] + found[datagram]} == {"a"}
    assert found[back][-1].responder == "new"  # the first ones may have come before it listened
    assert len(found[out]) > 2
    assert found[back][0].began - round_.began < 0.5


def test_it_dials_before_it_binds(net: Net, fleet: Fleet) -> None:
    """Where its control port cannot be had the agent ends, but its first datagram has gone."""
    instant = FirstInstant(fleet, [net.flow("new", "a", UDP(9010))], {}, lasts=LASTS)
    with net.socket("new") as taken, net.socket("a", socket.SOCK_DGRAM) as heard:
        taken.bind(("127.0.0.1", 9600))
        heard.bind(("", 9010))
        net.agent("new", first=instant.settings("new", init=False, record=""))
        assert net.processes["new"].wait(5) != 0
        heard.settimeout(2)
        assert heard.recv(100).startswith(b"np1 " + RUN.encode())


def test_an_init_container_leaves_what_it_saw(net: Net, fleet: Fleet, tmp_path: Path) -> None:
    """It dials and is dialled as the main container is, and has a round of its own; whoever answered in it is the pod."""
    out, shut, back = net.flow("new", "a"), net.flow("new", "b"), net.flow("a", "new")
    instant = FirstInstant(fleet, [out, shut], {unaddressed(back): out}, lasts=LASTS, init_lasts=LASTS)
    instant.await_calls()
    record = tmp_path / "first.json"
    with net.rule("new", "b"):
        net.agent("new", mode="first", first=instant.settings("new", init=True, record=str(record)))
        assert net.processes["new"].wait(10) == 0
        init, main = born(net, fleet, instant, record)
    assert fleet.incidents == []
    assert set(seen(init)) == {out, shut}
    assert outcomes(seen(init)[shut]) == outcomes(seen(main)[shut]) == {Outcome.TIMED_OUT}
    assert seen(init)[out][-1].outcome is Outcome.CONNECTED
    assert init.ended < min(attempt.began for attempt in seen(main)[out])
    inside = [attempt for attempt in seen(main)[back] if attempt.began < init.ended]
    assert {attempt.responder for attempt in inside if attempt.outcome is Outcome.CONNECTED} == {"new"}


def test_a_pod_that_is_not_heard_is_not_dialled(net: Net, fleet: Fleet) -> None:
    out, back = net.flow("new", "a"), unaddressed(net.flow("a", "new"))
    instant = FirstInstant(fleet, [out], {back: out}, lasts=LASTS)
    instant.await_calls()
    with net.rule("new", "a"):
        (round_,) = born(net, fleet, instant)
    assert set(seen(round_)) == {out}
    assert [incident.what for incident in fleet.incidents] == ["new did not reach a, which so could not dial it back"]


def test_a_pod_that_calls_from_elsewhere_is_named(net: Net, fleet: Fleet) -> None:
    """Where its source address is another's on the way, nobody has dialled the pod."""
    out = net.flow("new", "a", TCP(8081))
    instant = FirstInstant(fleet, [out], {unaddressed(net.flow("a", "new")): out}, lasts=LASTS)
    instant.await_calls()
    net.agent("new", first=instant.settings("new", init=False, record=""))
    fleet.add("new", net.dial("new"), limit=5)
    instant.collect({("new", Family.IPV4): "10.97.9.9"})
    assert [incident.what for incident in fleet.incidents] == [
        f"new called a from {net.address('new')}, not from its own address 10.97.9.9"
    ]


def test_an_agent_without_a_first_instant_is_waited_for_in_vain(net: Net, fleet: Fleet) -> None:
    """It is lost to the job, and named."""
    instant = FirstInstant(fleet, [net.flow("new", "a")], {}, lasts=-5.5)
    net.agent("new")
    fleet.add("new", net.dial("new"), limit=5)
    assert instant.collect({}) == ()
    assert [incident.what for incident in fleet.incidents] == ["the agent new did not end what it does first"]
