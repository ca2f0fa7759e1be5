"""DNS servers in the networks of the `kube-dns` pods."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from netproof.lab.dns import Answer, Edit, Question, answer
from netproof.lab.dnswire import PLAIN, encode, parse
from netproof.lab.facts import is_part, key
from netproof.lab.nodes import DNS_LABELS
from netproof.lab.plumbing import listener
from netproof.lab.seams import Object, Runtime

if TYPE_CHECKING:
    from netproof.lab.store import Store

_IDLE = 10.0  # seconds that a TCP connection may stay without a question


class DnsServers:
    """A server in the network of each running `kube-dns` pod, on port 53 over UDP and TCP. `run` ends only by cancellation.

    `edit` sees each answer before it goes out; what it returns goes out instead.
    """

    def __init__(self, store: Store, runtime: Runtime, *, edit: Edit = lambda _, given: given) -> None:
        self._store, self._runtime, self._edit = store, runtime, edit
        self._open: dict[tuple[str, str], _Server] = {}  # a pod's key and its container's start -> its server

    async def run(self) -> None:
        """Follow the store: a pod that is started anew gets a new server, as its network is a new one."""
        try:
            while True:
                seen = self._store.version
                await self._reconcile()
                await self._store.newer(seen)
        finally:
            for server in self._open.values():
                server.close()

    async def _reconcile(self) -> None:
        pods = self._store.list("Pod", "kube-system")
        wanted = {_incarnation(pod) for pod in pods if is_part(DNS_LABELS, pod["metadata"].get("labels") or {}) and _runs(pod)}
        for gone in self._open.keys() - wanted:
            self._open.pop(gone).close()
        for pod, incarnation in sorted(wanted - self._open.keys()):
            with suppress(OSError, KeyError):  # it ended this moment: the store will say so
                self._open[pod, incarnation] = await _Server.started(self._runtime, pod, self._answered)

    def _answered(self, message: bytes, over: str, server: str) -> bytes | None:
        """The answer to a message, None where none is owed."""
        try:
            query = parse(message)
        except ValueError:
            return None
        question = Question(query.name, query.type, over, server)
        given = Answer(query.refusal) if query.refusal else answer(question, self._store.snapshot())
        edited = self._edit(question, given)
        return None if edited is None else encode(query, edited, limit=(query.size or PLAIN) if over == "udp" else 65535)


def _runs(pod: Object) -> bool:
    return any("running" in c["state"] for c in pod.get("status", {}).get("containerStatuses") or [])


def _incarnation(pod: Object) -> tuple[str, str]:
    return key(pod), f"{pod['metadata']['uid']}/{pod['status']['containerStatuses'][0]['restartCount']}"


Answered = Callable[[bytes, str, str], bytes | None]


class _Server(asyncio.DatagramProtocol):
    """The sockets of one server."""

    def __init__(self, pod: str, answered: Answered) -> None:
        self._pod, self._answered = pod, answered
        self._transport: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    @classmethod
    async def started(cls, runtime: Runtime, pod: str, answered: Answered) -> _Server:
        """Listen. Raises OSError, KeyError."""
        made = cls(pod, answered)
        udp = listener(runtime, pod, 53, socket.SOCK_DGRAM)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: made, sock=udp)
        made._tcp = await asyncio.start_server(made._serve, sock=listener(runtime, pod, 53, socket.SOCK_STREAM))
        return made

    def close(self) -> None:
        """Stop listening."""
        if self._transport:
            self._transport.close()
        if self._tcp:
            self._tcp.close()
        for writer in self._connections:
            writer.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._answered(data, "udp", self._pod)
        if reply is not None and self._transport:
            self._transport.sendto(reply, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                message = await asyncio.wait_for(_framed(reader), _IDLE)
                reply = self._answered(message, "tcp", self._pod)
                if reply is None:
                    break
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        self._connections.discard(writer)
        writer.close()


async def _framed(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(2), "big")
    return await reader.readexactly(length)
