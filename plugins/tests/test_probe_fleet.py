"""The fleet and its agents on a real network of namespaces: what each kind of path looks like, with real packets."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from netproof.model.flow import TCP, UDP, Family, Flow, Port, Protocol, Question
from netproof.model.outcome import Attempt, Outcome, Phase, Probe, Round
from netproof.probe.fleet import AgentLost, AgentRefused, AgentUnreachable, Fleet, Plan
from netproof.probe.stream import Channel
from test_probe_net import AGENT, RUN, TOKEN, Net, all_ports, eventually, needs_namespaces

pytestmark = needs_namespaces

QUICK = Plan(timeout=0.3)  # where something is denied, and how long that takes is not what is tested
CLOCKS = 0.1  # seconds by which a time of an agent may be off on our clock: half a ping's way, on a busy machine
Serve = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net("a", "b", "c", "d") as net:
        for name in "abc":
            net.agent(name)
        yield net


@pytest.fixture(scope="module")
def fleet(net: Net) -> Iterator[Fleet]:
    fleet = Fleet(TOKEN, RUN, patience=5)
    fleet.add_many({name: net.dial(name) for name in "abc"}, limit=5)
    yield fleet
    fleet.close()


def outcomes(round_: Round) -> dict[Flow, set[Outcome]]:
    return {probe.flow: {attempt.outcome for attempt in probe.attempts} for probe in round_.probes}


def seen(fleet: Fleet, flow: Flow, plan: Plan | None = None) -> Probe:
    return fleet.round([flow], Phase.CONTROL, **({"plan": plan} if plan else {})).probes[0]


class Stub:
    """A server of the tests inside a pod: a thread that handles one socket with `serve` until it is closed."""

    def __init__(self, net: Net, pod: str, port: Port, serve: Serve) -> None:
        kind = socket.SOCK_STREAM if port.protocol is Protocol.TCP else socket.SOCK_DGRAM
        self.sock = net.socket(pod, kind)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("", port.number))
        if port.protocol is Protocol.TCP:
            self.sock.listen()
        threading.Thread(target=self._run, args=(serve,), daemon=True).start()

    def _run(self, serve: Serve) -> None:
        try:
            while True:
                serve(self.sock)
        except OSError:
            return

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.sock.type == socket.SOCK_STREAM:
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def answer(line: bytes, who: str = "x/stub") -> bytes:
    """What an agent would answer to a client's line."""
    return b"np1 %b %b uid-stub node-1 boot-stub 1.2.3.4 5\n" % (line.split()[2], who.encode())


# --- paths -------------------------------------------------------------------------------------------------------------------


def test_an_open_network_connects(net: Net, fleet: Fleet) -> None:
    """TCP and UDP, IPv4 and IPv6: one attempt each, the right responder, the source address as the responder saw it."""
    flows = [flow for source in "abc" for destination in "abc" for flow in all_ports(net, source, destination)]
    round_ = fleet.round(flows, Phase.CONTROL)
    assert [probe.flow for probe in round_.probes] == flows
    assert round_.ended - round_.began < 0.95  # a time-out was not waited for
    for probe in round_.probes:
        attempt = probe.attempts[-1]
        assert (attempt.outcome, attempt.responder, attempt.received) == (Outcome.CONNECTED, probe.flow.destination, True), probe
        assert attempt.source == net.address(probe.flow.source, probe.flow.family) or probe.flow.source == probe.flow.destination
        assert round_.began - CLOCKS <= attempt.began <= attempt.began + attempt.took <= round_.ended + CLOCKS


def test_every_kind_of_failure_has_its_outcome(net: Net, fleet: Fleet) -> None:
    """In one round of a second: dropped, refused, unreachable and open flows, each seen as what it is."""
    expected = {
        net.flow("a", "b", TCP(8081)): Outcome.TIMED_OUT,
        net.flow("a", "b", UDP(8081)): Outcome.TIMED_OUT,
        net.flow("a", "b", TCP(8081), Family.IPV6): Outcome.TIMED_OUT,
        net.flow("a", "b", TCP(7000)): Outcome.REFUSED,
        net.flow("a", "b", UDP(7000)): Outcome.REFUSED,
        net.flow("a", "b", TCP(7000), Family.IPV6): Outcome.REFUSED,
        net.flow("a", "c", TCP(8081)): Outcome.UNREACHABLE,
        net.flow("b", "c", UDP(8081)): Outcome.UNREACHABLE,  # from b: five such errors a source are sent at once, then one a second
        Flow("c", "nowhere", "10.99.0.1", TCP(80)): Outcome.UNREACHABLE,
        net.flow("a", "b"): Outcome.CONNECTED,
        net.flow("b", "a", TCP(8081)): Outcome.CONNECTED,
    }
    with (
        net.rule("a", "b", "ipproto", "tcp", "dport", "8081"),
        net.rule("a", "b", "ipproto", "udp", "dport", "8081"),
        net.rule("a", "b", "ipproto", "tcp", "dport", "8081", family=Family.IPV6),
        net.rule("a", "c", "ipproto", "tcp", "dport", "8081", how="prohibit"),
        net.rule("b", "c", "ipproto", "udp", "dport", "8081", how="prohibit"),
    ):
        round_ = fleet.round(list(expected), Phase.CANDIDATE)
    found = outcomes(round_)
    for flow, outcome in expected.items():  # a router limits its own errors: of three attempts one may go without
        assert found[flow] - ({Outcome.TIMED_OUT} if outcome is Outcome.UNREACHABLE else set()) == {outcome}, flow
    assert 0.95 < round_.ended - round_.began < 2.5
    dropped = round_.probes[0].attempts
    assert len(dropped) == 3
    assert not any(attempt.received for attempt in dropped)
    assert all(0.9 <= attempt.took < 2 for attempt in dropped)
    assert all(attempt.began - round_.began > offset - CLOCKS for attempt, offset in zip(dropped, (0.0, 0.05, 0.1), strict=True))


def test_who_accepts_without_our_answer_is_silent(net: Net, fleet: Fleet) -> None:
    """A connection that stands proves no agent: nothing, something else, an end, a reset are told apart."""

    held: list[socket.socket] = []

    def hold(listener: socket.socket) -> None:
        held.append(listener.accept()[0])

    def talk(listener: socket.socket) -> None:
        hold(listener)
        held[-1].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    def end(listener: socket.socket) -> None:
        sock = listener.accept()[0]
        sock.recv(100)
        sock.close()

    def reset(listener: socket.socket) -> None:
        sock = listener.accept()[0]
        sock.recv(100)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def babble(sock: socket.socket) -> None:
        sock.sendto(b"\xffhello", sock.recvfrom(100)[1])

    with (
        Stub(net, "b", TCP(9001), hold),
        Stub(net, "b", TCP(9002), talk),
        Stub(net, "b", TCP(9003), end),
        Stub(net, "b", TCP(9004), reset),
        Stub(net, "b", UDP(9005), babble),
    ):
        flows = [net.flow("a", "b", port) for port in (TCP(9001), TCP(9002), TCP(9003), TCP(9004), UDP(9005))]
        ends = [probe.attempts[0] for probe in fleet.round(flows, Phase.CANDIDATE, plan=QUICK).probes]
    told = [(end.outcome.value, end.detail) for end in ends]
    assert told == [
        ("silent", "no valid answer"),
        ("silent", r"no valid answer, but 'HTTP/1.1 400 Bad Request\r\n\r\n'"),
        ("silent", "closed without a valid answer"),
        ("reset", "Connection reset by peer after the connection was accepted"),
        ("silent", r"no valid answer, but '\\xffhello'"),
    ]


def test_the_responder_is_named(net: Net, fleet: Fleet) -> None:
    """Another agent of the fleet, a stranger, a restarted and a dropped agent: each answer says who it was."""
    to_c = Flow("a", "b", net.address("c"), TCP(8080))
    to_d = net.flow("a", "d")
    assert seen(fleet, to_c).attempts[0].responder == "c"

    net.agent("d")
    fleet.add("d", net.dial("d"), limit=5)
    fleet.drop("d")
    assert seen(fleet, to_d).attempts[0].responder == "d (dropped)"
    fleet.add("d", net.dial("d"), limit=5)
    assert seen(fleet, to_d).attempts[0].responder == "d"
    net.agent("d")
    assert eventually(lambda: seen(fleet, to_d).attempts[-1].responder == "d (restarted)")
    fleet.drop("d")
    assert seen(fleet, to_d).attempts[0].responder == "test/d (not ours)"
    net.end("d")


def test_a_datagram_without_a_way_back_was_received(net: Net, fleet: Fleet) -> None:
    """UDP one-way: the client times out, the nonce stands in the destination's log."""
    with net.rule("b", "a", "ipproto", "udp", "sport", "8080"):
        attempts = seen(fleet, net.flow("a", "b", UDP(8080)), QUICK).attempts
    assert [(attempt.outcome, attempt.received) for attempt in attempts] == [(Outcome.TIMED_OUT, True)] * 3
    assert attempts[0].detail == "its nonce was received by b"


def test_a_lost_datagram_is_made_good_by_the_next(net: Net, fleet: Fleet) -> None:
    """Of three staggered attempts one is enough; the unanswered one is told, and not judged."""
    lines: list[bytes] = []

    def every_second(sock: socket.socket) -> None:
        line, peer = sock.recvfrom(200)
        lines.append(line)
        if len(lines) > 1:
            sock.sendto(answer(line), peer)

    with Stub(net, "b", UDP(9010), every_second):
        (attempt,) = seen(fleet, net.flow("a", "b", UDP(9010))).attempts
    assert (attempt.outcome, attempt.responder, attempt.took < 0.5) == (Outcome.CONNECTED, "x/stub (not ours)", True)
    assert "attempt 1 had no answer after 0." in attempt.detail
    assert len(lines) in (2, 3)  # the third went out where the answer to the second was slow


def test_late_answers_are_measured(net: Net, fleet: Fleet) -> None:
    """A slow datagram, and a connection whose SYN was dropped and sent again: `took` says how late."""

    def slow(sock: socket.socket) -> None:
        line, peer = sock.recvfrom(200)
        threading.Timer(0.6, lambda: sock.sendto(answer(line), peer)).start()

    with Stub(net, "b", UDP(9011), slow):
        attempt = seen(fleet, net.flow("a", "b", UDP(9011))).attempts[-1]
        time.sleep(0.15)
    assert (attempt.outcome, 0.6 <= attempt.took < 0.95) == (Outcome.CONNECTED, True), attempt

    found: list[Probe] = []
    with net.rule("a", "b", "ipproto", "tcp", "dport", "8080"):
        thread = threading.Thread(target=lambda: found.append(seen(fleet, net.flow("a", "b"), Plan((0.0,), 3.0))))
        thread.start()
        time.sleep(0.1)
    thread.join()
    assert (found[0].attempts[0].outcome, 0.95 < found[0].attempts[0].took < 2.5) == (Outcome.CONNECTED, True), found


def test_a_slow_accept_is_no_late_connection(net: Net, fleet: Fleet) -> None:
    """The connection stood at once, the server took its time: `took` is of the connection, the rest is told."""

    def slow(listener: socket.socket) -> None:
        sock = listener.accept()[0]
        line = sock.recv(200)
        time.sleep(0.6)
        sock.sendall(answer(line))
        sock.recv(1)

    with Stub(net, "b", TCP(9012), slow):
        attempt = seen(fleet, net.flow("a", "b", TCP(9012)), Plan((0.0,))).attempts[0]
    assert (attempt.outcome, attempt.took < 0.5) == (Outcome.CONNECTED, True)
    assert "answered 0.6" in attempt.detail


def test_flows_can_be_spaced(net: Net, fleet: Fleet) -> None:
    """A round for refusals: a single attempt a flow, one flow after another."""
    flows = [net.flow(source, "c", TCP(7000)) for source in "ab"] + [net.flow("a", "b", TCP(7000))]
    round_ = fleet.round(flows, Phase.CANDIDATE, plan=Plan((0.0,), 3.0, spacing=0.1))
    began = [probe.attempts[0].began - round_.began for probe in round_.probes]
    assert outcomes(round_) == {flow: {Outcome.REFUSED} for flow in flows}
    assert all(planned - CLOCKS < at < planned + 1 for at, planned in zip(began, (0.0, 0.1, 0.2), strict=True))


def test_source_ports_count_up_per_destination(net: Net, fleet: Fleet) -> None:
    """Each attempt takes the next port; different destinations are counted apart."""
    flows = [net.flow("a", "b", TCP(8081)), net.flow("a", "c", TCP(8081))]
    rounds = [fleet.round(flows, Phase.CONTROL) for _ in range(5)]
    for position in range(2):
        ports = [round_.probes[position].attempts[-1].source_port for round_ in rounds]
        assert ports == sorted(set(ports)), ports
        assert ports[-1] - ports[0] <= 15


def test_sctp_is_broken_where_the_kernel_has_none(net: Net, fleet: Fleet) -> None:
    """A protocol that the kernel lacks is no denial."""
    attempt = seen(fleet, net.flow("a", "b", Protocol.SCTP(8080))).attempts[0]
    if Path("/proc/net/sctp").exists():
        assert attempt.outcome is Outcome.REFUSED
    else:
        assert (attempt.outcome, attempt.detail) == (Outcome.BROKEN, "Protocol not supported")


# --- starvation --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stopped(net: Net, name: str) -> Iterator[None]:
    """The agent gets no processor meanwhile."""
    net.processes[name].send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        net.processes[name].send_signal(signal.SIGCONT)


def stop_for(net: Net, name: str, seconds: float, spans: list[tuple[float, float]]) -> None:
    """`spans` gets from when to when it was, at least: who stops others may have to wait for a processor itself."""
    with stopped(net, name):
        began = time.monotonic()
        time.sleep(seconds)
        spans.append((began, time.monotonic()))


def met(span: tuple[float, float], attempt: Attempt) -> float:
    """Seconds of the attempt's time that fall into the span."""
    return min(span[1], attempt.began + attempt.took) - max(span[0], attempt.began)


@pytest.mark.parametrize(("seconds", "proves"), [(0.35, True), (0.65, False)])
@pytest.mark.parametrize("name", ["a", "b"])
def test_starvation_at_either_end_is_known(net: Net, fleet: Fleet, name: str, seconds: float, proves: bool) -> None:  # noqa: FBT001
    """An agent that got no processor for most of an attempt proves nothing by its silence, at either end of the flow."""
    denied, elsewhere = net.flow("a", "b", UDP(8081)), net.flow("c", "d", UDP(8081))
    with net.rule("a", "b", "ipproto", "udp", "dport", "8081"), net.rule("c", "d", "ipproto", "udp", "dport", "8081"):
        fleet.round([denied, elsewhere], Phase.CANDIDATE)  # from here on it is known what their queues spill

        def stopped_meanwhile() -> tuple[Attempt, ...] | None:
            """The attempts, where all of the stop, and no more than was meant, fell into each of them."""
            spans: list[tuple[float, float]] = []
            timer = threading.Timer(0.15, stop_for, [net, name, seconds, spans])
            timer.start()
            probes = {probe.flow: probe.attempts for probe in fleet.round([denied, elsewhere], Phase.CANDIDATE).probes}
            timer.join()
            return probes[denied] if all(abs(met(spans[0], tried) - seconds) < 0.05 for tried in probes[denied]) else None

        attempts = next(filter(None, (stopped_meanwhile() for _ in range(20))), ())
    assert [(attempt.outcome, attempt.starved) for attempt in attempts] == [(Outcome.TIMED_OUT, not proves)] * 3


def test_what_waits_in_a_queue_is_told_as_received(net: Net, fleet: Fleet) -> None:
    """An agent that is asked what it received reads first what came before the question."""
    flows = [net.flow("a", "b", UDP(8081)), net.flow("a", "b", TCP(8080))]
    net.processes["b"].send_signal(signal.SIGSTOP)
    timer = threading.Timer(1.5, net.processes["b"].send_signal, [signal.SIGCONT])
    timer.start()
    tried = [attempt for probe in fleet.round(flows, Phase.CANDIDATE).probes for attempt in probe.attempts]
    timer.join()
    assert [(attempt.received, attempt.starved) for attempt in tried] == [(True, True)] * 6
    assert all(attempt.outcome is not Outcome.CONNECTED for attempt in tried)


def _there(sock: socket.socket) -> bytes:
    try:
        return sock.recv(200)
    except BlockingIOError:
        return b""


def test_an_answer_that_lies_there_is_no_timeout(net: Net, fleet: Fleet) -> None:
    """A client that was stopped over its own time-out finds the connection when it wakes, and knows when it stood."""

    def late(listener: socket.socket) -> None:
        sock = listener.accept()[0]
        with stopped(net, "a"):
            time.sleep(1.1)
            sock.settimeout(0)
            line = _there(sock)
            sock.settimeout(None)
            if line:
                sock.sendall(answer(line))
        if not line:  # it was stopped before it noticed that the connection stood
            sock.sendall(answer(sock.recv(200)))
        sock.recv(1)

    with Stub(net, "b", TCP(9013), late):
        attempt = seen(fleet, net.flow("a", "b", TCP(9013)), Plan((0.0,))).attempts[0]
    assert (attempt.outcome, attempt.took < 0.6) == (Outcome.CONNECTED, True), attempt


# --- DNS ---------------------------------------------------------------------------------------------------------------------

NAMES = {
    ("web.x.svc.", 1): [bytes([10, 96, 0, 11]), bytes([10, 96, 0, 2])],
    ("web.x.svc.", 28): [socket.inet_pton(socket.AF_INET6, "fd00:0:0::7")],
    ("web.x.svc.", 33): [struct.pack("!3H", 0, 100, 80) + b"\3Web\1x\3svc\0"],
    ("2.0.96.10.in-addr.arpa.", 12): [b"\3web\1x\3svc\0"],
    ("empty.", 1): [],
    ("broken.", 1): 2,
    ("big.", 1): "TC",
}


def reply(message: bytes) -> bytes:
    """A tiny DNS server's answer."""
    labels, offset = [], 12
    while message[offset]:
        labels.append(message[offset + 1 : offset + 1 + message[offset]])
        offset += 1 + message[offset]
    name, (kind,) = b".".join(labels).decode().lower() + ".", struct.unpack_from("!H", message, offset + 1)
    found = NAMES.get((name, kind), 3)
    data = found if isinstance(found, list) else []
    flags = 0x8180 | (found if isinstance(found, int) else 0) | (0x0200 if found == "TC" else 0)
    records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 5, len(item)) + item for item in data)
    return message[:2] + struct.pack("!5H", flags, 1, len(data), 0, 0) + message[12 : offset + 5] + records


def serve_udp(sock: socket.socket) -> None:
    message, peer = sock.recvfrom(512)
    sock.sendto(reply(message), peer)


def serve_tcp(listener: socket.socket) -> None:
    threading.Thread(target=serve_connection, args=(listener.accept()[0],), daemon=True).start()


def serve_connection(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the agent closes by reset
        while head := sock.recv(2):
            message = reply(sock.recv(struct.unpack("!H", head)[0]))
            sock.sendall(struct.pack("!H", len(message)) + message)


def test_dns_answers_are_canonical(net: Net, fleet: Fleet) -> None:
    """A, AAAA, SRV, PTR, no such name, no record, failure, cut short, over UDP and TCP, and a search list walked in order."""
    expected = {
        ("A", "web.x.svc"): "NOERROR A 10.96.0.11 10.96.0.2",
        ("AAAA", "web.x.svc."): "NOERROR AAAA fd00::7",
        ("SRV", "web.x.svc"): "NOERROR SRV 0 100 80 web.x.svc",
        ("PTR", "2.0.96.10.in-addr.arpa"): "NOERROR PTR web.x.svc",
        ("A", "nobody"): "NXDOMAIN",
        ("A", "empty"): "NOERROR A",
        ("A", "broken"): "SERVFAIL",
        ("A", "big"): "TC",
        ("A", "web.y.svc", "web.x.svc", "web"): "NOERROR A 10.96.0.11 10.96.0.2",
        ("A", "nobody", "empty", "nothing"): "NOERROR A",
        ("A", "empty", "broken"): "NOERROR A",
    }
    flows = {
        net.flow("a", "b", port, question=Question(names, type_)): answer
        for (type_, *names_), answer in expected.items()
        for names in [tuple(names_)]
        for port in (UDP(5353), TCP(5353))
    }
    with Stub(net, "b", UDP(5353), serve_udp), Stub(net, "b", TCP(5353), serve_tcp):
        round_ = fleet.round(list(flows), Phase.CONTROL)
    assert {probe.flow: probe.attempts[-1].responder for probe in round_.probes} == flows
    walked = next(probe for probe in round_.probes if probe.flow.question and probe.flow.question.names[0] == "web.y.svc")
    assert walked.attempts[-1].detail.startswith("asked web.x.svc")


def test_a_dns_server_that_is_away(net: Net, fleet: Fleet) -> None:
    """No answer to a question is what no answer to any datagram is."""
    asked = Question(("web",), "A")
    flows = [net.flow("a", "b", UDP(7053), question=asked), net.flow("a", "b", UDP(8081), question=asked)]
    with net.rule("a", "b", "ipproto", "udp", "dport", "8081"):
        round_ = fleet.round(flows, Phase.CONTROL, plan=QUICK)
    assert outcomes(round_) == {flows[0]: {Outcome.REFUSED}, flows[1]: {Outcome.TIMED_OUT}}


# --- listeners and what agents know of themselves ------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("ss"), reason="ending a listener of another process needs `ss`")
def test_an_agent_rests_when_a_listener_was_ended(net: Net, fleet: Fleet) -> None:
    """The kernel tells of such a socket for ever; who heeded it would take a whole processor."""
    fleet.add("d", net.agent("d", ports=("TCP/8080",)), limit=5)
    subprocess.run(["ip", "netns", "exec", net.space("d"), "ss", "-K", "state", "listening", "( sport = :8080 )"], check=True)
    assert eventually(lambda: bool(fleet.own(["d"])["d"]))
    spent = Path(f"/proc/{net.processes['d'].pid}/schedstat")
    before, began = int(spent.read_text().split()[0]), time.monotonic()
    time.sleep(0.5)
    assert int(spent.read_text().split()[0]) - before < (time.monotonic() - began) * 1e9 / 4
    fleet.drop("d")
    net.end("d")


def test_own_listeners(net: Net, fleet: Fleet) -> None:
    """Listeners that answer are not named; one that could not be opened is, where its port is asked for."""
    assert fleet.own(["a", "b", "c"]) == {"a": [], "b": [], "c": []}
    with Stub(net, "d", TCP(8080), lambda listener: listener.accept()[0].close()):
        net.agent("d", ports=("TCP/8080", "UDP/8080"))
        fleet.add("d", net.dial("d"), limit=5)
        told = [fleet.own(["d"], ports)["d"] for ports in (None, [TCP(8080)])]
        assert fleet.own(["d"], [UDP(8080)]) == {"d": []}
    # Closed or reset: that hangs on whether the stranger had read what was sent to it.
    assert [[dead.partition(": ")[0] for dead in each] for each in told] == [["TCP/8080 on 127.0.0.1"]] * 2
    fleet.drop("d")
    net.end("d")
    assert fleet.own(["d"]) == {"d": ["there is no agent d"]}


def test_ports_open_and_close(net: Net, fleet: Fleet) -> None:
    """What a readiness probe needs."""
    flow = net.flow("a", "b", TCP(9601))
    fleet.listen("b", TCP(9601))
    assert seen(fleet, flow).attempts[-1].outcome is Outcome.CONNECTED
    fleet.unlisten("b", TCP(9601))
    assert seen(fleet, flow, Plan((0.0,))).attempts[-1].outcome is Outcome.REFUSED
    with (
        Stub(net, "b", TCP(9602), lambda listener: listener.accept()[0].close()),
        pytest.raises(AgentRefused, match="Address already in use"),
    ):
        fleet.listen("b", TCP(9602))
    fleet.unlisten("b", TCP(9602))


def test_resolver_and_memory(fleet: Fleet) -> None:
    nameservers = [line.split()[1] for line in Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver")]
    assert list(fleet.resolver("a").nameservers) == nameservers
    assert 4_000 < fleet.memory("a").pss < 20_000


# --- bursts and watches ------------------------------------------------------------------------------------------------------


def test_a_burst_tells_every_attempt(net: Net, fleet: Fleet) -> None:
    """Allowed and denied flows, paced; a moment's leak is found with its time; attempts that ended alike share one object."""
    open_, denied = net.flow("a", "b"), net.flow("c", "b", UDP(8081))
    with net.rule("c", "b", "ipproto", "udp", "dport", "8081"):
        round_ = fleet.burst({open_: 40, denied: 60}, rate=400)
    attempts = {probe.flow: probe.attempts for probe in round_.probes}
    assert (round_.phase, len(attempts[open_]), len(attempts[denied])) == (Phase.BURST, 40, 60)
    assert {attempt.outcome for attempt in attempts[open_]} == {Outcome.CONNECTED}
    assert {(attempt.outcome, attempt.received) for attempt in attempts[denied]} == {(Outcome.TIMED_OUT, False)}
    assert len({id(attempt) for attempt in attempts[denied]}) < 5
    assert 1.0 < round_.ended - round_.began < 3.0  # 0.25 s of attempts, and the last one's time-out


def test_a_burst_finds_a_leak(net: Net, fleet: Fleet) -> None:
    """Where a few of many attempts get through they are told in full, and one-way leaks are told by the receiver."""
    flow, one_way = net.flow("a", "b", UDP(8081)), net.flow("c", "b", UDP(8081))
    with net.rule("b", "c", "ipproto", "udp", "sport", "8081"):
        thread = threading.Thread(target=lambda: rounds.append(fleet.burst({flow: 200, one_way: 50}, rate=250)))
        rounds: list[Round] = []
        with net.rule("a", "b", "ipproto", "udp", "dport", "8081"):
            thread.start()
            time.sleep(0.3)
        time.sleep(0.05)
        with net.rule("a", "b", "ipproto", "udp", "dport", "8081"):
            thread.join()
    attempts = {probe.flow: probe.attempts for probe in rounds[0].probes}
    leaked = [attempt for attempt in attempts[flow] if attempt.outcome is Outcome.CONNECTED]
    assert 0 < len(leaked) < 150
    assert len(attempts[flow]) == 200
    assert all(attempt.responder == "b" and attempt.source_port and attempt.began - rounds[0].began > 0.25 for attempt in leaked)
    assert {(attempt.outcome, attempt.received) for attempt in attempts[one_way]} == {(Outcome.TIMED_OUT, True)}


def test_a_watch_sees_a_change(net: Net, fleet: Fleet) -> None:
    """Attempts every 50 ms through a change: the first right and the last wrong lie on one clock with the change's return."""
    flow, still = net.flow("a", "b", UDP(8081)), net.flow("c", "b")
    rule = net.rule("a", "b", "ipproto", "udp", "dport", "8081")
    rule.__enter__()

    def settled(attempts: Mapping[Flow, list[Attempt]]) -> bool:
        return [attempt.outcome for attempt in attempts[flow][-3:]] == [Outcome.CONNECTED] * 3

    watched = fleet.watch([flow, still], lambda: rule.__exit__(None, None, None), settle=settled, limit=3)
    assert watched.settled
    right = [attempt.began for attempt in watched.attempts[flow] if attempt.outcome is Outcome.CONNECTED]
    wrong = [attempt.began for attempt in watched.attempts[flow] if attempt.outcome is not Outcome.CONNECTED]
    assert len(wrong) >= 3
    assert watched.called - 0.06 < min(right) < watched.changed + 0.5
    assert max(wrong) < watched.changed + 0.01
    assert {attempt.outcome for attempt in watched.attempts[still]} == {Outcome.CONNECTED}
    starts = [attempt.began for attempt in watched.attempts[still]]
    assert 0.045 < statistics.median(later - earlier for earlier, later in itertools.pairwise(starts)) < 0.07


def test_a_watch_stops_when_the_change_fails(net: Net, fleet: Fleet) -> None:
    def change() -> None:
        raise RuntimeError("the API said no")

    with pytest.raises(RuntimeError, match="said no"):
        fleet.watch([net.flow("a", "b")], change, settle=lambda _: True, limit=1)


# --- streams -----------------------------------------------------------------------------------------------------------------


class Cut:
    """A channel that a test can cut."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.cut = threading.Event()

    def send(self, data: bytes) -> None:
        self.channel.send(data)

    def receive(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.cut.is_set():
                raise ConnectionResetError("cut by the test")
            if data := self.channel.receive(0.02):
                return data
        return b""

    def close(self) -> None:
        self.channel.close()


def test_a_round_outlives_its_stream(net: Net) -> None:
    """A stream cut in the middle of a round: it is dialled again, and the same round is told, run once."""
    made: list[Cut] = []

    def dial() -> Channel:
        made.append(Cut(net.dial("a")()))
        return made[-1]

    fleet, flow = Fleet(TOKEN, RUN, patience=5), net.flow("a", "c", UDP(8081))
    fleet.add("a", dial, limit=5)
    with net.rule("a", "c", "ipproto", "udp", "dport", "8081"):
        before = seen(fleet, flow, QUICK).attempts[-1].source_port
        threading.Timer(0.3, made[0].cut.set).start()
        attempts = seen(fleet, flow).attempts
    assert len(made) == 2
    assert [attempt.source_port - before for attempt in attempts] == [1, 2, 3]
    assert seen(fleet, flow).attempts[-1].source_port - before in (4, 5)
    assert fleet.incidents == []
    fleet.close()


def test_two_runners_share_an_agent(net: Net, fleet: Fleet) -> None:
    """Sessions are apart: equal numbers of two runners are two rounds."""
    other = Fleet(TOKEN, RUN)
    other.add("a", net.relay("a"), limit=5)
    assert seen(other, net.flow("a", "b")).attempts[-1].responder == "test/b (not ours)"
    assert seen(fleet, net.flow("a", "b")).attempts[-1].responder == "b"
    other.close()


def test_an_agent_that_is_gone_is_an_incident(net: Net, fleet: Fleet) -> None:
    """Its flows are broken, others are judged, nothing is raised; then it is known to be gone and costs no more patience."""
    net.agent("d")
    short = Fleet(TOKEN, RUN, patience=2)
    short.add_many({"a": net.dial("a"), "d": net.dial("d")}, limit=5)
    flows = [net.flow("d", "b"), net.flow("a", "b")]
    net.end("d")
    assert outcomes(short.round(flows, Phase.CONTROL)) == {flows[0]: {Outcome.BROKEN}, flows[1]: {Outcome.CONNECTED}}
    (incident,) = short.incidents
    assert incident.what.startswith("d is out of reach: ")
    began = time.monotonic()
    short.round(flows, Phase.CONTROL)
    assert time.monotonic() - began < 1.8
    with pytest.raises(AgentLost, match="d is out of reach"):
        short.resolver("d")

    net.agent("d")
    assert eventually(lambda: "restarted" in str(short.round(flows, Phase.CONTROL).probes[0].attempts[0].detail))
    short.close()
    net.end("d")


def test_a_wrong_token_opens_nothing(net: Net) -> None:
    """The agent closes without a word, and the error names the agent and what happened."""
    with pytest.raises(AgentUnreachable, match=r"the agent a did not answer within 0\.\d s; at last: the far end closed the stream"):
        Fleet("another token", RUN).add("a", net.dial("a"), limit=0.3)
    with pytest.raises(AgentUnreachable, match="expected run run-2"):
        Fleet(TOKEN, "run-2").add("a", net.dial("a"), limit=5)


def test_missing_agents_are_all_named(net: Net) -> None:
    """Two of three are away: both are named after one limit's time, the third is there."""
    fleet, began = Fleet(TOKEN, RUN), time.monotonic()
    with pytest.raises(AgentUnreachable, match=r"2 of 3 agents are missing: the agent d .* refused; the agent e "):
        fleet.add_many({"a": net.dial("a"), "d": net.dial("d"), "e": net.dial("d")}, limit=1)
    assert time.monotonic() - began < 1.9  # not one after the other
    assert list(fleet.identities) == ["a"]
    fleet.close()


def test_an_agent_ends_without_its_runner(net: Net) -> None:
    """Every word keeps it alive; after `silence` seconds without one it ends by itself, code 0."""
    dial = net.agent("d", silence=0.6)
    fleet = Fleet(TOKEN, RUN)
    fleet.add("d", dial, limit=5)
    for _ in range(3):
        time.sleep(0.25)
        fleet.memory("d")
    assert net.processes["d"].wait(2) == 0
    fleet.close()


def test_a_terminated_agent_ends_at_once(net: Net) -> None:
    net.agent("d")
    assert eventually(lambda: _open(net, "d"))
    net.processes["d"].terminate()
    assert net.processes["d"].wait(1) == 0


def _open(net: Net, name: str) -> bool:
    try:
        net.connect(name).close()
    except OSError:
        return False
    return True


# --- strangers ---------------------------------------------------------------------------------------------------------------


def test_strangers_get_nothing(net: Net, fleet: Fleet) -> None:
    """No answer to a wrong line, no control port on the pod network, and a crowd exhausts nothing."""
    sock = net.socket("c")
    sock.connect((net.address("b"), 8080))
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert sock.recv(100) == b""
    assert seen(fleet, net.flow("a", "b", TCP(9600)), Plan((0.0,))).attempts[0].outcome is Outcome.REFUSED

    def crowd() -> list[socket.socket]:
        return [socket.create_connection((net.address("b"), 8080), 2) for _ in range(1100)]

    before, crowded = fleet.memory("b").rss, net.inside("c", crowd)
    assert seen(fleet, net.flow("a", "b")).attempts[-1].responder == "b"
    assert fleet.memory("b").rss - before < 4000
    for one in crowded:
        one.close()


@pytest.mark.skipif(not shutil.which("setpriv"), reason="there is no `setpriv` command (util-linux)")
def test_no_privileges_are_needed(net: Net, fleet: Fleet, tmp_path: Path) -> None:
    """As nobody, without capabilities, with nothing to write to, an agent serves and probes."""
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else ""
    place = Path("/tmp") / f"netproof-agent-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        program = shutil.copy(AGENT, place)
        dropped = (
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--no-new-privs",
        )
        fleet.add("d", net.agent("d", python=python, wrap=dropped, path=Path(program)), limit=5)
        status = Path(f"/proc/{net.processes['d'].pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert outcomes(fleet.round([net.flow("d", "a"), net.flow("a", "d", UDP(8080))], Phase.CONTROL)).popitem()[1] == {Outcome.CONNECTED}
        assert fleet.own(["d"]) == {"d": []}
    finally:
        shutil.rmtree(place)
        fleet.drop("d")
        net.end("d")


def test_the_relay_ends_with_its_agent(net: Net) -> None:
    """An exec'd relay carries bytes and does not stay behind."""
    net.agent("d")
    assert eventually(lambda: _open(net, "d"))
    command = ["ip", "netns", "exec", net.space("d"), sys.executable, "-I", str(AGENT), "relay", "9600"]
    relay = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert relay.stdin is not None
    assert relay.stdout is not None
    relay.stdin.write(json.dumps({"op": "hello", "id": 1, "token": TOKEN, "session": "s"}).encode() + b"\n")
    assert json.loads(relay.stdout.readline())["pod"] == "test/d"
    net.end("d")
    assert relay.wait(2) == 0
