"""All parts of the lab, at work in one event loop."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from netproof.lab import faults
from netproof.lab.api import make_app
from netproof.lab.controllers import Controllers
from netproof.lab.doors import Doors
from netproof.lab.facts import unchanged
from netproof.lab.faults import Fault
from netproof.lab.kubelet import Kubelet
from netproof.lab.machine import Machine
from netproof.lab.nameserver import DnsServers
from netproof.lab.nodes import first_objects
from netproof.lab.plane import KINDS
from netproof.lab.plane.reconcile import Reconciler
from netproof.lab.seams import NODES, Launch, RulesRefused, outsider_addresses
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
    sight: Any = faults.Sight(store, chosen)
    servers = DnsServers(sight, machine, edit=faults.answers(chosen))
    async with asyncio.TaskGroup() as group:
        for part in (plane, Controllers(store, machine), Kubelet(store, machine, programmed=plane.reached), servers):
            group.create_task(part.run())
        for name, door in doors.outsiders.items():
            await _outsider(machine, name, door, order["outsiders"][name])
        text = await _api(store, machine, doors.api)
        while any(pod["status"].get("phase") != "Running" for pod in store.list("Pod", "kube-system")):  # names are answered then
            await store.newer(store.version)
        for fault in chosen:
            if fault.links:
                fault.links(machine)
        outsiders = {f"outside/{name}": _known(name, door) for name, door in doors.outsiders.items()}
        print(json.dumps({"kubeconfig": text, "outsiders": outsiders}), flush=True)  # to whoever wanted the lab


async def _api(store: Store, machine: Machine, door: socket.socket) -> str:
    """Serve it; the kubeconfig that leads there."""
    made, token = certificates(), secrets.token_urlsafe(24)
    runner = web.AppRunner(make_app(store, machine, token), access_log=None)
    await runner.setup()
    await web.SockSite(runner, door, ssl_context=made.server(), backlog=256).start()
    return kubeconfig(f"https://127.0.0.1:{door.getsockname()[1]}", made.authority, token)


# --- outsiders ---------------------------------------------------------------------------------------------------------------


def _known(name: str, door: socket.socket) -> Mapping[str, Any]:
    """How an outsider is reached, and where it is."""
    addresses = dict(zip(("IPv4", "IPv6"), outsider_addresses(name), strict=True))
    return {"socket": "@" + door.getsockname()[1:].decode(), "addresses": addresses}


async def _outsider(machine: Machine, name: str, door: socket.socket, said: Mapping[str, Any]) -> None:
    """Start its agent, and lead who knocks at the door to it."""
    key, command, given = f"outside/{name}", tuple(said["command"]), {field: said[field] for field in ("environment", "files")}
    await machine.start(Launch(key, "", outsider_addresses(name), command, hostname=f"outside-{name}", **given))

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):  # it has not begun to listen, or has ended: who knocks tries again
            far_reader, far_writer = await machine.dial(key, CONTROL_PORT)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    await asyncio.start_unix_server(lead, sock=door)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one of the ends is gone: so shall the other be."""
    with closing(writer), suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


# --- the data plane ----------------------------------------------------------------------------------------------------------


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
                group.create_task(self._follow(node, Reconciler(self.machine, node, edit)))

    async def reached(self, version: int) -> None:
        """Wait until what the objects were at that version is in force on all nodes that are not late on purpose."""
        punctual = [node for node in NODES if not self._delay(node)]
        async with self._news:
            await self._news.wait_for(lambda: all(self._done.get(node, 0) >= version for node in punctual))

    def _delay(self, node: str) -> float:
        return max((fault.delay(node) for fault in self.faults if fault.delay), default=0.0)

    async def _follow(self, node: str, reconciler: Reconciler) -> None:
        done: Sequence[object] = ()
        while True:
            seen, snapshot = self.store.version, self.store.snapshot()
            await asyncio.sleep(self._delay(node))
            told = [snapshot.get(kind) for kind in KINDS]
            try:
                if self.faults or not unchanged(done, told):
                    await reconciler.reconcile(snapshot)
                    done = told
            except RulesRefused as error:  # what was in force still is; whoever looks at the lab's log sees why
                print(f"rules refused: {error}", file=sys.stderr, flush=True)
            self._done[node] = seen
            async with self._news:
                self._news.notify_all()
            await asyncio.sleep(PACE)
            await self._newer(seen)

    async def _newer(self, seen: int) -> None:
        """Until there is something newer, or for as long as the edits of the faults hold good."""
        again = min((fault.again for fault in self.faults if fault.again), default=None)
        with suppress(TimeoutError):
            async with asyncio.timeout(again):
                await self.store.newer(seen)
