"""A kubelet's probes: one attempt at a pod from its node, and what a row of them says."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from netproof.lab.seams import Object, Runtime


async def verdicts(probe: Object, attempt: Callable[[], Awaitable[bool]]) -> AsyncIterator[bool]:
    """Attempts, the first at once, then one a period; yields when a row of equal results has reached its threshold."""
    await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
    thresholds = {True: probe.get("successThreshold") or 1, False: probe.get("failureThreshold") or 3}
    last, row = False, 0
    while True:
        began = time.monotonic()
        passed = await attempt()
        last, row = passed, row + 1 if passed is last else 1
        if row == thresholds[passed]:
            yield passed
        await asyncio.sleep(max(0.0, began + (probe.get("periodSeconds") or 10) - time.monotonic()))


async def passes(probe: Object, pod: Object, address: str, runtime: Runtime) -> bool:
    """One attempt, within its time-out. Whatever keeps it from succeeding is a failure."""
    with suppress(OSError, KeyError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(probe.get("timeoutSeconds") or 1):
            if "exec" in probe:
                return await _exits_well(probe["exec"]["command"], pod, runtime)
            action = probe.get("tcpSocket") or probe.get("httpGet")
            if action is None:
                return False
            sock = await _connect(action, pod, address, runtime)
            if "httpGet" in probe:
                return await _is_served(action, sock)
            sock.close()
            return True
    return False


async def _connect(action: Object, pod: Object, address: str, runtime: Runtime) -> socket.socket:
    host = action.get("host") or address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = runtime.socket_in(pod["spec"]["nodeName"], family, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        await asyncio.get_running_loop().sock_connect(sock, (host, _number(action["port"], pod)))
    except BaseException:
        sock.close()
        raise
    return sock


def _number(port: int | str, pod: Object) -> int:
    if isinstance(port, int):
        return port
    declared = {entry.get("name"): entry["containerPort"] for entry in pod["spec"]["containers"][0].get("ports") or []}
    return int(declared[port])


async def _is_served(action: Object, sock: socket.socket) -> bool:
    """Whether the answer's status is one of success or of redirection."""
    headers = {"Host": action.get("host") or "lab", "User-Agent": "kube-probe/lab", "Connection": "close"}
    headers |= {header["name"]: header["value"] for header in action.get("httpHeaders") or []}
    lines = [f"GET {action.get('path') or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        writer.write("\r\n".join(lines).encode())
        words = (await reader.readuntil(b"\n")).split()
        return len(words) > 1 and words[1].isdigit() and 200 <= int(words[1]) < 400
    finally:
        writer.close()


async def _exits_well(command: list[str], pod: Object, runtime: Runtime) -> bool:
    process = await runtime.execute(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}", command, stdin=False)
    try:
        return await process.wait() == 0
    except BaseException:
        process.kill()
        raise
