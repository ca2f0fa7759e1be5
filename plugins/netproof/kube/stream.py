"""Streams into pods over the API server: a forwarded port, or the standard streams of a command.

They enter through the kubelet, not the pods' network, so that no policy under test can cut them. Both speak Kubernetes' channel
protocol: the first byte of every websocket frame is the number of a channel.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from urllib.parse import urlencode

from netproof.kube.client import Api
from netproof.kube.objects import path
from netproof.kube.wait import Late

if TYPE_CHECKING:
    from websocket import WebSocket

    from netproof.kube.wire import Wire

_FORWARD = ("v4.channel.k8s.io",)
_EXEC = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_FRAME = 32_768  # bytes of data in one frame
_KEPT = 65_536  # bytes of stderr, the last ones
_SHOWN = 500  # of which so many explain an end
_LAST_WORDS = 1.0  # seconds for data that the news of the end has overtaken: channels are copied independently of each other
_CLOSE = 8  # websocket opcode
_NORMAL = 1000  # websocket close code


class ChannelClosed(ConnectionError):  # noqa: N818
    """The far end is gone; the text says why, as far as it said so."""


class Channel(Protocol):
    """Bytes to and from a pod. One thread may receive while another sends."""

    def send(self, data: bytes) -> None:
        """Writes all of it. Raises `ChannelClosed`."""

    def receive(self, timeout: float) -> bytes:
        """What came next, b"" where nothing did in time. Raises `ChannelClosed` at the far end's end."""

    def close(self) -> None:
        """Ends it; wakes a receiver."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended."""

    code: int
    out: str
    err: str


def forward(api: Api, namespace: str, pod: str, port: int) -> Channel:
    """A connection to a port on the pod's loopback. A port where nobody listens shows at the first `receive`.

    Raises `ApiError` with the real status where the server refuses, `ApiUnavailable` where it is away.
    """
    target = f"{path('Pod', pod, namespace)}/portforward?ports={port}"
    return _Forward(*api.upgrade(target, _FORWARD, repeat=True))


def execute(api: Api, namespace: str, pod: str, command: Sequence[str], container: str = "") -> Channel:
    """A command in a container: its stdin and stdout are the channel, its end is the channel's. Raises as `forward` does."""
    return _Exec(*api.upgrade(_exec_target(namespace, pod, command, container, stdin=True), _EXEC, repeat=False))


def run(api: Api, namespace: str, pod: str, command: Sequence[str], *, container: str = "", limit: float = 10.0) -> Completed:
    """Runs a command to its end. Raises `Late` after `limit` seconds, `ChannelClosed` where it did not start or its end is unknown."""
    deadline = time.monotonic() + limit
    stream = _Exec(*api.upgrade(_exec_target(namespace, pod, command, container, stdin=False), _EXEC, repeat=False))
    out = b""
    try:
        while data := stream.receive(max(0.0, deadline - time.monotonic())):
            out += data
        raise Late(f"the end of {' '.join(command)!r} in {namespace}/{pod}", limit, out[-200:].decode(errors="replace"))
    except ChannelClosed:
        code = stream.code()
        if code is None:
            raise
        return Completed(code, out.decode(errors="replace"), stream.stderr.decode(errors="replace"))
    finally:
        stream.close()


def _exec_target(namespace: str, pod: str, command: Sequence[str], container: str, *, stdin: bool) -> str:
    query = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if stdin else []
    query += [("container", container)] if container else []
    return f"{path('Pod', pod, namespace)}/exec?{urlencode(query)}"


class _Stream:
    """A websocket with numbered channels; the kinds of streams say what the channels mean."""

    def __init__(self, socket: WebSocket, wire: Wire) -> None:
        self._socket = socket
        self._wire = wire
        self._closed = ""  # why, once it is
        self._ending = ""  # why it is about to be closed
        self._drained = 0.0  # when an ending stream has had the time for its last words

    def send(self, data: bytes) -> None:
        from websocket import ABNF, WebSocketException

        if self._closed:
            raise ChannelClosed(self._closed)
        try:
            for start in range(0, len(data), _FRAME):
                self._socket.send(b"\0" + data[start : start + _FRAME], ABNF.OPCODE_BINARY)
        except (WebSocketException, OSError) as exc:
            raise ChannelClosed(self._ending or f"the connection to the pod broke: {exc}") from exc

    def receive(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while True:
            frame = self._frame(min(deadline, self._drained) if self._ending else deadline)
            if frame:
                if data := self._take(frame[0], frame[1:]):
                    return data
            elif self._ending and time.monotonic() >= self._drained:
                self._close(self._ending)
            elif frame is None:
                return b""

    def close(self) -> None:
        self._closed = self._closed or "closed at this end"
        self._wire.close()

    def end(self, reason: str) -> None:
        """The far end gave its reason; what it sent before may still arrive."""
        self._ending = reason
        self._drained = time.monotonic() + _LAST_WORDS

    def _frame(self, deadline: float) -> bytes | None:
        """The next frame, None where none came until then."""
        from websocket import WebSocketException, WebSocketTimeoutException

        if self._closed:
            raise ChannelClosed(self._closed)
        self._wire.deadline = deadline
        try:
            opcode, data = self._socket.recv_data()
        except WebSocketTimeoutException:
            return None
        except (WebSocketException, OSError) as exc:
            self._close(self._ending or f"the connection to the pod ended: {exc}", exc)
        if opcode == _CLOSE:
            self._close(self._ending or f"the far end closed the stream{_why(data)}")
        return bytes(data)

    def _close(self, reason: str, cause: Exception | None = None) -> NoReturn:
        self._closed = self._closed or reason
        self._wire.close()
        raise ChannelClosed(self._closed) from cause

    def _take(self, channel: int, data: bytes) -> bytes:
        """What of a frame is for the receiver."""
        raise NotImplementedError


class _Forward(_Stream):
    """Channel 0 is the connection, channel 1 says why there is none; each begins with two bytes of port number."""

    def __init__(self, socket: WebSocket, wire: Wire) -> None:
        super().__init__(socket, wire)
        self._port = {0: 2, 1: 2}  # bytes of it still to come

    def _take(self, channel: int, data: bytes) -> bytes:
        skipped = min(self._port.get(channel, 0), len(data))
        if skipped:
            self._port[channel] -= skipped
        if channel == 1 and data[skipped:]:
            self.end(_text(data[skipped:]))
        return data[skipped:] if channel == 0 else b""


class _Exec(_Stream):
    """Channel 0 is stdin, 1 stdout, 2 stderr, 3 a Status object that says how the command ended."""

    def __init__(self, socket: WebSocket, wire: Wire) -> None:
        super().__init__(socket, wire)
        self.stderr = b""
        self._status = b""

    def code(self) -> int | None:
        """The command's exit code; None where it was not started or its end is not known."""
        status = self._told()
        if status.get("status") == "Success":
            return 0
        causes = (status.get("details") or {}).get("causes") or []
        return next((int(cause["message"]) for cause in causes if cause.get("reason") == "ExitCode"), None)

    def _take(self, channel: int, data: bytes) -> bytes:
        if channel == 2:
            self.stderr = (self.stderr + data)[-_KEPT:]
        if channel == 3:
            self._status += data
            if status := self._told():
                self.end(self._reason(status))
        return data if channel == 1 else b""

    def _told(self) -> dict[str, Any]:
        try:
            status = json.loads(self._status)
        except ValueError:
            return {}
        return status if isinstance(status, dict) else {}

    def _reason(self, status: dict[str, Any]) -> str:
        reason = "the command ended" if self.code() == 0 else str(status.get("message") or "the command failed")
        return f"{reason}: {_text(self.stderr[-_SHOWN:])}" if self.stderr.strip() else reason


def _text(data: bytes) -> str:
    return " ".join(data.decode(errors="replace").split())


def _why(close: bytes) -> str:
    """The reason in a websocket's close frame: two bytes of code, then words."""
    code = int.from_bytes(close[:2], "big")
    return f": {code} {_text(close[2:])}".rstrip() if code not in (0, _NORMAL) else ""
