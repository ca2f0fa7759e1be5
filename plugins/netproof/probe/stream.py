"""One agent's control stream: JSON lines over a byte channel, numbered jobs that survive a cut, one clock mapped to another.

ConnectionError
    AgentUnreachable    no agent answered the hello in time, or one that is not ours
    AgentLost           it answered once, and did not come back
AgentRefused            it is there and says that it cannot do what was asked
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

PROTOCOL = 1
IDLE = 15.0  # seconds without a word after which an agent is pinged; it ends itself after many more
_ANSWER = 5.0  # seconds for anything that takes no time
_RETRY = 0.25
_STALE = 20.0  # seconds after which the clocks are compared again
_NO_USE = (401, 403, 404)  # of a dial: the pod is gone, or we may not


class Channel(Protocol):
    """Bytes to and from an agent. `kube` makes them, and `probe.local`."""

    def send(self, data: bytes) -> None:
        """Write all of it. Raises OSError (ConnectionError once the far end has closed)."""

    def receive(self, timeout: float) -> bytes:
        """What came next, b"" where nothing did in time. Raises ConnectionError at the far end's close."""

    def close(self) -> None:
        """End it."""


Dial = Callable[[], Channel]


class AgentUnreachable(ConnectionError):  # noqa: N818 - a state of affairs, as the callers read it
    """No agent of ours answers there. The text names it, what was tried last and how long."""


class AgentLost(ConnectionError):  # noqa: N818
    """The agent answered once and is gone, restarted, or out of reach for too long. The text says which and why."""


class AgentRefused(Exception):  # noqa: N818
    """The agent answered that it cannot; the text is its own."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an agent is. `pod` is `namespace/name`; `boot` is new whenever its program starts."""

    pod: str
    uid: str
    node: str
    boot: str
    python: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A comparison of clocks: `offset` added to the agent's clock is ours, at most half of `trip` off; `at` is ours."""

    trip: float
    offset: float
    at: float


@dataclass(frozen=True, slots=True)
class Setting:
    """What all streams of a fleet share. `patience`: seconds in which a broken stream may come back."""

    token: str
    run: str
    session: str
    clock: Callable[[], float] = time.monotonic
    alive: Callable[[], bool] = lambda: True
    patience: float = 60.0


class Stream:
    """The stream to one agent. Every public method takes the lock, so a heartbeat and a runner can share it."""

    def __init__(self, name: str, dial: Dial, setting: Setting) -> None:
        self.name = name
        self.identity: Identity | None = None
        self.lock = threading.RLock()
        self._dial = dial
        self._setting = setting
        self._channel: Channel | None = None
        self._number = self._awaited = 0
        self._pending: dict[int, bytes] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._buffer = bytearray()
        self._sample = Sample(float("inf"), 0.0, float("-inf"))
        self._spoke = 0.0
        self._why = ""  # of the last failure
        self._lost = ""  # why the agent is given up: a single dial is then worth it, no waiting
        self._restarted = False

    @property
    def offset(self) -> float:
        """What to add to a time of the agent's clock to have it on ours."""
        return self._sample.offset

    def open(self) -> Identity:
        """Dial and say hello, once. Raises AgentUnreachable where it is no agent of ours, AgentLost where it is another than before."""
        with self.lock:
            self._hang_up()
            self._channel = self._dial()
            answer = self._hello()
            identity = Identity(*(str(answer[key]) for key in ("pod", "uid", "node", "boot", "python")))
            if self.identity and self.identity.boot != identity.boot:
                self._hang_up()
                self._restarted = True
                raise AgentLost(f"the agent {self.name} ({identity.pod}) restarted")
            self.identity, self._lost = identity, ""
            self._compare_clocks()
            return identity

    def post(self, op: str, **fields: Any) -> int:
        """Send a request and return its number. It never raises for a broken stream: `collect` brings it back or says why not."""
        with self.lock:
            try:
                if self._channel and self._setting.clock() - self._sample.at > _STALE:
                    self._compare_clocks()
            except OSError:
                self._hang_up()
            number = self._next()
            self._pending[number] = _line({"op": op, "id": number, **fields})
            try:
                self._write(self._pending[number])
            except OSError:
                self._hang_up()
            return number

    def collect(self, number: int, within: float = _ANSWER) -> dict[str, Any]:
        """The answer to a request that takes `within` seconds at most. Raises AgentLost, AgentRefused.

        A broken stream is dialled again and takes up the request where it was; while the API server is away, it is waited for.
        """
        with self.lock:
            until = None
            try:
                while (answer := self._attempt(number, within)) is None:
                    until = until or self._setting.clock() + self._setting.patience
                    self._recover(until)
            finally:
                self._pending.pop(number, None)
        if "error" in answer:
            raise AgentRefused(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its answer. Raises AgentLost, AgentRefused."""
        with self.lock:
            return self.collect(self.post(op, **fields))

    def beat(self) -> None:
        """Say a word where none was said for long; a broken stream is dialled once. Skipped while somebody else uses the stream."""
        if not self.lock.acquire(blocking=False):
            return
        try:
            if self._setting.clock() - self._spoke > IDLE and not self._restarted:
                self._revive()
        finally:
            self.lock.release()

    def close(self) -> None:
        """End the stream; the agent goes on until its silence is over."""
        with self.lock:
            self._hang_up()

    def _revive(self) -> None:
        try:
            if self._channel:
                self._compare_clocks()
            elif self._setting.alive():
                self.open()
        except Exception:  # whatever a dial raises: the next request says what is wrong
            self._spoke = self._setting.clock()
            self._hang_up()

    def _attempt(self, number: int, within: float) -> dict[str, Any] | None:
        """The answer, or None after a failure, with the reason in `_why`."""
        self._why = f"no answer within {within:g} s"
        try:
            return self._wait(number, self._setting.clock() + within)
        except OSError as error:
            self._why = _words(error)
            self._hang_up()
            return None

    def _recover(self, until: float) -> None:
        """Bring the stream back, with every pending request sent again. Raises AgentLost."""
        away = False
        while not self._restarted:
            if not self._setting.alive():
                away, final, self._why = True, False, "the API server is away"
            elif away and self._channel:  # the stream may well have outlived its absence
                return
            else:
                failure = self._resume()
                if failure is None:
                    return
                self._why, final = failure
            if final or self._lost or self._setting.clock() >= until:
                break
            time.sleep(_RETRY)
        self._hang_up()
        self._lost = f"the agent {self.name} restarted" if self._restarted else f"{self.name} is out of reach: {self._why}"
        raise AgentLost(self._lost)

    def _resume(self) -> tuple[str, bool] | None:
        """Dial once and send what is pending; what went wrong, and whether another try is of no use."""
        try:
            self.open()
            for line in self._pending.values():
                self._write(line)
        except Exception as error:  # a dial may raise errors of layers that this one does not know
            self._hang_up()
            return _words(error), self._restarted or hopeless(error)
        return None

    def _hello(self) -> dict[str, Any]:
        number = self._next()
        self._write(_line({"op": "hello", "id": number, "token": self._setting.token, "session": self._setting.session}))
        answer = self._wait(number, self._setting.clock() + _ANSWER)
        if answer is None:
            raise ConnectionError(f"no answer to the hello within {_ANSWER:g} s")
        if answer["run"] != self._setting.run or answer["protocol"] != PROTOCOL:
            what = f"run {answer['run']}, protocol {answer['protocol']}"
            raise AgentUnreachable(f"{self.name}: the agent there is of {what}; expected run {self._setting.run}, protocol {PROTOCOL}")
        return answer

    def _compare_clocks(self) -> None:
        """The best of up to three pings. Raises OSError."""
        best: Sample | None = None
        for _ in range(3):
            number, sent = self._next(), self._setting.clock()
            self._write(_line({"op": "ping", "id": number}))
            answer = self._wait(number, sent + _ANSWER)
            if answer is None:
                raise ConnectionError(f"no answer to a ping within {_ANSWER:g} s")
            now = self._setting.clock()
            sample = Sample(now - sent, (sent + now) / 2 - float(answer["clock"]), now)
            best = sample if best is None or sample.trip < best.trip else best
            if best.trip < 0.005:
                break
        assert best is not None
        self._sample = best

    def _wait(self, number: int, deadline: float) -> dict[str, Any] | None:
        """The answer to that number, None where it did not come. Raises OSError."""
        self._awaited = number
        while number not in self._answers:
            left = deadline - self._setting.clock()
            if left <= 0:
                return None
            if self._setting.clock() - self._spoke >= IDLE:
                self._write(_line({"op": "ping", "id": 0}))
            self._feed(self._live().receive(min(left, _ANSWER)))
        return self._answers.pop(number)

    def _feed(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            answer = _parsed(bytes(line))
            if answer["id"] in self._pending or answer["id"] == self._awaited:  # others came too late for anybody
                self._answers[answer["id"]] = answer

    def _write(self, line: bytes) -> None:
        self._live().send(line)
        self._spoke = self._setting.clock()

    def _live(self) -> Channel:
        if not self._channel:
            raise ConnectionError("the stream is broken")
        return self._channel

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _hang_up(self) -> None:
        channel, self._channel = self._channel, None
        self._buffer.clear()
        if channel:
            try:
                channel.close()
            except Exception:  # it is being thrown away
                return


def hopeless(error: BaseException) -> bool:
    """Whether dialling again is of no use: another run's agent, a pod that the API no longer has, rights that are missing."""
    return isinstance(error, AgentUnreachable) or getattr(error, "status", 0) in _NO_USE


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
        answer["id"] = int(answer["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionError(f"not an agent's answer: {line[:80]!r}") from error
    return dict(answer)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
