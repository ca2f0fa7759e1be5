"""What is done for Services of type LoadBalancer: addresses, a node for each of them, and health-check ports on the nodes."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from netproof.lab.facts import slices_of
from netproof.lab.plumbing import listener
from netproof.lab.seams import BALANCER_NETWORKS, NODES, Object, Runtime

if TYPE_CHECKING:
    from netproof.lab.store import Store

_FIRST = {family: ipaddress.ip_network(network)[0] for family, network in zip(("IPv4", "IPv6"), BALANCER_NETWORKS, strict=True)}


class Balancer:
    """Gives Services of type LoadBalancer addresses, and leads each address to a node."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store, self._runtime = store, runtime
        self._free = deque(range(1, 255))  # what has been free for the longest comes first
        self._given: dict[str, int] = {}  # uid of a Service -> its number: the last part of its address in each family
        self._led: dict[str, str] = {}  # address -> node

    def reconcile(self) -> None:
        """Give, take back, announce."""
        services = {one["metadata"]["uid"]: one for one in self._store.list("Service") if not one["spec"].get("loadBalancerClass")}
        balanced = [uid for uid, service in services.items() if service["spec"].get("type") == "LoadBalancer"]
        for uid in self._given.keys() - balanced:
            self._free.append(self._given.pop(uid))
        for uid in balanced:
            if uid not in self._given and self._free:
                self._given[uid] = self._free.popleft()
        led = {address: self._node(services[uid], address) for uid in self._given for address in self._addresses(services[uid])}
        for address in sorted(led.keys() | self._led.keys()):
            if led.get(address, "") != self._led.get(address, ""):
                self._runtime.announce(address, led.get(address, ""))
        self._led = led
        for service in services.values():
            ingress = [{"ip": address, "ipMode": "VIP"} for address in self._addresses(service)]
            status = {"loadBalancer": {"ingress": ingress} if ingress else {}}
            self._store.update(service | {"status": service.get("status", {}) | status})

    def _addresses(self, service: Object) -> list[str]:
        number = self._given.get(service["metadata"]["uid"])
        return [str(_FIRST[family] + number) for family in service["spec"].get("ipFamilies") or ["IPv4"]] if number else []

    def _node(self, service: Object, address: str) -> str:
        """Any node, or with externalTrafficPolicy Local one that has an endpoint; it changes only when it must."""
        local = service["spec"].get("externalTrafficPolicy") == "Local"
        nodes = _serving(slices_of(service, self._store.list("EndpointSlice"))) if local else NODES
        number = self._given[service["metadata"]["uid"]]
        return self._led[address] if self._led.get(address) in nodes else nodes[number % len(nodes)] if nodes else ""


def _serving(slices: Sequence[Object]) -> list[str]:
    """The nodes with a ready endpoint; where none is ready anywhere, those with one that still serves while it ends."""
    ends = [end for made in slices for end in made.get("endpoints") or [] if end.get("nodeName")]
    ready = {end["nodeName"] for end in ends if end["conditions"].get("ready") is not False}
    return sorted(ready or {end["nodeName"] for end in ends if end["conditions"].get("serving")})


class HealthPorts:
    """On each node an HTTP server for each healthCheckNodePort: 200 where the Service has a ready endpoint there, else 503."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store, self._runtime = store, runtime
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._services: dict[int, Object] = {}

    async def reconcile(self) -> None:
        """Listen on the ports that Services have now, and on no others."""
        self._services = {port: one for one in self._store.list("Service") if (port := one["spec"].get("healthCheckNodePort"))}
        wanted = {(node, port) for node in NODES for port in self._services}
        for place in self._servers.keys() - wanted:
            self._servers.pop(place).close()
        for node, port in sorted(wanted - self._servers.keys()):
            with suppress(OSError):  # a pod on the node's own network has the port: tried again on the next change
                sock = listener(self._runtime, node, port, socket.SOCK_STREAM)
                server = web.Server(partial(self._answer, node, port))
                self._servers[node, port] = await asyncio.get_running_loop().create_server(server, sock=sock)

    async def _answer(self, node: str, port: int, _request: web.BaseRequest) -> web.Response:
        service = self._services[port]
        family = (service["spec"].get("ipFamilies") or ["IPv4"])[0]  # of one alone: a dual-stack endpoint counts once
        slices = [one for one in slices_of(service, self._store.list("EndpointSlice")) if one["addressType"] == family]
        ends = [end for made in slices for end in made.get("endpoints") or [] if end.get("nodeName") == node]
        here = sum(end["conditions"].get("ready") is not False for end in ends)
        name = {field: service["metadata"][field] for field in ("namespace", "name")}
        state = {"service": name, "localEndpoints": here, "serviceProxyHealthy": True}
        return web.json_response(state, status=200 if here else 503, headers={"Connection": "close"})
