"""What is done for Services of type LoadBalancer: addresses, a node for each of them, and health-check ports on the nodes."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from netproof.lab.endpoints import serving_nodes
from netproof.lab.facts import Pool, slices_of
from netproof.lab.plumbing import listener
from netproof.lab.seams import BALANCER_NETWORKS, NODES, Object, Runtime

if TYPE_CHECKING:
    from netproof.lab.store import Store

_BALANCER = [ipaddress.ip_network(network)[0] for network in BALANCER_NETWORKS]  # IPv4, IPv6


class Balancer:
    """Gives Services of type LoadBalancer addresses, and leads each address to a node."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store, self._runtime = store, runtime
        self._pool = Pool(range(1, 255))
        self._given: dict[str, int] = {}  # uid of a Service -> its number: the last part of its address in each family
        self._led: dict[str, str] = {}  # address -> node

    def reconcile(self) -> None:
        """Give, take back, announce."""
        services = {s["metadata"]["uid"]: s for s in self._store.list("Service") if _wants_balancer(s)}
        for uid in self._given.keys() - services.keys():
            self._pool.give(self._given.pop(uid))
        led: dict[str, str] = {}
        for uid, service in services.items():
            led |= dict.fromkeys(self._addresses(uid, service), self._node(uid, service))
        for address in sorted(led.keys() | self._led.keys()):
            if led.get(address, "") != self._led.get(address, ""):
                self._runtime.announce(address, led.get(address, ""))
        self._led = led
        for service in self._store.list("Service"):
            self._write(service, self._addresses(service["metadata"]["uid"], service))

    def _addresses(self, uid: str, service: Object) -> list[str]:
        asked = service["spec"].get("loadBalancerIP")
        if uid not in self._given and _wants_balancer(service):
            number = self._pool.take(_number(asked) if asked else None)
            if number is not None:
                self._given[uid] = number
        if uid not in self._given:
            return []
        families = service["spec"].get("ipFamilies") or ["IPv4"]
        return [str(_BALANCER[family == "IPv6"] + self._given[uid]) for family in families]

    def _node(self, uid: str, service: Object) -> str:
        """Any node, or with externalTrafficPolicy Local one that has an endpoint; it changes only when it must."""
        candidates: Sequence[str] = NODES
        if service["spec"].get("externalTrafficPolicy") == "Local":
            candidates = serving_nodes(slices_of(service, self._store.list("EndpointSlice")))
        led = [self._led[address] for address in self._addresses(uid, service) if address in self._led]
        kept = [node for node in led if node in candidates]
        if kept or not candidates:
            return kept[0] if kept else ""
        return candidates[self._given.get(uid, 0) % len(candidates)]

    def _write(self, service: Object, addresses: Sequence[str]) -> None:
        if service["spec"].get("loadBalancerClass"):
            return
        ingress = [{"ip": address, "ipMode": "VIP"} for address in addresses]
        status = service.get("status") or {}
        if (status.get("loadBalancer") or {}).get("ingress", []) != ingress:
            self._store.update(service | {"status": status | {"loadBalancer": {"ingress": ingress} if ingress else {}}})


def _wants_balancer(service: Object) -> bool:
    return service["spec"].get("type") == "LoadBalancer" and not service["spec"].get("loadBalancerClass")


def _number(address: str) -> int:
    """Where an address stands in the pool; one that the pool never hands out where it is not in it."""
    with suppress(ValueError):
        asked = ipaddress.ip_address(address)
        return int(asked) - int(_BALANCER[asked.version == 6])
    return -1


class HealthPorts:
    """On each node an HTTP server for each healthCheckNodePort: 200 where the Service has a ready endpoint there, else 503."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store, self._runtime = store, runtime
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._services: dict[int, tuple[str, str]] = {}  # port -> namespace, name

    async def reconcile(self) -> None:
        """Listen on the ports that Services have now, and on no others."""
        specs = [(s["spec"].get("healthCheckNodePort"), s["metadata"]) for s in self._store.list("Service")]
        self._services = {port: (meta["namespace"], meta["name"]) for port, meta in specs if port}
        wanted = {(node, port) for node in NODES for port in self._services}
        for place in self._servers.keys() - wanted:
            self._servers.pop(place).close()
        for node, port in sorted(wanted - self._servers.keys()):
            with suppress(OSError):  # a pod on the node's own network has the port: tried again on the next change
                self._servers[node, port] = await self._listen(node, port)

    def close(self) -> None:
        """Stop listening."""
        for server in self._servers.values():
            server.close()

    async def _listen(self, node: str, port: int) -> asyncio.Server:
        async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(node, port))
                await writer.drain()
            writer.close()

        return await asyncio.start_server(answered, sock=listener(self._runtime, node, port, socket.SOCK_STREAM))

    def _answer(self, node: str, port: int) -> bytes:
        namespace, name = self._services.get(port, ("", ""))
        service = self._store.get("Service", name, namespace)
        here = sum(_is_here(end, node) for made in self._slices(service) for end in made.get("endpoints") or [])
        state = {"service": {"namespace": namespace, "name": name}, "localEndpoints": here, "serviceProxyHealthy": True}
        body = json.dumps(state)
        head = f"HTTP/1.1 {'200 OK' if here else '503 Service Unavailable'}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()

    def _slices(self, service: Object | None) -> list[Object]:
        """Of one family: a dual-stack endpoint counts once."""
        if service is None:
            return []
        family = (service["spec"].get("ipFamilies") or ["IPv4"])[0]
        return [made for made in slices_of(service, self._store.list("EndpointSlice")) if made["addressType"] == family]


def _is_here(end: Object, node: str) -> bool:
    return end.get("nodeName") == node and end["conditions"].get("ready") is not False
