"""The lab's API in a thread of the test, over TLS, with a runtime that runs commands right here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from netproof.lab.api import make_app
from netproof.lab.seams import Object
from netproof.lab.store import Store
from netproof.lab.tls import Certificates, kubeconfig

T = TypeVar("T")
TOKEN = "secret"
ECHO = 8080  # the port where every pod answers with what it hears


class FakeRuntime:
    """What of the machine the API asks for."""

    def __init__(self) -> None:
        self._echoes: set[asyncio.Task[None]] = set()

    async def execute(self, key: str, command: Sequence[str], *, stdin: bool) -> Process:
        return await asyncio.create_subprocess_exec(*command, stdin=PIPE if stdin else DEVNULL, stdout=PIPE, stderr=PIPE)

    async def dial(self, key: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if port != ECHO:
            raise ConnectionRefusedError("connection refused")
        here, there = socket.socketpair()
        echo = asyncio.create_task(_echo(there))
        self._echoes.add(echo)  # a task that nobody holds may vanish
        echo.add_done_callback(self._echoes.discard)
        return await asyncio.open_connection(sock=here)

    def log(self, key: str) -> bytes:
        if key.endswith("/unstarted"):
            raise KeyError(key)
        return b"one\ntwo\n"


async def _echo(there: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=there)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _stop(runner: web.AppRunner) -> None:
    await runner.cleanup()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@dataclass
class LabServer:
    """A store and its API. Objects are changed as controllers would by `do`."""

    certificates: Certificates
    store: Store = field(default_factory=Store)
    url: str = ""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def do(self, call: Callable[[], T]) -> T:
        """Call something in the server's thread."""

        async def called() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(10)

    def reset(self) -> None:
        """Nothing is there but two namespaces. To be called by `do`."""
        for objects in self.store.snapshot().values():
            for obj in objects:
                self.store.remove(obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace", ""))
        for name in ("default", "x"):
            labels = {"kubernetes.io/metadata.name": name}
            self.store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def kubeconfig(self, folder: Path) -> Path:
        file = folder / "kubeconfig"
        file.write_text(kubeconfig(self.url, self.certificates.authority, TOKEN))
        return file

    def ask(self, method: str, path: str, body: object = None, *, kind: str = "application/json", token: str = TOKEN) -> tuple[int, Any]:
        """Status and body of a plain request."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}"} | ({"Content-Type": kind} if data is not None else {})
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        trusting = ssl.create_default_context(cadata=self.certificates.authority)
        try:
            with urllib.request.urlopen(request, context=trusting, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def watch(self, path: str, *, events: int) -> list[tuple[str, Object]]:
        """The first events of a watch."""
        request = urllib.request.Request(f"{self.url}{path}", headers={"Authorization": f"Bearer {TOKEN}"})
        trusting = ssl.create_default_context(cadata=self.certificates.authority)
        with urllib.request.urlopen(request, context=trusting, timeout=10) as response:
            lines = [json.loads(response.readline()) for _ in range(events)]
        return [(line["type"], line["object"]) for line in lines]

    def run_pod(self, name: str, namespace: str, **status: object) -> None:
        """What scheduler and kubelet do."""

        def bound() -> None:
            pod = self.store.get("Pod", name, namespace)
            assert pod
            self.store.update(pod | {"spec": pod["spec"] | {"nodeName": "lab-1"}, "status": {"phase": "Running"} | status})

        self.do(bound)

    @contextlib.contextmanager
    def serve(self) -> Iterator[LabServer]:
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(self._start(listening), self._loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(_stop(runner), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)
            self._loop.close()

    async def _start(self, listening: socket.socket) -> web.AppRunner:
        runner = web.AppRunner(make_app(self.store, FakeRuntime(), TOKEN), shutdown_timeout=0.1)  # type: ignore[arg-type]
        await runner.setup()
        await web.SockSite(runner, listening, ssl_context=self.certificates.server()).start()
        return runner
