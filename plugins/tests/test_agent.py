"""The program in the probe pod, without a network: its counters, its logs, its DNS messages, and what it may cost."""

from __future__ import annotations

import hashlib
import socket
import struct
import subprocess
from collections import Counter

import pytest
from netproof.probe import agent
from test_probe_net import AGENT, oldest_python

WEB = ("10.0.0.1", 80, "TCP")


class Clock:
    """Stands for the `time` module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(agent, "time", clock)
    return clock


def test_a_source_port_rests_for_180_seconds(clock: Clock) -> None:
    """Ports of both ranges are used in turn, each once; then there is none until they have rested."""
    ports, taken = agent.SourcePorts((range(100, 130), range(200, 220)), block=10), list[int]()
    with pytest.raises(agent.ExhaustedError, match=r"every source port to 10\.0\.0\.1 TCP/80 was used within 180 s"):
        taken.extend(ports.take(WEB) for _ in range(51))
    assert len(taken) == len(set(taken)) > 40  # the block in which it began at random is not used to its end

    clock.now += 181
    assert {ports.take(WEB) for _ in range(50)} == {*range(100, 130), *range(200, 220)}


def test_no_port_comes_back_early(clock: Clock) -> None:
    """However the attempts fall in time, 180 s lie between two uses of a port."""
    ports, used = agent.SourcePorts((range(100, 130), range(200, 220)), block=10), dict[int, float]()
    for step in range(400):
        clock.now += 3.0 if step % 7 else 11.0
        try:
            port = ports.take(WEB)
        except agent.ExhaustedError:
            continue
        assert clock.now - used.get(port, -1000.0) >= 180
        used[port] = clock.now
    assert len(used) == 50


def test_counters_are_per_destination_and_spare_node_ports() -> None:
    """One destination's attempts cost another none, and no source port is one of the NodePort range."""
    ports = agent.SourcePorts()
    taken = Counter(ports.take(("10.0.0.1", number, "UDP")) for number in range(2000))
    assert not set(taken) & set(range(30000, 32768))
    assert max(taken.values()) < 10


def test_nonces_are_kept_by_round_and_bounded() -> None:
    """The log says which attempts of which flow came; the oldest rounds make room."""
    nonces = agent.Nonces()
    for number in (0, 2, 9):
        nonces.note(b"abc.5.%d" % number)
    assert nonces.seen("abc") == {"5": "205"}

    for index in range(nonces.MOST):
        nonces.note(b"def.%d.0" % index)
    assert nonces.seen("abc") == {}
    assert len(nonces.seen("def")) == nonces.MOST


@pytest.mark.parametrize("nonce", [b"abc.1", b"abc.x.1", b"\xff.1.1"])
def test_a_wrong_nonce_is_none(nonce: bytes) -> None:
    """What is no nonce raises ValueError, which gets no answer."""
    with pytest.raises(ValueError):
        agent.Nonces().note(nonce)


def test_an_attempt_number_is_bounded() -> None:
    """A stranger's huge number costs no memory."""
    nonces = agent.Nonces()
    nonces.note(b"abc.1.%d" % 10**9)
    assert nonces.seen("abc") == {}


def test_a_question_is_what_dns_says() -> None:
    """RFC 1035, 4.1: header, name as labels, type, class; recursion desired."""
    message = agent.query(0x1234, "Web.x.svc.", "AAAA")
    assert message == struct.pack("!6H", 0x1234, 0x0100, 1, 0, 0, 0) + b"\3Web\1x\3svc\0" + struct.pack("!2H", 28, 1)


def test_compressed_names_are_followed_and_loops_end() -> None:
    """RFC 1035, 4.1.4: a pointer stands for the rest of a name; one that points to itself is an error."""
    message = b"\3SVC\0" + b"\3web\xc0\x00" + b"\xc0\x0b"
    assert agent.name_at(message, 5) == ("web.svc", 11)
    with pytest.raises(ValueError, match="never ends"):
        agent.name_at(message, 11)


def test_the_digest_is_sha256() -> None:
    assert agent.sha256("a token") == hashlib.sha256(b"a token").hexdigest()


def test_it_loads_nothing_heavy() -> None:
    """On the oldest Python too, the program comes up without the modules that would cost it megabytes."""
    heavy = ["asyncio", "ssl", "logging", "typing", "hashlib", "hmac", "random", "subprocess", "pathlib", "threading"]
    code = f"import sys; sys.argv = ['agent.py']; exec(open({str(AGENT)!r}).read()); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([oldest_python(), "-I", "-S", "-c", f"{code}"], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr  # without a mode it says how to use it
    code = (
        code.replace("__main__", "program")
        .replace("exec(", "exec(compile(")
        .replace(".read())", ".read(), 'agent.py', 'exec'), {'__name__': 'program'})")
    )
    assert subprocess.run([oldest_python(), "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_name_that_dns_cannot_ask_is_refused() -> None:
    """Before anything has begun, not in the middle of a round."""
    with pytest.raises(ValueError, match="more than 63"):
        agent.Flow(0, "UDP", "10.0.0.1", 53, 0.0, {"names": ["ok", "x" * 64], "type": "A"})


def test_events_of_a_closed_socket_are_nobodys() -> None:
    """A descriptor closed and taken again while a batch of events is handled: the new owner gets none of the old events."""
    loop, seen = agent.Loop(), list[str]()
    (one, end_one), (two, end_two) = socket.socketpair(), socket.socketpair()
    pairs = [end_one, end_two]

    def replace(name: str, other: socket.socket) -> None:
        seen.append(name)
        fd = other.fileno()
        loop.drop(fd)
        other.close()
        pairs.extend(socket.socketpair())
        assert fd in [sock.fileno() for sock in pairs]
        loop.watch(fd, agent.OUT, lambda _mask: seen.append("new"))

    loop.watch(one.fileno(), agent.IN, lambda _mask: replace("one", two))
    loop.watch(two.fileno(), agent.IN, lambda _mask: replace("two", one))
    end_one.send(b"x")
    end_two.send(b"x")
    loop.step()
    assert seen in (["one"], ["two"])
    for sock in [*pairs, one, two]:
        sock.close()
