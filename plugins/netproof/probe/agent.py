"""The program in a probe pod: answers on the pod network, and probes other pods for the runner that speaks to its loopback port.

    python3 agent.py serve            the pod's main process
    python3 agent.py first            an init container: dial, serve the ports, and end
    python3 agent.py relay [PORT]     standard input and output <-> the agent's control port, for `kubectl exec`

One file, standard library only, Python 3.9 and later, no privileges; nothing is written but by `first`. Configured by the environment:
NETPROOF_AGENT is JSON, {"run", "token_sha256", "control": 9600, "ports": ["TCP/8080", ...], "silence": 120}; NETPROOF_POD
("namespace/name"), NETPROOF_UID and NETPROOF_NODE come from the downward API. With NETPROOF_FIRST, JSON too ({"nonce", "flows", "every",
"limit", "timeout", "record"}), the agent dials these flows before it does anything else, and goes on for `limit` seconds. `first` leaves
what it saw in the file `record`, whence the agent of the main container takes it to tell it together with its own.

On the pod network it only answers: a client's line `np1 RUN NONCE` gets `np1 NONCE POD UID NODE BOOT ADDRESS PORT` (who answers, and
from where it saw the client come), anything else gets nothing. A nonce is TOKEN.FLOW.ATTEMPT, numbers in decimal. `keep` as a fourth
word of a client of our run asks for more answers on the same connection.

On loopback it takes JSON lines, each with an `id` that the answer repeats; `hello` with the run's token must be the first. `round`,
`burst`, `watch` and `return` are jobs, numbered within the session that the hello names: a number sent again, after a reconnect, attaches
to that job or gets its result once more, and never runs it twice. Times are seconds of the agent's monotonic clock. Attempts on a flow
that names a connection to be held share it; `release` ends those whose names begin so.
"""

from __future__ import annotations

import collections
import errno
import heapq
import json
import os
import select
import socket
import struct
import sys
import time

TYPE_CHECKING = False  # `typing` itself would cost memory
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

PROTOCOL = 1
GREETING = b"np1 "
LONGEST_LINE = 256  # on the pod network
LONGEST_MESSAGE = 4 << 20  # on the control port
GUESTS = 1024  # accepted connections at once; the oldest makes room
KEPT = 64  # of them that ask again and again
KEEP = b" keep"  # the end of a line of such a client
KEPT_PATIENCE = 300.0  # how long one may be silent
HELD = 256  # connections that our own attempts share
RUNNERS = 64  # control connections at once
PATIENCE = 3.0  # how long a stranger may take for the first line
GRACE = 0.25  # for the answer, where a connection stood only just before its time was over, or we noticed it late
TICK = 0.05  # what a lag is measured to, while a job runs: of those that starve an attempt each is three times as long
# The same for who only answers: agents mostly wait, and 80 of them must not keep a node busy with that. What comes in while we are
# away stays there, so silence takes far longer lags than these.
RESTING_TICK = 0.2
CHORES_EVERY = 1.0  # seconds, at a tick: nobody is woken for them
NOTABLE_LAG = 0.05
CATCHING_UP = 0.5  # until what came in so far is read, before it is told what did
PORT_REST = 180.0  # no 5-tuple again within this
# No NodePorts: where the agent is on the node's network, a data plane may take an answer to such a port for a new connection.
PORTS = (range(10240, 30000), range(32768, 65536))
BLOCK = 1024
SCTP = getattr(socket, "IPPROTO_SCTP", 132)
TRANSPORT = {
    "TCP": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "UDP": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "SCTP": (socket.SOCK_STREAM, SCTP),
}
IP_PKTINFO = 8  # Python names it since 3.14
IN, OUT, BAD = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP

CONNECTED, SILENT, TIMED_OUT, BROKEN = "connected", "silent", "timed-out", "broken"
REFUSED, RESET, UNREACHABLE = "refused", "reset", "unreachable"
OUTCOME = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: RESET,
    errno.ECONNABORTED: RESET,
    errno.EPIPE: RESET,
    errno.ETIMEDOUT: TIMED_OUT,
    errno.ENETUNREACH: UNREACHABLE,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.EACCES: UNREACHABLE,  # administratively prohibited
    errno.EPERM: UNREACHABLE,  # an egress hook dropped what we send
    errno.ENETDOWN: UNREACHABLE,
    errno.EHOSTDOWN: UNREACHABLE,
    errno.ENOPROTOOPT: UNREACHABLE,  # ICMP: protocol unreachable
    errno.EINVAL: UNREACHABLE,  # a blackhole route of our own kernel
}


# --- the loop ----------------------------------------------------------------------------------------------------------------


class Timer:
    """A call to come; `cancel` makes it none."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Sockets and timers in one thread. `now` is when the events at hand were found; `lags` when the loop was away for long."""

    def __init__(self) -> None:
        self.poller = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.timers: list[tuple[float, int, Timer]] = []
        self.serial = 0
        self.stopped = False
        self.now = time.monotonic()
        self.due = self.now + RESTING_TICK
        self.jobs = 0  # under way: attempts of our own
        self.chores: list[Callable[[], None]] = []
        self.chores_every, self.chores_due = CHORES_EVERY, self.now
        self.gone: set[int] = set()  # descriptors dropped since the last poll: its events may not be for their next owners
        self.lags: collections.deque[tuple[float, float]] = collections.deque(maxlen=256)
        self.idle = False  # nothing had come in when we last looked
        self.curious: list[tuple[float, Callable[[], None]]] = []  # who waits for that, and until when at most

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        self.serial += 1
        timer = Timer(call)
        heapq.heappush(self.timers, (when, self.serial, timer))
        return timer

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        if fd in self.handlers:
            self.poller.modify(fd, events)
        else:
            self.poller.register(fd, events)
        self.handlers[fd] = handler

    def drop(self, fd: int) -> None:
        if self.handlers.pop(fd, None):
            self.poller.unregister(fd)
            self.gone.add(fd)

    def run(self) -> None:
        while not self.stopped:
            self.step()

    def step(self) -> None:
        """Events before timers: what came in while we were away is seen before anybody's time is called over."""
        ahead = min(self.due, self.timers[0][0] if self.timers else self.due) - time.monotonic()
        self.gone.clear()
        events = self.poller.poll(0.0 if self.curious else max(0.0, ahead))
        self.now, self.idle = time.monotonic(), not events
        self.tick()
        for fd, mask in events:
            handler = self.handlers.get(fd)
            if handler and fd not in self.gone:
                guarded(handler, mask)
        self.expire()
        if self.curious:
            self.catch_up()

    def when_idle(self, call: Callable[[], None], *, within: float) -> None:
        """Call it once all that came in is read, or when the time is over: `idle` says which."""
        self.curious.append((time.monotonic() + within, call))

    def catch_up(self) -> None:
        ready = [call for until, call in self.curious if self.idle or self.now >= until]
        self.curious = [waiting for waiting in self.curious if waiting[1] not in ready]
        for call in ready:
            guarded(call)

    def tick(self) -> None:
        """The tick measures lag: of a busy loop, and of a process that got no processor."""
        if self.now < self.due:
            return
        if self.now - self.due > NOTABLE_LAG:
            self.lags.append((self.due, self.now))
        self.due = self.now + (TICK if self.jobs else RESTING_TICK)
        if self.now >= self.chores_due:
            self.chores_due = self.now + self.chores_every
            for chore in self.chores:
                guarded(chore)

    def begin_job(self) -> None:
        """From now on a lag is measured finely."""
        self.jobs += 1
        self.due = min(self.due, time.monotonic() + TICK)

    def end_job(self) -> None:
        self.jobs -= 1

    def expire(self) -> None:
        """Due timers, for 5 ms at most: sockets that became ready meanwhile must not wait for hundreds of new attempts."""
        started = now = time.monotonic()
        while self.timers and self.timers[0][0] <= now and now - started < 0.005:
            timer = heapq.heappop(self.timers)[2]
            if timer.call:
                guarded(timer.call)
                now = time.monotonic()

    def lagged(self, since: float) -> list[tuple[float, float]]:
        """The lags that ended after `since`, as (from, to), the present one too."""
        now = time.monotonic()
        present = [(self.due, now)] if now - self.due > NOTABLE_LAG else []
        return [lag for lag in self.lags if lag[1] >= since] + present


def guarded(call: Callable[..., None], *args: Any) -> None:
    """One peer's trouble must not end the agent."""
    try:
        call(*args)
    except Exception as error:  # it goes to the pod's log
        print("netproof agent:", repr(error), file=sys.stderr, flush=True)


# --- what is served on the pod network ---------------------------------------------------------------------------------------


class Nonces:
    """Which attempts of which round came in: a bit mask a flow, bounded, the oldest rounds are forgotten first."""

    MOST = 4096
    LAST_ATTEMPT = 16384

    def __init__(self) -> None:
        self.rounds: dict[str, dict[int, int]] = {}
        self.size = 0

    def note(self, nonce: bytes) -> None:
        token, flow, attempt = nonce.decode("ascii").split(".")
        index, number = int(flow), int(attempt)
        if not 0 <= number < self.LAST_ATTEMPT or len(token) > 32:
            return
        masks = self.rounds.setdefault(token, {})
        self.size += index not in masks
        masks[index] = masks.get(index, 0) | 1 << number
        if self.size > self.MOST:
            self.size -= len(self.rounds.pop(next(iter(self.rounds))))

    def seen(self, token: str) -> dict[str, str]:
        """For each flow of the round the mask of its received attempts, hexadecimal."""
        return {str(index): format(mask, "x") for index, mask in self.rounds.get(token, {}).items()}


class Guest:
    """An accepted connection of the pod network, until it has its answer."""

    def __init__(self, sock: socket.socket, peer: tuple[Any, ...], born: float) -> None:
        self.sock, self.peer, self.born, self.data, self.kept = sock, peer, born, b"", False


class Server:
    """The listeners, and who answers in whose name."""

    def __init__(self, loop: Loop, run: str, identity: list[str]) -> None:
        self.loop, self.nonces, self.identity, self.run = loop, Nonces(), identity, run.encode()
        self.words = " ".join(word or "-" for word in identity).encode()
        self.listeners: dict[str, list[socket.socket]] = {}
        self.guests: dict[int, Guest] = {}
        self.callers: dict[str, Callable[[int, str], None]] = {}  # token -> who wants to know of a nonce's flow and source address
        self.kept: dict[int, Guest] = {}
        loop.chores.append(self.sweep)

    def listen(self, port: str) -> str:
        """Serve `TCP/8080` on every family there is; "" or what went wrong. The port counts as ours either way, until unlisten."""
        if self.listeners.get(port):
            return ""
        protocol, number = port.split("/")
        self.listeners[port], errors = [], []
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                self.listeners[port].append(self.bound(protocol, family, int(number)))
            except OSError as error:
                if family == socket.AF_INET or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    errors.append(f"{port}: {os.strerror(error.errno or 0)}")
        return "; ".join(errors)

    def bound(self, protocol: str, family: int, number: int) -> socket.socket:
        kind, proto = TRANSPORT[protocol]
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, proto)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.prepare(sock, family)
            sock.bind(("", number))
            if kind == socket.SOCK_STREAM:
                sock.listen(1024)
        except OSError:
            sock.close()
            raise
        self.loop.watch(sock.fileno(), IN, lambda mask: self.heed(sock, mask))
        return sock

    def heed(self, sock: socket.socket, mask: int) -> None:
        """What a listener has for us. One that somebody ended would say so for ever: nothing comes to it any more."""
        if sock.type == socket.SOCK_DGRAM:
            self.datagrams(sock)
        elif mask & BAD:
            self.loop.drop(sock.fileno())
        else:
            self.accept(sock)

    def prepare(self, sock: socket.socket, family: int) -> None:
        if sock.type != socket.SOCK_DGRAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return
        # No SO_REUSEADDR here: our own client sockets, which set it, could then take this port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def unlisten(self, port: str) -> None:
        for sock in self.listeners.pop(port, []):
            self.loop.drop(sock.fileno())
            sock.close()

    def answer(self, line: bytes, peer: tuple[Any, ...]) -> bytes:
        """The answer to a client's line, b"" to a stranger's. Another run's client is answered too: it must learn whom it reached."""
        words = line.split(b" ")
        if len(words) < 3 or words[0] != b"np1" or words[2].count(b".") != 2:
            return b""
        address = str(peer[0]).split("%")[0]
        if words[1] == self.run:
            self.nonces.note(words[2])
            if self.callers:
                self.called(words[2].decode(), address)
        return b"np1 %b %b %b %d\n" % (words[2], self.words, address.encode(), peer[1])

    def called(self, nonce: str, address: str) -> None:
        token, flow, _attempt = nonce.split(".")
        if token in self.callers:
            self.callers[token](int(flow), address)

    def accept(self, listener: socket.socket) -> None:
        for _ in range(64):
            try:
                sock, peer = listener.accept()
            except OSError:  # nothing more, or gone already
                return
            sock.settimeout(0)
            guest = Guest(sock, peer, self.loop.now)
            self.guests[sock.fileno()] = guest
            self.loop.watch(sock.fileno(), IN, lambda _mask, guest=guest: self.read(guest))  # type: ignore[misc]
            if len(self.guests) > GUESTS:
                self.dismiss(next(iter(self.guests.values())))

    def read(self, guest: Guest) -> None:
        """The first line gets an answer; then the client closes, by reset, so that neither end keeps the connection in TIME_WAIT."""
        try:
            data = guest.sock.recv(16 * LONGEST_LINE if guest.kept else LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if guest.kept or self.stays(guest, data):
            self.converse(guest, data)
            return
        answered, guest.data = guest.data.endswith(b"\n"), (guest.data + data)[:LONGEST_LINE]
        if not data or answered:
            self.dismiss(guest)
        elif b"\n" in guest.data:
            guest.data = guest.data.split(b"\n")[0] + b"\n"
            self.reply(guest)
        elif len(guest.data) == LONGEST_LINE:
            self.dismiss(guest)

    def stays(self, guest: Guest, data: bytes) -> bool:
        """Whether a client's first line is one of our run's that asks for more answers; it is kept then."""
        words, newline, _rest = (guest.data + data).partition(b"\n")
        if guest.data.endswith(b"\n") or not (newline and words.endswith(KEEP) and words.split(b" ")[1:2] == [self.run]):
            return False
        del self.guests[guest.sock.fileno()]
        self.kept[guest.sock.fileno()], guest.kept = guest, True
        if len(self.kept) > KEPT:
            self.dismiss(next(iter(self.kept.values())))
        return True

    def converse(self, guest: Guest, data: bytes) -> None:
        """Every line gets an answer, until the client closes or says what we don't understand."""
        *lines, guest.data = (guest.data + data).split(b"\n")
        guest.born = self.loop.now
        try:
            answers = [self.answer(line, guest.peer) for line in lines]
            if not data or not all(answers) or len(guest.data) > LONGEST_LINE:
                raise ValueError
            guest.sock.send(b"".join(answers))
        except (OSError, ValueError):
            self.dismiss(guest)

    def reply(self, guest: Guest) -> None:
        try:
            answer = self.answer(guest.data[:-1], guest.peer)
            if not answer:
                raise ValueError
            guest.sock.send(answer)
        except (OSError, ValueError):
            self.dismiss(guest)

    def dismiss(self, guest: Guest) -> None:
        fd = guest.sock.fileno()
        if self.guests.pop(fd, None) or self.kept.pop(fd, None):
            self.loop.drop(fd)
            guest.sock.close()

    def sweep(self) -> None:
        """A chore: who has been here too long goes."""
        for guest in list(self.guests.values()):
            if guest.born > self.loop.now - PATIENCE:
                break
            self.dismiss(guest)
        for guest in [guest for guest in self.kept.values() if guest.born < self.loop.now - KEPT_PATIENCE]:
            self.dismiss(guest)

    def datagrams(self, sock: socket.socket) -> None:
        for _ in range(64):
            try:
                data, extra, _flags, peer = sock.recvmsg(LONGEST_LINE, 64)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error to an earlier answer
                continue
            try:
                answer = self.answer(data.rstrip(b"\n"), peer)
            except ValueError:
                continue
            if answer:
                self.send(sock, answer, extra, peer)

    def send(self, sock: socket.socket, answer: bytes, extra: list[tuple[int, int, bytes]], peer: tuple[Any, ...]) -> None:
        """Answer from the address that was asked: an agent on a node's network has several."""
        try:
            sock.sendmsg([answer], [turned(*item) for item in extra], 0, peer)
        except OSError:
            try:
                sock.sendto(answer, peer)
            except OSError:
                return  # no way back: the client sees silence, and `seen` tells the rest


def turned(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """The packet information of a received datagram as that of its answer; the route may choose the interface."""
    if level == socket.IPPROTO_IP:
        return level, kind, struct.pack("=I4s4s", 0, data[8:12], b"\0\0\0\0")
    return level, kind, data[:16] + (data[16:20] if data[:1] == b"\xfe" else b"\0\0\0\0")


# --- attempts ----------------------------------------------------------------------------------------------------------------


class ExhaustedError(Exception):
    """No source port towards this destination has rested long enough."""


class SourcePorts:
    """A counter a destination, so that no 5-tuple is used again within 180 s: old connection tracking entries would answer for it."""

    def __init__(self, ranges: tuple[range, range] = PORTS, block: int = BLOCK) -> None:
        self.low, self.high = ranges
        self.block, self.count = block, len(self.low) + len(self.high)
        self.counters: dict[tuple[str, int, str], list[Any]] = {}  # destination -> [next, {block: when it was last left}, last use]

    def take(self, destination: tuple[str, int, str]) -> int:
        now = time.monotonic()
        counter = self.counters.get(destination) or self.fresh(destination, now)
        position: int = counter[0]
        left: dict[int, float] = counter[1]
        block = position // self.block
        if position % self.block == 0 and now - left.get(block, -PORT_REST) < PORT_REST:
            raise ExhaustedError(f"every source port to {destination[0]} {destination[2]}/{destination[1]} was used within {PORT_REST:g} s")
        counter[0], left[block], counter[2] = (position + 1) % self.count, now, now
        return self.low[position] if position < len(self.low) else self.high[position - len(self.low)]

    def fresh(self, destination: tuple[str, int, str], now: float) -> list[Any]:
        """A new counter; those that have rested are forgotten when there are many. It starts at random: the agent may have restarted."""
        if len(self.counters) >= 1024:
            self.counters = {key: counter for key, counter in self.counters.items() if now - counter[2] < PORT_REST}
        start = int.from_bytes(os.urandom(4), "big") % self.count
        return self.counters.setdefault(destination, [start, {}, now])


class Flow:
    """Where the packets go, what is asked there, and by which name the connection is known, where attempts share one."""

    def __init__(
        self,
        index: int,
        protocol: str,
        address: str,
        port: int,
        delay: float = 0.0,
        question: dict[str, Any] | None = None,
        held: str = "",
    ) -> None:
        self.index, self.protocol, self.port, self.delay = index, protocol, port, delay
        self.lead(address)
        self.names: list[str] = question["names"] if question else []
        self.type: str = question["type"] if question else ""
        self.held = held
        for name in self.names:
            query(0, name, self.type)  # raises before anything has begun

    def lead(self, address: str) -> None:
        """Send the packets there."""
        self.address = address
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET


class Attempt:
    """One socket towards one flow. `done(attempt)` is called once; then `outcome`, `took`, `who` and `detail` say how it ended."""

    def __init__(self, agent: Agent, flow: Flow, number: int, token: str, done: Callable[[Attempt], None]) -> None:
        self.agent, self.flow, self.number, self.done = agent, flow, number, done
        self.nonce = f"{token}.{flow.index}.{number}".encode()
        self.began = self.took = 0.0
        self.linked: float | None = None  # when the connection stood
        self.greeted = 0.0  # when we had noticed and sent our line
        self.data = self.came = b""
        self.outcome = self.detail = self.source = ""
        self.who: Any = None
        self.port = 0
        self.sock: socket.socket | None = None
        self.timer: Timer | None = None

    def start(self, timeout: float) -> None:
        self.began = time.monotonic()
        try:
            self.open()
        except OSError as error:
            self.failed(error.errno or 0)
        except ExhaustedError as error:
            self.finish(BROKEN, str(error))
        if self.sock:
            self.timer = self.agent.loop.at(self.began + timeout, self.expired)

    def open(self) -> None:
        kind, proto = TRANSPORT[self.flow.protocol]
        for _ in range(8):
            sock = socket.socket(self.flow.family, kind | socket.SOCK_NONBLOCK, proto)
            if self.connect(sock, stream=kind == socket.SOCK_STREAM):
                return
        self.finish(BROKEN, f"no source port could be taken in eight tries, the last was {self.port}")

    def connect(self, sock: socket.socket, *, stream: bool) -> bool:
        """Begin to connect from the next source port; False where something else of this machine has it. Raises OSError."""
        try:
            self.port = self.agent.ports.take((self.flow.address, self.flow.port, self.flow.protocol))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that different destinations can share a source port
            if stream:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by reset
            sock.bind(("", self.port))
            self.began = time.monotonic()
            code = sock.connect_ex((self.flow.address, self.flow.port))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except OSError as error:
            sock.close()
            if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                return False
            raise
        except ExhaustedError:
            sock.close()
            raise
        self.sock = sock
        self.agent.loop.watch(sock.fileno(), OUT if stream else IN, self.event)
        if not stream:
            self.send(self.greeting())
        return True

    def greeting(self) -> bytes:
        return b"np1 %b %b\n" % (self.agent.server.run, self.nonce)

    def send(self, data: bytes) -> None:
        try:
            if self.sock:
                self.sock.send(data)
        except OSError as error:
            self.failed(error.errno or 0)

    def event(self, mask: int) -> None:
        if self.sock and self.flow.protocol != "UDP" and self.linked is None:
            self.link()
        elif self.sock and mask & (IN | BAD):
            self.receive()

    def link(self) -> None:
        """The connection stands, or failed."""
        assert self.sock is not None
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.failed(code)
            return
        self.linked = self.linked_at()
        self.agent.loop.watch(self.sock.fileno(), IN, self.event)
        self.send(self.greeting())
        self.greeted = time.monotonic()

    def linked_at(self) -> float:
        """When the connection stood. However late we look, the kernel knows when the peer's last packet came."""
        now = self.agent.loop.now
        if self.flow.protocol != "TCP" or now - self.began < NOTABLE_LAG or not self.sock:
            return now
        try:
            (ago,) = struct.unpack_from("=I", self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 56)
        except (OSError, struct.error):
            return now
        return min(now, max(self.began, time.monotonic() - float(ago) / 1000))

    def receive(self) -> None:
        assert self.sock is not None
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            self.failed(error.errno or 0)
            return
        if data or self.flow.protocol == "UDP":
            self.came = self.came or data[:40]
            self.data = data if self.flow.protocol == "UDP" else self.data + data[:4096]
            self.heard()
        else:
            self.finish(SILENT, f"closed without a valid answer{self.instead()}")

    def heard(self) -> None:
        """Look at what came in; anything but our own protocol is no answer."""
        line, newline, _more = self.data.partition(b"\n")
        if not newline or not line.startswith(b"np1 %b " % self.nonce):
            return
        text = line.decode("ascii", "replace").split(" ")
        if len(text) != 8:
            return
        self.who, self.source = tuple(["" if word == "-" else word for word in text[2:6]]), text[6]
        self.finish(CONNECTED, "" if text[7] == str(self.port) else f"seen from port {text[7]}")

    def expired(self) -> None:
        """The time is over, unless the answer lies there and only we are late."""
        assert self.sock is not None
        ready = select.poll()
        ready.register(self.sock, select.POLLIN | select.POLLOUT if self.waiting() else select.POLLIN)
        for _fd, mask in ready.poll(0):
            self.agent.loop.now = time.monotonic()
            self.event(mask)
        if not self.sock:
            return
        if self.linked is not None and time.monotonic() - self.greeted < GRACE:
            self.timer = self.agent.loop.at(self.greeted + GRACE, self.expired)
        elif self.linked is not None or self.came:
            self.finish(SILENT, f"no valid answer{self.instead()}")
        else:
            self.finish(TIMED_OUT)

    def waiting(self) -> bool:
        return self.flow.protocol != "UDP" and self.linked is None

    def instead(self) -> str:
        return f", but {self.came.decode('ascii', 'backslashreplace')!r}" if self.came else ""

    def failed(self, code: int) -> None:
        outcome = OUTCOME.get(code, BROKEN)
        self.finish(outcome, f"{os.strerror(code)}{' after the connection was accepted' if self.linked is not None else ''}")

    def finish(self, outcome: str, detail: str = "") -> None:
        """`took` runs to the answer; for a connection to when it stood: that is what a retransmission could have made late."""
        if self.outcome:
            return
        answered = self.agent.loop.now if outcome == CONNECTED else time.monotonic()
        ended = self.linked if outcome == CONNECTED and self.linked is not None else answered
        self.took = max(0.0, ended - self.began)
        if outcome == CONNECTED and answered - ended > NOTABLE_LAG:
            detail = f"{detail + ', ' if detail else ''}answered {answered - ended:.3f} s after the connection stood"
        self.outcome, self.detail = outcome, detail
        self.close()
        self.done(self)

    def close(self) -> None:
        if self.timer:
            self.timer.cancel()
        if self.sock:
            self.agent.loop.drop(self.sock.fileno())
            self.sock.close()
            self.sock = None


class Held(Attempt):
    """A connection that lasts: exchanges share it, until it is released or breaks. One that broke stays so."""

    def __init__(self, agent: Agent, flow: Flow) -> None:
        super().__init__(agent, flow, 0, "", lambda _made: None)
        self.asked: dict[bytes, Exchange] = {}  # by nonce, those without an answer yet

    def take(self, exchange: Exchange) -> None:
        """Send an exchange's line: at once, or when the connection stands."""
        self.asked[exchange.nonce] = exchange
        if self.outcome:
            exchange.finish(self.outcome, self.detail)
        elif self.sock is None:
            self.begin()
        elif not self.waiting():
            self.send(exchange.greeting())
        exchange.port = self.port

    def begin(self) -> None:
        try:
            self.open()
        except OSError as error:
            self.finish(OUTCOME.get(error.errno or 0, BROKEN), os.strerror(error.errno or 0))
        except ExhaustedError as error:
            self.finish(BROKEN, str(error))
        if self.sock and self.flow.protocol == "TCP":
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def greeting(self) -> bytes:
        return b"".join(exchange.greeting() for exchange in self.asked.values())

    def receive(self) -> None:
        assert self.sock is not None
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.failed(error.errno or 0)
            return
        if not data and self.flow.protocol != "UDP":
            self.finish(RESET, "the peer closed the connection")
            return
        *lines, self.data = (self.data + data).split(b"\n")
        for line in lines:
            exchange = self.asked.get(line.split(b" ")[1] if line.startswith(GREETING) else b"")
            if exchange:
                exchange.data = line + b"\n"
                exchange.heard()

    def look(self) -> None:
        """Read what lies there, and is not read yet because we are late."""
        ready = select.poll()
        if self.sock:
            ready.register(self.sock, select.POLLIN)
        for _fd, mask in ready.poll(0):
            self.agent.loop.now = time.monotonic()
            self.event(mask)

    def leave(self, exchange: Exchange) -> None:
        """An exchange is over. Where the connection does not stand yet nobody waits for it any longer."""
        self.asked.pop(exchange.nonce, None)
        if not self.outcome and not self.asked and self.waiting():
            self.finish(TIMED_OUT)

    def failed(self, code: int) -> None:
        """A connection ends by an error; of datagrams an ICMP error tells only that those under way are lost."""
        if self.flow.protocol != "UDP":
            super().failed(code)
            return
        for exchange in list(self.asked.values()):
            exchange.finish(OUTCOME.get(code, BROKEN), os.strerror(code))

    def finish(self, outcome: str, detail: str = "") -> None:
        if self.outcome:
            return
        self.outcome, self.detail = outcome, detail
        self.close()
        if self.waiting():  # it never was: the next attempt tries anew
            self.agent.held.pop(self.flow.held, None)
        for exchange in list(self.asked.values()):
            exchange.finish(outcome, detail)


class Exchange(Attempt):
    """One line and its answer on a connection that lasts; the first of its name opens it."""

    connection: Held

    def start(self, timeout: float) -> None:
        self.began = time.monotonic()
        self.timer = self.agent.loop.at(self.began + timeout, self.expired)
        self.connection = self.agent.hold(self.flow)
        self.connection.take(self)

    def greeting(self) -> bytes:
        return super().greeting()[:-1] + KEEP + b"\n"

    def expired(self) -> None:
        self.connection.look()
        self.finish(TIMED_OUT)

    def close(self) -> None:
        super().close()
        self.connection.leave(self)


# --- DNS ---------------------------------------------------------------------------------------------------------------------

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33}
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def query(number: int, name: str, kind: str) -> bytes:
    """A question with recursion desired, without EDNS, as a plain resolver asks it. Raises ValueError, KeyError."""
    labels = [label.encode("ascii") for label in name.strip(".").split(".") if label]
    if any(len(label) > 63 for label in labels):
        raise ValueError(f"a label of more than 63 characters: {name}")
    encoded = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + encoded + struct.pack("!2H", TYPES[kind], 1)


def name_at(message: bytes, offset: int) -> tuple[str, int]:
    """The name at an offset, lower case, without the final dot, and the offset after it. Raises ValueError or IndexError."""
    labels, after = [], 0
    for _ in range(128):
        length = message[offset]
        if length >= 192:
            after = after or offset + 2
            offset = (length & 63) << 8 | message[offset + 1]
        elif length:
            labels.append(message[offset + 1 : offset + 1 + length].decode("ascii", "backslashreplace").lower())
            offset += 1 + length
        else:
            return ".".join(labels), after or offset + 1
    raise ValueError("a name that never ends")


def records(message: bytes, kind: str) -> list[str]:
    """The answer section's records of one type, as text, sorted. Raises ValueError, IndexError or struct.error."""
    _number, _flags, questions, answers = struct.unpack_from("!4H", message)
    offset, found = 12, []
    for _ in range(questions):
        offset = name_at(message, offset)[1] + 4
    for _ in range(answers):
        offset = name_at(message, offset)[1]
        code, _class, _ttl, length = struct.unpack_from("!HHIH", message, offset)
        offset += 10
        if code == TYPES[kind]:
            found.append(text_of(message, offset, length, kind))
        offset += length
    return sorted(found)


def text_of(message: bytes, offset: int, length: int, kind: str) -> str:
    data = message[offset : offset + length]
    if kind in ("A", "AAAA"):
        return socket.inet_ntop(socket.AF_INET if kind == "A" else socket.AF_INET6, data)
    if kind == "SRV":
        return "{} {} {} {}".format(*struct.unpack_from("!3H", data), name_at(message, offset + 6)[0])
    return repr(data) if kind == "TXT" else name_at(message, offset)[0]


class Query(Attempt):
    """An attempt on a question: the names one after another over one socket, until one has an answer of that type.

    `who` is the canonical answer: `NOERROR A 10.96.0.10 10.96.0.11` (records sorted), `NOERROR A` where there are none, `NXDOMAIN`,
    `SERVFAIL`, `TC` where a datagram was cut short. Where no name has an answer: the first `NOERROR` of them, else the last.
    """

    def __init__(self, agent: Agent, flow: Flow, number: int, token: str, done: Callable[[Attempt], None]) -> None:
        super().__init__(agent, flow, number, token, done)
        self.asked, self.best, self.id = 0, ("", ""), 0

    def greeting(self) -> bytes:
        self.id = int.from_bytes(os.urandom(2), "big")
        self.data = b""
        message = query(self.id, self.flow.names[self.asked], self.flow.type)
        return message if self.flow.protocol == "UDP" else struct.pack("!H", len(message)) + message

    def heard(self) -> None:
        message = self.data
        if self.flow.protocol != "UDP":
            if len(message) < 2 or len(message) < 2 + struct.unpack_from("!H", message)[0]:
                return
            message = message[2 : 2 + struct.unpack_from("!H", message)[0]]
        try:
            answer = self.canonical(message)
        except (ValueError, IndexError, struct.error):
            return
        if answer:
            self.next(answer)

    def canonical(self, message: bytes) -> str:
        """The answer in words; "" where it answers something else."""
        number, flags, questions, _answers = struct.unpack_from("!4H", message)
        if number != self.id or not flags & 0x8000:
            return ""
        if questions and name_at(message, 12)[0] != self.flow.names[self.asked].strip(".").lower():
            return ""
        if flags & 0x0200:
            return "TC"
        code = CODES.get(flags & 15, f"RCODE{flags & 15}")
        return " ".join([code, self.flow.type, *records(message, self.flow.type)]) if code == "NOERROR" else code

    def next(self, answer: str) -> None:
        empty, name = f"NOERROR {self.flow.type}", self.flow.names[self.asked]
        self.asked += 1
        if self.best[0] != empty:
            self.best = (answer, name)
        if answer == "TC" or (answer.startswith("NOERROR") and answer != empty):
            self.answered(answer, name)
        elif self.asked < len(self.flow.names):
            self.send(self.greeting())
        else:
            self.answered(*self.best)

    def answered(self, answer: str, name: str) -> None:
        self.who, self.linked = answer, None  # `took` runs to the answer: a resolver's time counts
        self.finish(CONNECTED, f"asked {name}")


# --- ICMP --------------------------------------------------------------------------------------------------------------------


ECHO = {socket.AF_INET: (socket.IPPROTO_ICMP, 8, 0), socket.AF_INET6: (socket.IPPROTO_ICMPV6, 128, 129)}  # protocol, request, reply


class Ping(Attempt):
    """An ICMP echo request, by a socket that the kernel gives to unprivileged programs where net.ipv4.ping_group_range allows it."""

    def open(self) -> None:
        protocol, request, _reply = ECHO[self.flow.family]
        try:
            self.sock = socket.socket(self.flow.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, protocol)
        except PermissionError:
            self.finish(BROKEN, "a pod may not ping here (net.ipv4.ping_group_range)")
            return
        self.agent.loop.watch(self.sock.fileno(), IN, self.event)
        self.sock.connect((self.flow.address, 0))
        self.sock.send(struct.pack("!BBHHH", request, 0, 0, 0, self.number & 0xFFFF) + self.nonce)

    def waiting(self) -> bool:
        return False

    def event(self, mask: int) -> None:
        if self.sock and mask & (IN | BAD):
            self.receive()

    def receive(self) -> None:
        assert self.sock is not None
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            self.failed(error.errno or 0)
            return
        if data[:1] == bytes(ECHO[self.flow.family][2:]) and data[8:] == self.nonce:
            self.who = "ECHO REPLY"
            self.finish(CONNECTED)


def attempt(agent: Agent, flow: Flow, number: int, token: str, done: Callable[[Attempt], None]) -> Attempt:
    kind = Ping if flow.protocol == "ICMP" else Query if flow.names else Exchange if flow.held else Attempt
    return kind(agent, flow, number, token, done)


# --- jobs --------------------------------------------------------------------------------------------------------------------


class Job:
    """A numbered piece of work of a session; `result` stands once it is done, and goes to whoever asked last."""

    def __init__(self, agent: Agent, message: dict[str, Any]) -> None:
        self.agent, self.id = agent, message["id"]
        self.token: str = message["nonce"]
        self.timeout: float = message.get("timeout", 0.9)
        self.flows = [Flow(*flow) for flow in message["flows"]]
        self.began = time.monotonic()
        self.listener: Runner | None = None
        self.result: dict[str, Any] | None = None
        self.faces: dict[Any, int] = {}  # who answered -> index in the result
        self.in_flight = 0
        agent.loop.begin_job()

    def launch(self, flow: Flow, number: int, done: Callable[[Attempt], None]) -> Attempt:
        self.in_flight += 1
        made = attempt(self.agent, flow, number, self.token, done)
        made.start(self.timeout)
        return made

    def face(self, who: Any) -> int:
        return -1 if who is None else self.faces.setdefault(who, len(self.faces))

    def entry(self, made: Attempt) -> list[Any]:
        """An attempt as it is told."""
        began, took = round(made.began, 6), round(made.took, 6)
        index = made.flow.index
        return [index, made.number, began, took, made.outcome, self.face(made.who), made.source, made.port, made.detail]

    def end(self, **result: Any) -> None:
        self.agent.loop.end_job()
        ended = time.monotonic()
        strain = {"lags": self.agent.loop.lagged(self.began), "spilt": spilt()}
        self.result = {"id": self.id, "began": self.began, "ended": ended, "who": list(self.faces), **strain, **result}
        self.deliver()

    def deliver(self) -> None:
        if self.result and self.listener:
            self.listener.tell(self.result)

    def stop(self) -> None:
        """Begin nothing new."""


class Round(Job):
    """Up to three staggered attempts on each flow, further ones only while none has succeeded; others in flight are then given up."""

    def __init__(self, agent: Agent, message: dict[str, Any]) -> None:
        super().__init__(agent, message)
        self.offsets: list[float] = message.get("offsets", [0.0, 0.05, 0.1])
        self.open: dict[int, list[Attempt]] = {}  # of each unfinished flow the attempts under way
        self.left = {flow.index: len(self.offsets) for flow in self.flows}  # attempts that may still end
        self.entries: list[list[Any]] = []
        for flow in self.flows:
            self.open[flow.index] = []
            self.plan(flow, 0)
        if not self.flows:
            self.end(attempts=[])

    def plan(self, flow: Flow, number: int) -> None:
        when = self.began + flow.delay + self.offsets[number]
        self.agent.loop.at(when, lambda: self.begin(flow, number))

    def begin(self, flow: Flow, number: int) -> None:
        if flow.index not in self.open:
            return
        if number + 1 < len(self.offsets):
            self.plan(flow, number + 1)
        made = self.launch(flow, number, self.ended)
        if not made.outcome:
            self.open[flow.index].append(made)

    def ended(self, made: Attempt) -> None:
        index = made.flow.index
        self.left[index] -= 1
        if index not in self.open:
            return
        under_way = self.open[index]
        if made in under_way:
            under_way.remove(made)
        if made.outcome == CONNECTED:
            self.give_up(made, under_way)
        self.entries.append(self.entry(made))
        if made.outcome == CONNECTED or not self.left[index]:
            del self.open[index]
        if not self.open:
            self.end(attempts=self.entries)

    def give_up(self, made: Attempt, others: list[Attempt]) -> None:
        """What is still under way is not judged, but that it had no answer yet is told."""
        for other in others:
            other.outcome = "given up"
            other.close()
            waited = time.monotonic() - other.began
            made.detail += f"{'; ' if made.detail else ''}attempt {other.number + 1} had no answer after {waited:.3f} s"


class Watch(Job):
    """Overlapping attempts on each flow, one every `every` seconds, until stopped or for `limit` seconds."""

    MOST = 50000  # attempts kept

    def __init__(self, agent: Agent, message: dict[str, Any]) -> None:
        super().__init__(agent, message)
        self.every, self.until = message["every"], self.began + message["limit"]
        self.entries: list[list[Any]] = []
        self.stopped = False
        self.arrange()
        if not self.flows:
            self.stop()

    def arrange(self) -> None:
        """See to it that each flow begins."""
        for position, flow in enumerate(self.flows):
            self.plan(flow, 0, self.began + self.every * position / len(self.flows))

    def open(self, flow: Flow) -> None:
        """Begin a flow at once."""
        self.in_flight += 1
        self.begin(flow, 0, time.monotonic())

    def plan(self, flow: Flow, number: int, when: float) -> None:
        self.in_flight += 1  # the timer holds the job open
        self.agent.loop.at(when, lambda: self.begin(flow, number, when))

    def begin(self, flow: Flow, number: int, when: float) -> None:
        over = self.stopped or when > self.until or len(self.entries) + self.in_flight > self.MOST
        if not over:
            self.plan(flow, number + 1, max(when + self.every, time.monotonic()))
            self.launch(flow, number, self.ended)
        self.landed()

    def ended(self, made: Attempt) -> None:
        self.entries.append(self.entry(made))
        self.landed()

    def landed(self) -> None:
        self.in_flight -= 1
        if not self.in_flight and not self.result:
            self.end(attempts=self.entries)

    def stop(self) -> None:
        self.stopped = True
        if not self.in_flight and not self.result:
            self.end(attempts=self.entries)

    def peek(self, start: int) -> dict[str, Any]:
        return {"attempts": self.entries[start : start + 4000], "who": list(self.faces), "done": bool(self.result)}


class Return(Watch):
    """A watch on callers: a flow begins when a nonce of one of the flows that `callers` has in its place comes in, towards its source.

    So a new pod is dialled as soon as its first packet arrives, by somebody who did not know its address before.
    """

    def __init__(self, agent: Agent, message: dict[str, Any]) -> None:
        self.callers: list[list[int]] = message["callers"]
        self.addresses: dict[str, str] = {}  # flow index -> where it led
        super().__init__(agent, message)

    def arrange(self) -> None:
        self.agent.server.callers[self.token] = self.called

    def called(self, caller: int, address: str) -> None:
        for flow, awaited in zip(self.flows, self.callers):  # noqa: B905 - Python 3.10's
            if caller in awaited and str(flow.index) not in self.addresses and not self.stopped:
                self.addresses[str(flow.index)] = address
                flow.lead(address)
                self.open(flow)

    def end(self, **result: Any) -> None:
        self.agent.server.callers.pop(self.token, None)
        super().end(addresses=self.addresses, **result)


class First(Watch):
    """What a new pod does first: all flows begin before anything is bound or served."""

    def arrange(self) -> None:
        for flow in self.flows:
            self.open(flow)

    def told(self) -> dict[str, Any] | None:
        """The result, with what came in under its token; None until it is there."""
        server = self.agent.server
        return {**self.result, "boot": self.agent.boot, "seen": server.nonces.seen(self.token)} if self.result else None


class Burst(Job):
    """A number of attempts on each flow, evenly spread at a common rate, at most `most` sockets at once.

    Told are of each flow the start of every attempt (ms since the job began), and which attempts ended alike: groups, each with the
    mask of its numbers, and in full those that are not of the largest group, or slow.
    """

    FULL = 200
    SLOW = 0.25  # an answer this late is never counted as like the others

    def __init__(self, agent: Agent, message: dict[str, Any]) -> None:
        super().__init__(agent, message)
        self.counts = {flow.index: count for flow, count in zip(self.flows, message["counts"])}  # noqa: B905 - Python 3.10's
        self.most = message.get("most", 512)
        self.left = sum(self.counts.values())
        self.span = self.left / message["rate"]
        self.starts: dict[int, list[int]] = {index: [0] * count for index, count in self.counts.items()}
        self.groups: dict[int, dict[tuple[Any, ...], Group]] = {index: {} for index in self.counts}
        self.waiting: collections.deque[tuple[Flow, int]] = collections.deque()
        for position, flow in enumerate(self.flows):
            self.plan(flow, 0, position / len(self.flows))
        if not self.left:
            self.close()

    def plan(self, flow: Flow, number: int, phase: float) -> None:
        count = self.counts[flow.index]
        if number < count:
            self.agent.loop.at(self.began + self.span * (number + phase) / count, lambda: self.begin(flow, number, phase))

    def begin(self, flow: Flow, number: int, phase: float) -> None:
        self.plan(flow, number + 1, phase)
        if self.in_flight < self.most:
            self.go(flow, number)
        else:
            self.waiting.append((flow, number))

    def go(self, flow: Flow, number: int) -> None:
        self.starts[flow.index][number] = round((time.monotonic() - self.began) * 1000)
        self.launch(flow, number, self.ended)

    def ended(self, made: Attempt) -> None:
        self.in_flight -= 1
        self.left -= 1
        self.note(made)
        if self.waiting and self.in_flight < self.most:
            self.in_flight += 1  # taken by the one that waits; by a timer: attempts that fail at once would nest too deeply
            flow, number = self.waiting.popleft()
            self.agent.loop.at(0.0, lambda: self.release(flow, number))
        if not self.left:
            self.close()

    def release(self, flow: Flow, number: int) -> None:
        self.in_flight -= 1
        self.go(flow, number)

    def note(self, made: Attempt) -> None:
        index = made.flow.index
        slow = made.outcome == CONNECTED and made.took > self.SLOW
        group = self.groups[index].setdefault((made.outcome, self.face(made.who), made.source, slow), Group())
        group.add(made)
        if not slow and group.size * 2 > self.counts[index]:
            group.full = []  # it is the largest: no need for more
        elif len(group.full) < self.FULL:
            group.full.append((made.number, round(made.took, 6), made.port, made.detail))

    def close(self) -> None:
        self.end(flows=[[index, self.starts[index], self.told(self.groups[index])] for index in self.counts])

    def told(self, groups: dict[tuple[Any, ...], Group]) -> list[list[Any]]:
        largest = max(groups, key=lambda key: (not key[3], groups[key].size), default=None)
        for key, group in groups.items():
            group.full = [] if key == largest and not key[3] else group.full
        return [[*key[:3], format(group.mask, "x"), round(group.slowest, 6), group.detail, group.full] for key, group in groups.items()]


class Group:
    """Attempts on one flow that ended alike."""

    def __init__(self) -> None:
        self.mask = self.size = 0
        self.slowest = 0.0
        self.detail = ""
        self.full: list[tuple[int, float, int, str]] = []

    def add(self, made: Attempt) -> None:
        self.detail = self.detail if self.size else made.detail
        self.mask |= 1 << made.number
        self.size += 1
        self.slowest = max(self.slowest, made.took)


JOBS = {"round": Round, "burst": Burst, "watch": Watch, "return": Return}


# --- control -----------------------------------------------------------------------------------------------------------------


class Session:
    """The jobs of one runner, over as many connections as it takes. The last few results are kept, and the highest number for ever."""

    KEPT = 4

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.highest = 0

    def add(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.highest = max(self.highest, job.id)
        done = [number for number, other in self.jobs.items() if other.result]
        for number in done[: -self.KEPT]:
            del self.jobs[number]


class Runner:
    """One control connection."""

    def __init__(self, agent: Agent, sock: socket.socket) -> None:
        self.agent, self.sock, self.born = agent, sock, time.monotonic()
        self.data, self.out = bytearray(), bytearray()
        self.session: Session | None = None
        agent.loop.watch(sock.fileno(), IN, self.event)

    def event(self, mask: int) -> None:
        if mask & OUT:
            self.flush()
        if mask & (IN | BAD):
            self.read()

    def read(self) -> None:
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.data += data
        if not data or len(self.data) > (LONGEST_MESSAGE if self.session else 4096):
            self.close()
            return
        while b"\n" in self.data and self.sock.fileno() >= 0:
            line, _newline, rest = self.data.partition(b"\n")
            self.data = rest
            self.take(bytes(line))

    def take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            number, op = message["id"], str(message["op"])
        except (ValueError, KeyError, TypeError):
            self.close()
            return
        if op == "hello" or not self.session:
            self.hello(message)
            return
        self.agent.heard = time.monotonic()
        try:
            self.work(op, number, message)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            self.tell({"id": number, "error": f"{op}: {error!r}"})

    def hello(self, message: dict[str, Any]) -> None:
        if message["op"] != "hello" or not self.agent.trusts(str(message.get("token", ""))):
            self.close()
            return
        self.agent.heard = time.monotonic()
        self.session = self.agent.sessions.setdefault(str(message.get("session", ""))[:64], Session())
        if len(self.agent.sessions) > RUNNERS:
            del self.agent.sessions[next(iter(self.agent.sessions))]
        self.tell({"id": message["id"], **self.agent.introduction()})

    def work(self, op: str, number: int, message: dict[str, Any]) -> None:
        if op in JOBS:
            self.attach(JOBS[op], number, message)
        elif op in self.agent.ops:
            answer = self.agent.ops[op](self, message)
            if answer is not None:
                self.tell({"id": number, **answer})
        else:
            self.tell({"id": number, "error": f"no such op: {op}"})

    def attach(self, kind: type[Job], number: int, message: dict[str, Any]) -> None:
        assert self.session is not None
        job = self.session.jobs.get(number)
        if not job:
            if number <= self.session.highest:
                self.tell({"id": number, "error": f"job {number} was done and is forgotten"})
                return
            job = kind(self.agent, message)
            self.session.add(job)
        job.listener = self
        job.deliver()

    def tell(self, message: dict[str, Any]) -> None:
        self.out += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        try:
            sent = self.sock.send(self.out) if self.out else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self.out[:sent]
        self.agent.loop.watch(self.sock.fileno(), IN | OUT if self.out else IN, self.event)

    def close(self) -> None:
        if self.sock.fileno() >= 0:
            self.agent.loop.drop(self.sock.fileno())
            self.sock.close()
            self.agent.runners.discard(self)


class Agent:
    """Everything together."""

    def __init__(self, configuration: dict[str, Any], loop: Loop, first: dict[str, Any] | None = None) -> None:
        self.loop, self.ports = loop, SourcePorts()
        self.boot = os.urandom(8).hex()
        self.pod, self.uid, self.node = (os.environ.get(f"NETPROOF_{word}", "") for word in ("POD", "UID", "NODE"))
        self.run = str(configuration.get("run", ""))
        self.digest = str(configuration["token_sha256"]).lower()
        self.silence = float(configuration.get("silence", 120))
        self.server = Server(self.loop, self.run or "-", [self.pod, self.uid, self.node, self.boot])
        self.sessions: dict[str, Session] = {}
        self.runners: set[Runner] = set()
        self.held: dict[str, Held] = {}
        self.heard = time.monotonic()
        self.ops: dict[str, Callable[[Runner, dict[str, Any]], dict[str, Any] | None]] = {
            "ping": self.ping,
            "peek": self.peek,
            "stop": self.stop,
            "seen": self.seen,
            "first": self.told_first,
            "own": self.own,
            "resolver": lambda _runner, _message: resolver(),
            "listen": self.listen,
            "unlisten": self.unlisten,
            "release": self.release,
            "memory": lambda _runner, _message: memory(),
        }
        self.record = str(first.get("record", "")) if first else ""
        self.first = First(self, {**first, "id": 0}) if first else None
        if configuration.get("control", 9600):
            self.control(int(configuration.get("control", 9600)))
        for port in configuration.get("ports", []):
            problem = self.server.listen(port)
            if problem:
                print("netproof agent: not served:", problem, file=sys.stderr, flush=True)
        loop.chores.append(self.watch_silence)
        loop.chores_every = min(CHORES_EVERY, self.silence / 4)

    def control(self, port: int) -> None:
        """Listen on loopback alone. Without IPv4 there is no agent; without IPv6 there may be."""
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
            except OSError:
                if family == socket.AF_INET:
                    raise
                continue
            sock.listen(RUNNERS)
            self.loop.watch(sock.fileno(), IN, lambda _mask, sock=sock: self.accept(sock))  # type: ignore[misc]

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, _peer = listener.accept()
        except OSError:  # gone already
            return
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.runners) >= RUNNERS:
            sock.close()
        else:
            self.runners.add(Runner(self, sock))

    def trusts(self, token: str) -> bool:
        return same(sha256(token), self.digest)

    def hold(self, flow: Flow) -> Held:
        """The connection that the flow names, a new one where there is none; the oldest makes room."""
        if flow.held not in self.held and len(self.held) >= HELD:
            self.held.pop(next(iter(self.held))).finish(BROKEN, "too many connections are held")
        if flow.held not in self.held:
            self.held[flow.held] = Held(self, flow)
        return self.held[flow.held]

    def release(self, _runner: Runner, message: dict[str, Any]) -> dict[str, Any]:
        """End the connections whose names begin so."""
        for name in [name for name in self.held if name.startswith(message["held"])]:
            self.held.pop(name).finish(BROKEN, "released")
        return {}

    def watch_silence(self) -> None:
        """A chore: without a word from a runner for long, end; a control connection without a hello is closed."""
        now = time.monotonic()
        for runner in [runner for runner in self.runners if not runner.session and now - runner.born > PATIENCE]:
            runner.close()
        if now - self.heard > self.silence:
            self.loop.stopped = True

    def introduction(self) -> dict[str, Any]:
        identity = {"pod": self.pod, "uid": self.uid, "node": self.node, "boot": self.boot, "run": self.run}
        return {**identity, "protocol": PROTOCOL, "clock": time.monotonic(), "python": sys.version.split()[0]}

    def ping(self, _runner: Runner, message: dict[str, Any]) -> dict[str, Any]:
        lags = self.loop.lagged(message.get("since", 0.0))
        return {"clock": time.monotonic(), "lag": max((to - start for start, to in lags), default=0.0)}

    def peek(self, runner: Runner, message: dict[str, Any]) -> dict[str, Any]:
        assert runner.session is not None
        job = runner.session.jobs[message["job"]]
        return job.peek(message["from"]) if isinstance(job, Watch) else {}

    def stop(self, runner: Runner, message: dict[str, Any]) -> dict[str, Any]:
        assert runner.session is not None
        runner.session.jobs[message["job"]].stop()
        return {}

    def seen(self, runner: Runner, message: dict[str, Any]) -> None:
        """What came in with that nonce; once all is read that came in before the question, so that what is not there did not arrive."""

        def tell() -> None:
            lags, flows = self.loop.lagged(message.get("since", 0.0)), self.server.nonces.seen(message["nonce"])
            spill = spilt() if self.loop.idle else None
            runner.tell({"id": message["id"], "flows": flows, "lags": lags, "spilt": spill, "clock": time.monotonic()})

        self.loop.when_idle(tell, within=CATCHING_UP)

    def told_first(self, _runner: Runner, _message: dict[str, Any]) -> dict[str, Any]:
        """What this pod saw first: in its main container (None while that goes on), and in its init container if there was one."""
        return {"main": self.first.told() if self.first else None, "init": recorded(self.record)}

    def own(self, runner: Runner, message: dict[str, Any]) -> None:
        """Connect to our own listeners over loopback: all, or those on the ports that the message names."""
        named = message.get("ports")
        Own(self, runner, message["id"], [port for port in self.server.listeners if named is None or port in named])

    def listen(self, _runner: Runner, message: dict[str, Any]) -> dict[str, Any]:
        problem = self.server.listen(message["port"])
        return {"error": problem} if problem else {}

    def unlisten(self, _runner: Runner, message: dict[str, Any]) -> dict[str, Any]:
        self.server.unlisten(message["port"])
        return {}


class Own:
    """One look at our own listeners; answers `dead`: those that did not answer, and how."""

    def __init__(self, agent: Agent, runner: Runner, number: int, ports: list[str]) -> None:
        self.agent, self.runner, self.number = agent, runner, number
        self.dead: list[str] = []
        targets = [(port, address) for port in ports for address in loopbacks()]
        self.left = len(targets)
        for index, (port, address) in enumerate(targets):
            protocol, number_ = port.split("/")
            attempt(agent, Flow(index, protocol, address, int(number_)), 0, "own", self.ended).start(0.9)
        self.finish()

    def ended(self, made: Attempt) -> None:
        self.left -= 1
        if made.outcome != CONNECTED or made.who[3] != self.agent.boot:
            self.dead.append(f"{made.flow.protocol}/{made.flow.port} on {made.flow.address}: {made.outcome} {made.detail}".strip())
        self.finish()

    def finish(self) -> None:
        if self.left == 0 and self.runner.sock.fileno() >= 0:
            self.left = -1
            self.runner.tell({"id": self.number, "dead": self.dead})


def loopbacks() -> Iterator[str]:
    """The loopback addresses that this pod has."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.bind((address, 0))
        except OSError:
            continue
        yield address


def resolver() -> dict[str, Any]:
    """What /etc/resolv.conf says; as resolvers do it, the last `search` line counts."""
    found: dict[str, list[str]] = {"nameservers": [], "search": [], "options": []}
    try:
        with open("/etc/resolv.conf", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - pathlib costs memory
            lines = [line.split("#")[0].split() for line in file]
    except OSError as error:
        return {**found, "error": f"/etc/resolv.conf: {error.strerror}"}
    for word, *rest in filter(None, lines):
        if word == "nameserver":
            found["nameservers"] += rest[:1]
        elif word in ("search", "domain"):
            found["search"] = rest
        elif word == "options":
            found["options"] += rest
    return found


def recorded(path: str) -> Any:
    """What an init container has left there; None where there was none."""
    if not path:
        return None
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            return json.load(file)
    except FileNotFoundError:
        return None


def memory() -> dict[str, Any]:
    """Our own memory in KiB."""
    return {**kibibytes("/proc/self/status", {"VmRSS:": "rss"}), **kibibytes("/proc/self/smaps_rollup", {"Pss:": "pss"})}


def kibibytes(path: str, wanted: dict[str, str]) -> dict[str, int]:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            words = [line.split() for line in file]
    except OSError:
        return {}
    return {wanted[line[0]]: int(line[1]) for line in words if line and line[0] in wanted}


def spilt() -> int | None:
    """How many packets queues had no room for, as nobody read them in time: the sockets' of this network, the input queues of the node.

    That is a busy machine's doing. None where the kernel does not say.
    """
    try:
        queues = sum(int(line.split()[1], 16) for line in lines("/proc/net/softnet_stat"))
        sockets = counter("/proc/net/snmp", b"Udp:", b"RcvbufErrors") + counter("/proc/net/netstat", b"TcpExt:", b"ListenDrops")
        six = lines("/proc/net/snmp6") if os.path.exists("/proc/net/snmp6") else []  # noqa: PTH110 - a kernel without IPv6 has none
        return queues + sockets + sum(int(line.split()[1]) for line in six if line.startswith(b"Udp6RcvbufErrors"))
    except (OSError, ValueError, IndexError):
        return None


def lines(path: str) -> list[bytes]:
    with open(path, "rb", 0) as file:  # noqa: PTH123
        return file.read().splitlines()


def counter(path: str, kind: bytes, name: bytes) -> int:
    """One counter of a file that has a line of names before each line of numbers. Only it is looked at: this is asked all the time."""
    names, numbers = [line for line in lines(path) if line.startswith(kind)]
    return int(numbers.split()[names.split().index(name)])


def sha256(text: str) -> str:
    """The hexadecimal digest. Not by `hashlib` where it can be helped: that loads OpenSSL, 3.5 MB."""
    for module in ("_sha2", "_sha256", "hashlib"):  # Python 3.12 and later; before; builds that have neither
        try:
            found = __import__(module).sha256(text.encode())
        except ImportError:
            continue
        return str(found.hexdigest())
    raise ImportError("this Python has no SHA-256")


def same(one: str, other: str) -> bool:
    """Compare in constant time; `hmac` would load OpenSSL."""
    from _operator import _compare_digest

    return bool(_compare_digest(one.encode(), other.encode()))


def serve() -> int:
    import resource
    import signal

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = Loop()

    def ended(_number: int, _frame: Any) -> None:
        loop.stopped = True

    for number in (signal.SIGTERM, signal.SIGINT):  # the kernel spares a pod's first process signals without a handler
        signal.signal(number, ended)
    Agent(json.loads(os.environ["NETPROOF_AGENT"]), loop, wanted_first())
    loop.run()
    return 0


def first() -> int:
    """An init container's work: its end is the exit code 0 once all that it saw stands in its record."""
    loop = Loop()
    agent = Agent({**json.loads(os.environ["NETPROOF_AGENT"]), "control": 0}, loop, wanted_first())
    assert agent.first is not None
    while not agent.first.result:
        loop.step()
    with open(agent.record, "w", encoding="ascii") as file:  # noqa: PTH123
        json.dump(agent.first.told(), file)
    return 0


def wanted_first() -> dict[str, Any] | None:
    """The flows to be dialled before anything else, as the environment says."""
    said = os.environ.get("NETPROOF_FIRST")
    return dict(json.loads(said)) if said else None


def relay(port: int) -> int:
    """Carry bytes between standard input and output and the control port until either side ends."""
    sock = socket.create_connection(("127.0.0.1", port))
    poller = select.poll()
    for fd in (0, sock.fileno()):
        poller.register(fd, select.POLLIN)
    while True:
        for fd, _mask in poller.poll():
            data = os.read(0, 65536) if fd == 0 else sock.recv(65536)
            if not data:
                return 0
            carry(data, sock, to_agent=fd == 0)


def carry(data: bytes, sock: socket.socket, *, to_agent: bool) -> None:
    if to_agent:
        sock.sendall(data)
        return
    while data:
        data = data[os.write(1, data) :]


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["serve"]:
        return serve()
    if arguments[:1] == ["first"]:
        return first()
    if arguments[:1] == ["relay"]:
        configured = json.loads(os.environ.get("NETPROOF_AGENT", "{}")).get("control", 9600)
        return relay(int(arguments[1] if len(arguments) > 1 else configured))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
