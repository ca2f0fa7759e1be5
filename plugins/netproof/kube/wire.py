"""A connection that one thread may read while another writes, and whose time-outs lose nothing."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import TypeVar

_CHUNK = 16_384  # what one TLS record holds

T = TypeVar("T")


class Wire:
    """A connected TCP or TLS socket, with the methods of one that `websocket-client` uses.

    OpenSSL's connections are not made for two threads at once (https://github.com/python/cpython/issues/124984), and a socket has one
    time-out for both directions. So the socket does not block, a lock covers each single read and write, and waiting happens outside.
    """

    def __init__(self, sock: socket.socket, *, limit: float) -> None:
        sock.settimeout(0)
        self.deadline = time.monotonic() + limit  # of the reader
        self._sock = sock
        self._descriptor = sock.fileno()
        self.limit = limit  # seconds that a write may take
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._closed = False

    def recv(self, size: int) -> bytes:
        """At most that many bytes, none at the end. Raises TimeoutError when the deadline is over."""
        if not self._buffer:
            self._buffer += self._do(lambda: self._sock.recv(4 * _CHUNK), select.POLLIN, self.deadline, closed=b"")
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def send(self, data: bytes) -> int:
        """Writes some of the data and says how much. A far end that takes nothing for `limit` seconds ends the connection."""
        try:
            sent = self._do(lambda: self._sock.send(data[:_CHUNK]), select.POLLOUT, time.monotonic() + self.limit, closed=0)
        except TimeoutError:
            self.close()
            raise ConnectionAbortedError(f"nothing was taken for {self.limit:g} s") from None
        if not sent:
            raise ConnectionAbortedError("the connection is closed")
        return sent

    def close(self) -> None:
        """Ends the connection and wakes whoever waits on it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(OSError):  # the far end was faster
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not SSLSocket's own, which lets a reader see ciphertext
            self._sock.close()

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """As `close`: neither TLS nor websockets know half of one."""
        self.close()

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def gettimeout(self) -> float:
        """Not zero: this is no non-blocking socket, although it stands on one."""
        return self.limit

    def settimeout(self, value: float | None) -> None:
        """Nothing: `deadline` rules."""

    def _do(self, step: Callable[[], T], event: int, deadline: float, *, closed: T) -> T:
        while True:
            with self._lock:
                if self._closed:
                    return closed
                try:
                    return step()
                except BlockingIOError:
                    wanted = event
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
                except ssl.SSLWantWriteError:
                    wanted = select.POLLOUT
            self._await(wanted, deadline)

    def _await(self, event: int, deadline: float) -> None:
        poller = select.poll()
        poller.register(self._descriptor, event)
        if not poller.poll(max(0, math.ceil((deadline - time.monotonic()) * 1000))):
            raise TimeoutError
