"""Streams into pods, by Kubernetes' channel protocol over websockets: commands and forwarded ports. And logs.

The first byte of every message is the number of a channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from netproof.lab.kinds import Target
from netproof.lab.refusal import Refused
from netproof.lab.seams import Object, Process, Runtime
from netproof.lab.store import Store

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSED = 0, 1, 2, 3, 255
Writers = dict[int, "asyncio.Future[asyncio.StreamWriter]"]  # channel -> the connection, once it stands
_FRAME = 32_768
_FAREWELL = 1.0  # seconds for the client's answer to the end of a stream


@dataclass(frozen=True, slots=True)
class Streams:
    """What leads into the pods of one lab."""

    store: Store
    runtime: Runtime

    def log(self, request: web.Request, target: Target) -> web.Response:
        """What the pod's process has written so far."""
        pod, query = self._pod(request, target), request.query
        container = query.get("container") or pod["spec"]["containers"][0]["name"]
        if query.get("previous") == "true":
            raise Refused(400, f'previous terminated container "{container}" in pod "{target.name}" not found')
        try:
            text = self.runtime.log(_key(target))
        except KeyError:
            raise Refused(400, f'container "{container}" in pod "{target.name}" is waiting to start: ContainerCreating') from None
        if lines := query.get("tailLines"):
            text = b"".join(text.splitlines(keepends=True)[-int(lines) :]) if int(lines) else b""
        return web.Response(body=text[: int(query.get("limitBytes") or len(text))], content_type="text/plain")

    async def execute(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Run a command; its end is the stream's, the stream's end is its own."""
        pod, query = self._running(request, target), request.query
        if query.get("tty") in ("true", "1"):
            raise Refused(400, "the lab has no terminals: leave -t away")
        socket = await _upgraded(request, (V5, V4))
        try:
            process = await self.runtime.execute(_key(target), query.getall("command", []), stdin=query.get("stdin") in ("true", "1"))
        except (OSError, KeyError) as exc:
            await _end(socket, _failure(f"error executing command in container: {exc}", "InternalError", 500))
            return socket
        try:
            code = await _first(_ended(socket, process), _fed(socket, process), self._removal(pod))
            if code is not None:
                await _end(socket, _exit(code))
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await socket.close()
        return socket

    async def forward(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Connect ports on the pod's loopback with pairs of channels: data, and why there is none."""
        pod = self._running(request, target)
        ports = [int(text) for entry in request.query.getall("ports", []) for text in entry.split(",") if text.isdigit()]
        if not ports:
            raise Refused(400, 'query parameter "ports" is required')
        socket = await _upgraded(request, (V4,))
        writers: Writers = {2 * place: asyncio.get_running_loop().create_future() for place in range(len(ports))}
        try:
            tasks = [self._connected(socket, _key(target), port, channel, writers) for channel, port in zip(writers, ports, strict=True)]
            with contextlib.suppress(ConnectionError):
                await _first(_all(*tasks), _forwarded(socket, writers), self._removal(pod))
        finally:
            for writer in writers.values():
                if writer.done():
                    writer.result().close()
            await socket.close()
        return socket

    async def _connected(self, socket: web.WebSocketResponse, key: str, port: int, channel: int, writers: Writers) -> None:
        number = port.to_bytes(2, "little")
        await _send(socket, channel, number)
        await _send(socket, channel + 1, number)
        try:
            reader, writer = await self.runtime.dial(key, port)
        except (OSError, KeyError) as exc:
            await _send(socket, channel + 1, f"error forwarding port {port} to pod {key}: {exc}".encode())
            return
        writers[channel].set_result(writer)
        await _copied(reader, socket, channel)

    def _pod(self, request: web.Request, target: Target) -> Object:
        pod = self.store.get("Pod", target.name, target.namespace)
        if pod is None:
            raise Refused(404, f'pods "{target.name}" not found', details={"name": target.name, "kind": "pods"})
        container = request.query.get("container")
        if container and container not in [entry["name"] for entry in pod["spec"]["containers"]]:
            raise Refused(400, f"container {container} is not valid for pod {target.name}")
        return pod

    def _running(self, request: web.Request, target: Target) -> Object:
        pod = self._pod(request, target)
        if not pod["spec"].get("nodeName"):
            raise Refused(400, f"pod {target.name} does not have a host assigned")
        phase = pod.get("status", {}).get("phase")
        if phase in ("Succeeded", "Failed"):
            raise Refused(400, f"cannot exec into a container in a completed pod; current phase is {phase}")
        if request.method != "GET" or request.headers.get("Upgrade", "").lower() != "websocket":
            raise Refused(400, "the lab speaks websockets only, and no SPDY")
        return pod

    async def _removal(self, pod: Object) -> None:
        """Returns when the pod is no longer there."""
        place = (pod["kind"], pod["metadata"]["name"], pod["metadata"]["namespace"])
        version = 0
        while (now := self.store.get(*place)) is not None and now["metadata"]["uid"] == pod["metadata"]["uid"]:
            version = await self.store.newer(version or self.store.version)


def _key(target: Target) -> str:
    return f"{target.namespace}/{target.name}"


async def _upgraded(request: web.Request, protocols: Sequence[str]) -> web.WebSocketResponse:
    offered = [text.strip() for text in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if not set(offered) & set(protocols):
        raise Refused(400, f"unable to upgrade: none of {', '.join(offered)} is spoken here, but {', '.join(protocols)}")
    socket = web.WebSocketResponse(protocols=protocols, compress=False, timeout=_FAREWELL, max_msg_size=0)
    await socket.prepare(request)
    return socket


async def _first(main: Coroutine[Any, Any, int | None], *others: Coroutine[Any, Any, None]) -> int | None:
    """What `main` returns, or None where another one returns before; none of them goes on afterwards."""
    first = asyncio.create_task(main)
    tasks = [first, *(asyncio.create_task(other) for other in others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return first.result() if first.done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _all(*tasks: Awaitable[None]) -> None:
    await asyncio.gather(*tasks)


async def _ended(socket: web.WebSocketResponse, process: Process) -> int | None:
    """The exit code, once all that was written is sent; None where the client has left."""
    try:
        await _all(
            *(_copied(reader, socket, channel) for channel, reader in ((_STDOUT, process.stdout), (_STDERR, process.stderr)) if reader)
        )
    except ConnectionError:
        return None
    return await process.wait()


async def _copied(reader: asyncio.StreamReader, socket: web.WebSocketResponse, channel: int) -> None:
    while data := await reader.read(_FRAME):
        await _send(socket, channel, data)


async def _send(socket: web.WebSocketResponse, channel: int, data: bytes) -> None:
    await socket.send_bytes(bytes([channel]) + data)


async def _fed(socket: web.WebSocketResponse, process: Process) -> None:
    """Hand on what the client writes. Returns when it has left."""
    stdin = process.stdin
    async for channel, data in _messages(socket):
        if stdin and channel == _STDIN and data:
            with contextlib.suppress(ConnectionError):  # the command no longer reads
                stdin.write(data)
                await stdin.drain()
        elif stdin and channel == _CLOSED and data == bytes([_STDIN]):
            stdin.close()


async def _forwarded(socket: web.WebSocketResponse, writers: Writers) -> None:
    async for channel, data in _messages(socket):
        if channel in writers:
            writer = await writers[channel]
            writer.write(data)
            await writer.drain()


async def _messages(socket: web.WebSocketResponse) -> AsyncIterator[tuple[int, bytes]]:
    """Channel and data of what the client sends, until it leaves. Some clients send text."""
    async for message in socket:
        if message.type in (WSMsgType.BINARY, WSMsgType.TEXT) and message.data:
            data = message.data if isinstance(message.data, bytes) else message.data.encode()
            yield data[0], data[1:]


async def _end(socket: web.WebSocketResponse, status: Object) -> None:
    with contextlib.suppress(ConnectionError):
        await _send(socket, _STATUS, json.dumps(status).encode())
    await socket.close()


def _exit(code: int) -> Object:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    shown = code if code > 0 else 128 - code  # ended by a signal
    status = _failure(f"command terminated with non-zero exit code: exit status {shown}", "NonZeroExitCode", 0)
    return status | {"details": {"causes": [{"reason": "ExitCode", "message": str(shown)}]}}


def _failure(message: str, reason: str, code: int) -> Object:
    return {"metadata": {}, "status": "Failure", "message": message, "reason": reason} | ({"code": code} if code else {})
