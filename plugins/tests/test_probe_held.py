"""Connections that last, and ICMP echoes: what attempts see, with real packets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
from netproof.model.flow import TCP, UDP, Family, Flow, Port
from netproof.model.outcome import Attempt, Outcome, Phase
from netproof.probe.fleet import Fleet, Plan
from test_probe_net import RUN, TOKEN, Net, eventually, needs_namespaces

pytestmark = needs_namespaces

QUICK = Plan(timeout=0.3)
HELD = [(protocol(8080), family) for protocol in (TCP, UDP) for family in Family]


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net("a", "b", "c") as net:
        for name in net.pods:
            net.agent(name)
        yield net


@pytest.fixture
def fleet(net: Net) -> Iterator[Fleet]:
    fleet = Fleet(TOKEN, RUN, patience=2)
    fleet.add_many({name: net.dial(name) for name in net.pods}, limit=5)
    yield fleet
    fleet.release()
    fleet.close()


def held(net: Net, port: Port, family: Family = Family.IPV4, *, to: str = "b", number: int = 1) -> Flow:
    return replace(net.flow("a", to, port, family), held=number)


def ask(fleet: Fleet, flow: Flow) -> Attempt:
    """The last attempt of a round on the flow."""
    return fleet.round([flow], Phase.CONTROL, plan=QUICK).probes[0].attempts[-1]


@pytest.mark.parametrize(("port", "family"), HELD)
def test_attempts_share_one_connection(net: Net, fleet: Fleet, port: Port, family: Family) -> None:
    flow = held(net, port, family)
    assert eventually(lambda: ask(fleet, flow).outcome is Outcome.CONNECTED)  # a network that was just made resolves its neighbours
    attempts = [ask(fleet, flow) for _ in range(3)]
    assert {(a.outcome, a.responder, a.source) for a in attempts} == {(Outcome.CONNECTED, "b", net.address("a", family))}
    assert len({a.source_port for a in attempts}) == 1
    assert ask(fleet, replace(flow, held=0)).source_port != attempts[0].source_port


@pytest.mark.parametrize("port", [TCP(8080), UDP(8080)])
def test_connections_of_different_numbers_are_different(net: Net, fleet: Fleet, port: Port) -> None:
    ports = [ask(fleet, held(net, port, number=number)).source_port for number in (1, 2, 1, 2)]
    assert ports[0] == ports[2] != ports[1] == ports[3]


@pytest.mark.parametrize("port", [TCP(8080), UDP(8080)])
def test_a_burst_goes_over_the_connection(net: Net, fleet: Fleet, port: Port) -> None:
    flow = held(net, port)
    before = ask(fleet, flow)
    burst = fleet.burst({flow: 50}, rate=500).probes[0].attempts
    assert {a.outcome for a in burst} == {Outcome.CONNECTED}
    assert ask(fleet, flow).source_port == before.source_port


@pytest.mark.parametrize("port", [TCP(8080), UDP(8080)])
def test_silence_on_the_way_is_seen_and_survived(net: Net, fleet: Fleet, port: Port) -> None:
    flow = held(net, port)
    before = ask(fleet, flow)
    with net.rule("a", "b"):
        assert ask(fleet, flow).outcome is Outcome.TIMED_OUT
    assert eventually(lambda: ask(fleet, flow).outcome is Outcome.CONNECTED)
    assert ask(fleet, flow).source_port == before.source_port


def test_a_connection_whose_peer_ended_is_reset_for_ever(net: Net, fleet: Fleet) -> None:
    flow = held(net, TCP(8080), to="c")
    assert ask(fleet, flow).outcome is Outcome.CONNECTED
    net.agent("c")
    assert eventually(lambda: ask(fleet, replace(flow, held=0)).outcome is Outcome.CONNECTED)
    assert ask(fleet, flow).outcome is Outcome.RESET


def test_a_connection_that_never_stood_is_tried_anew(net: Net, fleet: Fleet) -> None:
    flow = held(net, TCP(8080))
    with net.rule("a", "b"):
        assert ask(fleet, flow).outcome is Outcome.TIMED_OUT
    assert ask(fleet, flow).outcome is Outcome.CONNECTED
    closed = held(net, TCP(9), number=2)
    assert [ask(fleet, closed).outcome for _ in range(2)] == [Outcome.REFUSED, Outcome.REFUSED]


def test_what_is_released_begins_anew(net: Net, fleet: Fleet) -> None:
    flow = held(net, TCP(8080))
    before = ask(fleet, flow)
    fleet.release()
    after = ask(fleet, flow)
    assert (after.outcome, after.source_port == before.source_port) == (Outcome.CONNECTED, False)


def test_a_connection_is_one_runners_own(net: Net, fleet: Fleet) -> None:
    flow = held(net, TCP(8080))
    other = Fleet(TOKEN, RUN, patience=2)
    other.add_many({name: net.dial(name) for name in "ab"}, limit=5)
    try:
        mine, theirs = ask(fleet, flow), ask(other, flow)
        other.release()
        assert theirs.source_port != mine.source_port == ask(fleet, flow).source_port
    finally:
        other.close()


def test_a_stranger_is_not_kept(net: Net, fleet: Fleet) -> None:
    with net.connect("b", 8080) as sock:
        sock.sendall(b"np1 another-run t.0.0 keep\nnp1 another-run t.0.1 keep\n")
        assert sock.recv(4096).count(b"\n") == 1
        sock.sendall(b"np1 another-run t.0.2 keep\n")
        assert sock.recv(4096) == b""


@pytest.mark.parametrize("family", Family)
def test_an_echo_is_answered_or_not(net: Net, fleet: Fleet, family: Family) -> None:
    flow = replace(net.flow("a", "b", UDP(0), family), echo=True)
    _allow_pings(net, "0 0")
    assert eventually(lambda: ask(fleet, flow).outcome is Outcome.CONNECTED)
    assert ask(fleet, flow).responder == "ECHO REPLY"
    with net.rule("a", "b", family=family):
        assert ask(fleet, flow).outcome is Outcome.TIMED_OUT
    with net.rule("a", "b", how="prohibit", family=family):
        assert ask(fleet, flow).outcome is Outcome.UNREACHABLE


def test_where_pods_may_not_ping_that_is_told(net: Net, fleet: Fleet) -> None:
    _allow_pings(net, "1 0")
    attempt = ask(fleet, replace(net.flow("a", "b", UDP(0)), echo=True))
    assert (attempt.outcome, "may not ping" in attempt.detail) == (Outcome.BROKEN, True)


def _allow_pings(net: Net, groups: str) -> None:
    subprocess.run(["ip", "netns", "exec", net.space("a"), "sysctl", "-qw", f"net.ipv4.ping_group_range={groups}"], check=True)
