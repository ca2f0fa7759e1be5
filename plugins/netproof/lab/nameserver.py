"""DNS servers in the networks of the `kube-dns` pods."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from dns import flags, rcode, rdataclass, rdatatype, rrset
from dns.exception import DNSException
from dns.message import Message, from_wire, make_response
from dns.name import root

from netproof.lab.dns import FORMERR, NAMING, NOERROR, NOTIMP, REFUSED, Answer, Edit, Names, Question, answer, names
from netproof.lab.facts import is_part, key, unchanged
from netproof.lab.nodes import DNS_LABELS
from netproof.lab.plumbing import listener
from netproof.lab.seams import Runtime

if TYPE_CHECKING:
    from netproof.lab.store import Store

_IDLE = 10.0  # seconds that a TCP connection may stay without a question
_AT_ONCE = 64  # questions over UDP between two turns of the loop, which has other work: one each would keep a burst waiting for a second
_PLAIN, _MOST = 512, 65535  # bytes of an answer: over UDP where the question has no EDNS, and at all


class DnsServers:
    """A server in the network of each running `kube-dns` pod, on port 53 over UDP and TCP. `run` ends only by cancellation.

    `edit` sees each answer before it goes out; what it returns goes out instead.
    """

    def __init__(self, store: Store, runtime: Runtime, *, edit: Edit = lambda _, given: given) -> None:
        self._store, self._runtime, self._edit = store, runtime, edit
        self._open: dict[tuple[str, str, int], ExitStack] = {}  # pod, its uid, its container's restarts -> what closes its sockets
        self._known: tuple[int, Names] = (0, {})  # as of a version of the store
        self._read: Sequence[object] = ()  # what that was read off

    async def run(self) -> None:
        """Follow the store: a pod that is started anew gets a new server, as its network is a new one."""
        while True:
            seen = self._store.version
            await self._reconcile()
            await self._store.newer(seen)

    async def _reconcile(self) -> None:
        pods = [pod for pod in self._store.list("Pod", "kube-system") if is_part(DNS_LABELS, pod["metadata"].get("labels") or {})]
        containers = [(pod, said) for pod in pods for said in pod.get("status", {}).get("containerStatuses") or ()]
        wanted = {(key(pod), pod["metadata"]["uid"], said["restartCount"]) for pod, said in containers if "running" in said["state"]}
        for gone in self._open.keys() - wanted:
            self._open.pop(gone).close()
        for new in sorted(wanted - self._open.keys()):
            with suppress(OSError, KeyError):  # it ended this moment: the store will say so
                self._open[new] = await self._listen(new[0])

    async def _listen(self, pod: str) -> ExitStack:
        loop, server = asyncio.get_running_loop(), ExitStack()
        udp, tcp = (listener(self._runtime, pod, 53, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        loop.add_reader(udp, self._datagram, pod, udp)
        server.callback(udp.close)
        server.callback(loop.remove_reader, udp)
        server.callback((await asyncio.start_server(partial(self._stream, pod), sock=tcp)).close)
        return server

    def _datagram(self, pod: str, sock: socket.socket) -> None:
        with suppress(OSError):
            for _ in range(_AT_ONCE):
                message, client = sock.recvfrom(_MOST)
                if wire := reply(message, "udp", pod, self._answer):
                    sock.sendto(wire, client)

    async def _stream(self, pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError):
            while True:
                length = await asyncio.wait_for(reader.readexactly(2), _IDLE)
                wire = reply(await reader.readexactly(int.from_bytes(length)), "tcp", pod, self._answer)
                if wire is None:
                    break
                writer.write(len(wire).to_bytes(2) + wire)
                await writer.drain()

    def _answer(self, question: Question) -> Answer | None:
        if self._known[0] != self._store.version:
            snapshot = self._store.snapshot()
            read = [snapshot.get(kind) for kind in NAMING]
            known = self._known[1] if unchanged(self._read, read) else names(snapshot)
            self._read, self._known = read, (self._store.version, known)
        return self._edit(question, answer(question, self._known[1]))


def reply(message: bytes, over: str, server: str, answered: Callable[[Question], Answer | None]) -> bytes | None:
    """What `answered` says to a message; None where it says nothing, and for what is no query.

    It is no longer than the client can take: whole records are left out from the end, and TC says so.
    """
    number, bare = message[:2], b"\0\0" + message[2:]  # the same for all who ask the same
    query = _read(bare)
    if query is None:
        return None
    given: Answer | None = Answer(_refusal(query), authoritative=False)
    if _refusal(query) == NOERROR:
        asked = query.question[0]
        given = answered(Question(asked.name.to_text(omit_final_dot=True), rdatatype.to_text(asked.rdtype), over, server))
    return None if given is None else number + _written(bare, given, _MOST if over == "tcp" else max(_PLAIN, query.payload))[2:]


@lru_cache(maxsize=1024)
def _read(message: bytes) -> Message | None:
    with suppress(DNSException):
        query = from_wire(message, continue_on_error=True)
        return None if query.flags & flags.QR else query
    return None


def _refusal(query: Message) -> int:
    """The code for what can't be understood or served."""
    if query.opcode():
        return NOTIMP
    if query.errors or len(query.question) != 1:
        return FORMERR
    return NOERROR if query.question[0].rdclass == rdataclass.IN else REFUSED


@lru_cache(maxsize=1024)
def _written(message: bytes, given: Answer, limit: int) -> bytes:
    query = _read(message)
    assert query
    response = make_response(query)
    response.set_rcode(rcode.Rcode(given.code))
    response.flags |= flags.AA if given.authoritative else 0
    sections = (response.answer, given.records), (response.authority, given.authority), (response.additional, given.additional)
    for section, records in sections:
        section += [rrset.from_text(one.name, one.ttl, "IN", one.type, one.data) for one in records]
    wire = response.to_wire(root, limit, prefer_truncation=True)
    return wire if given.truncated else wire[:2] + bytes([wire[2] & ~(flags.TC >> 8)]) + wire[3:]
