"""Small parts for what runs in the event loop: waits for the first of several things, and sockets in pods and on nodes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable

from netproof.lab.seams import Runtime


async def either(*waits: Awaitable[object]) -> None:
    """Wait until one of these is over; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()


def listener(runtime: Runtime, place: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A socket in a pod or on a node, bound to a port in both families. Raises OSError, KeyError."""
    made = runtime.socket_in(place, socket.AF_INET6, kind)
    try:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(0)
        made.bind(("::", port))
    except OSError:
        made.close()
        raise
    return made


async def connect(runtime: Runtime, place: str, address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from a pod or a node. Raises OSError, KeyError."""
    made = runtime.socket_in(place, socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.settimeout(0)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return await asyncio.open_connection(sock=made)
