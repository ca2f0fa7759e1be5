"""All parts of the lab, at work in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from netproof.lab import faults
from netproof.lab.api import make_app
from netproof.lab.controllers import Controllers
from netproof.lab.doors import Doors
from netproof.lab.faults import Fault
from netproof.lab.kubelet import Kubelet
from netproof.lab.machine import Machine
from netproof.lab.nameserver import DnsServers
from netproof.lab.nodes import DNS_LABELS, first_objects
from netproof.lab.plane.reconcile import Edit, Reconciler
from netproof.lab.seams import NODES, Launch, RulesRefused, Snapshot, outsider_addresses
from netproof.lab.store import Store
from netproof.lab.tls import certificates, kubeconfig

PACE = 0.03  # seconds: a hundred changes at once are one plan, and the loop that also answers DNS is not taken up by plans
CONTROL_PORT = 9600  # of an outsider's agent, on its loopback


def run(control: socket.socket, doors: Doors, order: Mapping[str, Any]) -> None:
    """The lab's main function, in its first process; it does not return. `order`: `faults` (ids), `outsiders` (by name)."""
    asyncio.run(_serve(control, doors, order))


async def _serve(control: socket.socket, doors: Doors, order: Mapping[str, Any]) -> None:
    chosen = faults.chosen(order.get("faults", ()))
    machine, store = Machine(control), Store()
    for obj in first_objects():
        store.create(obj)
    plane = DataPlane(store, machine, chosen)
    async with asyncio.TaskGroup() as group:
        for part in (
            plane,
            Controllers(store, machine),
            Kubelet(store, machine, programmed=plane.reached),
            DnsServers(faults.Sight(store, chosen), machine, edit=faults.answers(chosen)),  # type: ignore[arg-type]
        ):
            group.create_task(part.run())
        for name, door in doors.outsiders.items():
            await _outsider(machine, name, door, order["outsiders"][name])
        text = await _api(store, machine, doors.api)
        await _named(store)
        for fault in chosen:
            if fault.links:
                fault.links(machine)
        _tell(text, doors)


def _tell(text: str, doors: Doors) -> None:
    """One line of JSON for whoever wanted the lab."""
    outsiders = {
        f"outside/{name}": {
            "socket": "@" + door.getsockname()[1:].decode(),
            "addresses": dict(zip(("IPv4", "IPv6"), outsider_addresses(name), strict=True)),
        }
        for name, door in doors.outsiders.items()
    }
    sys.stdout.write(json.dumps({"kubeconfig": text, "outsiders": outsiders}) + "\n")
    sys.stdout.flush()


async def _api(store: Store, machine: Machine, door: socket.socket) -> str:
    """Serve it; the kubeconfig that leads there."""
    made, token = certificates(), secrets.token_urlsafe(24)
    runner = web.AppRunner(make_app(store, machine, token), access_log=None)
    await runner.setup()
    await web.SockSite(runner, door, ssl_context=made.server(), backlog=256).start()
    return kubeconfig(f"https://127.0.0.1:{door.getsockname()[1]}", made.authority, token)


async def _named(store: Store) -> None:
    """Wait until names are answered: the servers' pods run by then."""
    while True:
        seen = store.version
        pods = [pod for pod in store.list("Pod", "kube-system") if DNS_LABELS.items() <= pod["metadata"]["labels"].items()]
        if all(pod.get("status", {}).get("phase") == "Running" for pod in pods):
            return
        await store.newer(seen)


async def _outsider(machine: Machine, name: str, door: socket.socket, said: Mapping[str, Any]) -> None:
    """Start its agent, and lead who knocks at the door to it."""
    key = f"outside/{name}"
    launch = Launch(
        key,
        "",
        outsider_addresses(name),
        tuple(said["command"]),
        environment=said["environment"],
        files=said["files"],
        hostname=f"outside-{name}",
    )
    await machine.start(launch)

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await machine.dial(key, CONTROL_PORT)
        except OSError:  # it has not begun to listen, or has ended: who knocks tries again
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    await asyncio.start_unix_server(lead, sock=door)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the far end is gone: so shall this one be
    finally:
        writer.close()


@dataclass(slots=True)
class DataPlane:
    """The rules of every node, kept what the objects say, each node by itself."""

    store: Store
    machine: Machine
    faults: Sequence[Fault] = ()
    _done: dict[str, int] = field(default_factory=dict)  # node -> the version that is in force there
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self) -> None:
        edit = faults.edit(self.faults)
        async with asyncio.TaskGroup() as group:
            for node in NODES:
                group.create_task(self._node(node, edit))

    async def reached(self, version: int) -> None:
        """Wait until what the objects were at that version is in force on all nodes that are not late on purpose."""
        punctual = [node for node in NODES if not self._delay(node)]
        async with self._news:
            await self._news.wait_for(lambda: all(self._done.get(node, 0) >= version for node in punctual))

    def _delay(self, node: str) -> float:
        return max((fault.delay(node) for fault in self.faults if fault.delay), default=0.0)

    async def _node(self, node: str, edit: Edit) -> None:
        reconciler = Reconciler(self.machine, edit, nodes=[node])
        while True:
            seen, snapshot = self.store.version, self.store.snapshot()
            await self._bring(reconciler, snapshot, self._delay(node))
            self._done[node] = seen
            async with self._news:
                self._news.notify_all()
            await asyncio.sleep(PACE)
            await self._wait(seen)

    async def _wait(self, seen: int) -> None:
        """Until there is something newer, or for as long as the edits of the faults hold good."""
        again = min((fault.again for fault in self.faults if fault.again), default=None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.store.newer(seen), again)

    async def _bring(self, reconciler: Reconciler, snapshot: Snapshot, delay: float) -> None:
        if delay:
            await asyncio.sleep(delay)
        try:
            await reconciler.reconcile(snapshot)
        except RulesRefused as error:  # what was in force still is; whoever looks at the lab's log sees why
            print(f"rules refused: {error}", file=sys.stderr, flush=True)
