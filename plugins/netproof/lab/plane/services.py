"""Services: which addresses and ports lead to which endpoints, as seen from one node. The input is EndpointSlices, never pods.

https://kubernetes.io/docs/reference/networking/virtual-ips/ and https://kubernetes.io/docs/reference/kubernetes-api/service-resources/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netproof.lab.plane.model import Backend, Choice, Frontend, Kind, is_ipv6
from netproof.lab.seams import Object, Snapshot, node_addresses

_FOREIGN = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")  # another proxy's, or nobody's
_FAMILIES = {"IPv4": False, "IPv6": True}


def frontends(snapshot: Snapshot, node: str) -> tuple[Frontend, ...]:
    """All that the node answers for others. Where two Services claim one place, the older one has it; host ports come last."""
    known: dict[str, list[_Endpoint]] = {}
    for endpoint in _endpoints(snapshot):
        known.setdefault(endpoint.service, []).append(endpoint)
    found: dict[tuple[str, str, int], Frontend] = {}
    for service in sorted(snapshot.get("Service", ()), key=_age):
        for frontend in _of_service(service, known.get(_key(service), []), node):
            found.setdefault(frontend.place, frontend)
    for frontend in _host_ports(snapshot, node):
        found.setdefault(frontend.place, frontend)
    return tuple(found.values())


def _key(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _age(service: Object) -> tuple[str, str, str]:
    meta = service["metadata"]
    return meta.get("creationTimestamp") or "", meta["namespace"], meta["name"]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """An address and port of a slice, with the conditions that the API's defaults fill in."""

    service: str
    port: tuple[str, str]  # its name and protocol
    backend: Backend
    ready: bool
    serving: bool
    terminating: bool


def _endpoints(snapshot: Snapshot) -> Iterator[_Endpoint]:
    for slice_ in snapshot.get("EndpointSlice", ()):
        meta = slice_["metadata"]
        owner = (meta.get("labels") or {}).get("kubernetes.io/service-name")
        if not owner or slice_["addressType"] not in _FAMILIES:
            continue
        for port in (port for port in slice_.get("ports") or () if port.get("port") is not None):
            name = port.get("name") or "", _protocol(port)
            for endpoint in slice_.get("endpoints") or ():
                yield from _of_endpoint(endpoint, f"{meta['namespace']}/{owner}", name, port["port"])


def _of_endpoint(endpoint: Object, service: str, name: tuple[str, str], number: int) -> Iterator[_Endpoint]:
    given = endpoint.get("conditions") or {}
    ready = given.get("ready") is not False
    serving = ready if given.get("serving") is None else bool(given["serving"])
    for address in endpoint["addresses"]:
        backend = Backend(address, number, endpoint.get("nodeName") or "")
        yield _Endpoint(service, name, backend, ready, serving, bool(given.get("terminating")))


def _protocol(port: Object) -> str:
    return str(port.get("protocol") or "TCP").lower()


def _usable(endpoints: Iterable[_Endpoint]) -> tuple[Backend, ...]:
    """The ready ones; where there is none, those that are about to end and still serve."""
    known = list(endpoints)
    chosen = [one for one in known if one.ready] or [one for one in known if one.serving and one.terminating]
    return tuple(sorted({one.backend for one in chosen}))


@dataclass(frozen=True, slots=True)
class _Routes:
    """A Service's port in one family: all its frontends lead to one of these."""

    name: str
    protocol: str
    everywhere: Choice
    inner: Choice
    outer: Choice
    affinity: int | None
    serving: tuple[Backend, ...]

    def frontend(self, kind: Kind, address: str, port: int, ranges: tuple[str, ...] | None = None) -> Frontend:
        """What comes from this node's pods and leads to an address of the outside is not subject to the external traffic policy."""
        inside, outside = (self.inner, None) if kind == "cluster-ip" else (self.everywhere, self.outer)
        return Frontend(kind, self.name, address, self.protocol, port, inside, outside, self.affinity, ranges, self.serving)


def _routes(service: Object, port: Object, endpoints: list[_Endpoint], node: str) -> _Routes:
    spec = service["spec"]
    everywhere = _usable(endpoints)
    local = _usable(one for one in endpoints if one.backend.node == node)

    def choice(policy: str, *, masquerade: bool) -> Choice:
        if spec.get(policy) != "Local":
            return Choice(everywhere, masquerade)
        return Choice(local, otherwise="drop" if everywhere else "reject")

    name = f"{_key(service)}:{port.get('name') or ''}"
    inner, outer = choice("internalTrafficPolicy", masquerade=False), choice("externalTrafficPolicy", masquerade=True)
    serving = tuple(sorted({one.backend for one in endpoints if one.serving}))
    return _Routes(name, _protocol(port), Choice(everywhere), inner, outer, _affinity(spec), serving)


def _affinity(spec: Object) -> int | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    given = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    return int(given or 10800)


def _of_service(service: Object, endpoints: list[_Endpoint], node: str) -> Iterator[Frontend]:
    meta, spec = service["metadata"], service["spec"]
    addresses = [address for address in spec.get("clusterIPs") or [spec.get("clusterIP")] if address and address != "None"]
    if spec.get("type") == "ExternalName" or not addresses or any(label in (meta.get("labels") or {}) for label in _FOREIGN):
        return
    for address in addresses:
        for port in spec.get("ports") or ():
            name = port.get("name") or "", _protocol(port)
            fitting = [one for one in endpoints if one.port == name and is_ipv6(one.backend.address) == is_ipv6(address)]
            routes = _routes(service, port, fitting, node)
            yield routes.frontend("cluster-ip", address, port["port"])
            yield from _external(service, port, routes, node, ipv6=is_ipv6(address))


def _external(service: Object, port: Object, routes: _Routes, node: str, *, ipv6: bool) -> Iterator[Frontend]:
    """The frontends of one family beside the cluster IP."""
    spec, status = service["spec"], service.get("status") or {}
    if port.get("nodePort") and spec.get("type") in ("NodePort", "LoadBalancer"):
        yield from (routes.frontend("node-port", one, port["nodePort"]) for one in node_addresses(node) if is_ipv6(one) == ipv6)
    yield from (routes.frontend("external-ip", one, port["port"]) for one in spec.get("externalIPs") or () if is_ipv6(one) == ipv6)
    if spec.get("type") == "LoadBalancer":
        for entry in (status.get("loadBalancer") or {}).get("ingress") or ():
            if entry.get("ip") and is_ipv6(entry["ip"]) == ipv6 and entry.get("ipMode") != "Proxy":
                yield routes.frontend("load-balancer", entry["ip"], port["port"], _ranges(spec))


def _ranges(spec: Object) -> tuple[str, ...] | None:
    """Ranges of one family alone admit nobody of the other."""
    return tuple(text.strip() for text in spec.get("loadBalancerSourceRanges") or ()) or None


def _host_ports(snapshot: Snapshot, node: str) -> Iterator[Frontend]:
    for pod in snapshot.get("Pod", ()):
        spec, status = pod["spec"], pod.get("status") or {}
        if spec.get("nodeName") != node or spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
            continue
        addresses = [entry["ip"] for entry in status.get("podIPs") or ()]
        for port in (port for container in spec["containers"] for port in container.get("ports") or () if port.get("hostPort")):
            yield from _host_port(_key(pod), port, addresses, node)


def _host_port(pod: str, port: Object, addresses: list[str], node: str) -> Iterator[Frontend]:
    for host in node_addresses(node):
        backends = tuple(Backend(one, port["containerPort"], node) for one in addresses if is_ipv6(one) == is_ipv6(host))
        anywhere = "::" if is_ipv6(host) else "0.0.0.0"
        if backends and (port.get("hostIP") or anywhere) in (anywhere, host):
            choice = Choice(backends)
            yield Frontend("host-port", f"{pod}:host", host, _protocol(port), port["hostPort"], choice, choice, serving=backends)
