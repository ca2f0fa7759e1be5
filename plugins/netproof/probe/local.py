"""Channels to an agent that runs on this machine: an outsider beside the cluster, the lab's agents, tests."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Callable, Sequence

from netproof.probe.stream import Dial


class SocketChannel:
    """A connected stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(None)
        self._sock = sock

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def receive(self, timeout: float) -> bytes:
        if not _readable(self._sock.fileno(), timeout):
            return b""
        return _received(self._sock.recv(65536))

    def close(self) -> None:
        self._sock.close()


class ProcessChannel:
    """Standard input and output of a program, such as `agent.py relay` somewhere else; closing ends it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def send(self, data: bytes) -> None:
        while data:
            data = data[self._input.write(data) or 0 :]

    def receive(self, timeout: float) -> bytes:
        if not _readable(self._output.fileno(), timeout):
            return b""
        return _received(os.read(self._output.fileno(), 65536))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()


def dial_socket(connect: Callable[[], socket.socket]) -> Dial:
    """Dial by a function that returns a connected socket."""
    return lambda: SocketChannel(connect())


def dial_process(command: Sequence[str]) -> Dial:
    """Dial by starting a program that relays its standard streams to the agent."""
    return lambda: ProcessChannel(command)


def _readable(fd: int, timeout: float) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(max(0.0, timeout) * 1000))


def _received(data: bytes) -> bytes:
    if not data:
        raise ConnectionError("the far end closed the stream")
    return data
