"""Streams into pods, by Kubernetes' channel protocol over websockets: commands and forwarded ports. And logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from netproof.lab.facts import key as pod_key
from netproof.lab.plumbing import either
from netproof.lab.refusal import Refused
from netproof.lab.seams import Object, Runtime
from netproof.lab.store import Store

Readers = Mapping[bytes, asyncio.StreamReader | None]  # by channel
Writers = Mapping[bytes, asyncio.StreamWriter | None]

_EXEC, _FORWARD = ("v5.channel.k8s.io", "v4.channel.k8s.io"), ("v4.channel.k8s.io",)
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSED = b"\0", b"\1", b"\2", b"\3", b"\xff"  # of a command: each message begins with its channel
_DATA, _ERROR = b"\0", b"\1"  # of a forwarded port
_FRAME = 32_768
_FAREWELL = 1.0  # seconds for the client's answer to the end of a stream


@dataclass(frozen=True, slots=True)
class Streams:
    """What leads into the pods of one lab."""

    store: Store
    runtime: Runtime

    async def answer(self, request: web.Request, part: str, pod: Object) -> web.StreamResponse:
        """A pod's log, or a stream into it until the far end, the client or the pod is gone."""
        key, name = pod_key(pod), pod["metadata"]["name"]
        wanted = request.query.get("container", "")
        if wanted not in ("", *(container["name"] for container in pod["spec"]["containers"])):
            raise Refused(400, f"container {wanted} is not valid for pod {name}")
        if part == "log":
            with suppress(KeyError):
                return web.Response(body=self.runtime.log(key), content_type="text/plain")
        if (phase := pod["status"]["phase"]) != "Running":
            raise Refused(400, f"pod {name} does not run; current phase is {phase}")
        enter, protocols = (self._execute, _EXEC) if part == "exec" else (self._forward, _FORWARD)
        socket = web.WebSocketResponse(protocols=protocols, compress=False, timeout=_FAREWELL, max_msg_size=0)
        if not socket.can_prepare(request).protocol:
            raise Refused(400, f"the lab speaks websockets only, with {' or '.join(protocols)}")
        await socket.prepare(request)
        with suppress(ConnectionError):
            await either(enter(socket, key, request), self.store.gone(pod))
        await socket.close()
        return socket

    async def _execute(self, socket: web.WebSocketResponse, key: str, request: web.Request) -> None:
        """Run a command: its end is the stream's, the stream's end is its own."""
        try:
            process = await self.runtime.execute(key, request.query.getall("command", []), stdin=request.query.get("stdin") == "true")
        except (OSError, KeyError) as exc:
            return await _tell(socket, Refused(500, f"error executing command in container: {exc}", reason="InternalError").status)
        try:
            await _carry(socket, {_STDOUT: process.stdout, _STDERR: process.stderr}, {_STDIN: process.stdin})
            await _tell(socket, _exit(await process.wait()))
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _forward(self, socket: web.WebSocketResponse, key: str, request: web.Request) -> None:
        """Connect a port on the pod's loopback; both channels begin with its number."""
        port = int(request.query.get("ports", "0"))
        for channel in (_DATA, _ERROR):
            await _send(socket, channel, port.to_bytes(2, "little"))
        try:
            reader, writer = await self.runtime.dial(key, port)
        except (OSError, KeyError) as exc:
            return await _send(socket, _ERROR, f"error forwarding port {port} to pod {key}: {exc}".encode())
        try:
            await _carry(socket, {_DATA: reader}, {_DATA: writer})
        finally:
            writer.close()


async def _carry(socket: web.WebSocketResponse, out: Readers, into: Writers) -> None:
    """Copy both ways, until all that comes out has come. Raises ConnectionError where the client leaves before."""
    await either(asyncio.gather(*(_copied(socket, channel, reader) for channel, reader in out.items() if reader)), _fed(socket, into))


async def _copied(socket: web.WebSocketResponse, channel: bytes, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(_FRAME):
        await _send(socket, channel, data)


async def _fed(socket: web.WebSocketResponse, into: Writers) -> None:
    async for message in socket:
        channel, data = message.data[:1], message.data[1:]
        if channel == _CLOSED and (writer := into.get(data)):
            writer.close()
        elif writer := into.get(channel):
            with suppress(ConnectionError):  # the far end no longer reads; it may still write
                writer.write(data)
                await writer.drain()
    raise ConnectionResetError("the client has left")


async def _send(socket: web.WebSocketResponse, channel: bytes, data: bytes) -> None:
    await socket.send_bytes(channel + data)


async def _tell(socket: web.WebSocketResponse, status: Object) -> None:
    await _send(socket, _STATUS, json.dumps(status).encode())


def _exit(code: int) -> Object:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    shown = str(code if code > 0 else 128 - code)  # ended by a signal
    cause = {"reason": "ExitCode", "message": shown}
    return Refused(500, f"command terminated with exit code {shown}", reason="NonZeroExitCode", causes=[cause]).status
