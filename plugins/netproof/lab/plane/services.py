"""Services: which addresses and ports lead to which endpoints, as seen from one node. The input is EndpointSlices, never pods.

https://kubernetes.io/docs/reference/networking/virtual-ips/ and https://kubernetes.io/docs/reference/kubernetes-api/service-resources/
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from typing import NamedTuple

from netproof.lab.facts import FINISHED, SERVICE_NAME, key
from netproof.lab.plane.model import Backend, Choice, Frontend, Kind, is_ipv6, protocol_of
from netproof.lab.seams import Object, Snapshot, node_addresses

_FOREIGN = {"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"}  # another proxy's, or nobody's


class _Endpoint(NamedTuple):
    """An address and port of a slice, with the conditions that the API's defaults fill in."""

    backend: Backend
    ready: bool
    serving: bool
    terminating: bool


_Known = Mapping[tuple[str, str, str, bool], Sequence[_Endpoint]]  # Service, name and protocol of its port, whether it is IPv6


def frontends(snapshot: Snapshot, node: str) -> tuple[Frontend, ...]:
    """All that the node answers for others. Where two Services claim one place, the older one has it; host ports come last."""
    known, found = _endpoints(snapshot), dict[tuple[str, str, int], Frontend]()
    services = sorted(snapshot.get("Service", ()), key=lambda one: (one["metadata"].get("creationTimestamp") or "", key(one)))
    for frontend in chain(*(_of_service(service, known, node) for service in services), _host_ports(snapshot, node)):
        found.setdefault(frontend.place, frontend)
    return tuple(found.values())


def _endpoints(snapshot: Snapshot) -> _Known:
    found = defaultdict[tuple[str, str, str, bool], list[_Endpoint]](list)
    slices = [one for one in snapshot.get("EndpointSlice", ()) if one["addressType"] in ("IPv4", "IPv6")]
    for made, port in ((one, port) for one in slices for port in one.get("ports") or () if port.get("port")):
        service = f"{made['metadata']['namespace']}/{(made['metadata'].get('labels') or {}).get(SERVICE_NAME)}"
        name = service, port.get("name") or "", protocol_of(port), made["addressType"] == "IPv6"
        found[name] += [_endpoint(end, address, port["port"]) for end in made.get("endpoints") or () for address in end["addresses"]]
    return found


def _endpoint(end: Object, address: str, port: int) -> _Endpoint:
    said = end.get("conditions") or {}
    ready = said.get("ready") is not False
    serving = ready if said.get("serving") is None else bool(said["serving"])
    return _Endpoint(Backend(address, port, end.get("nodeName") or ""), ready, serving, bool(said.get("terminating")))


def _usable(known: Iterable[_Endpoint], node: str = "") -> tuple[Backend, ...]:
    """The ready ones, of one node or of all; where there is none, those that are about to end and still serve."""
    here = [one for one in known if node in ("", one.backend.node)]
    chosen = [one for one in here if one.ready] or [one for one in here if one.serving and one.terminating]
    return tuple(sorted({one.backend for one in chosen}))


def _of_service(service: Object, known: _Known, node: str) -> Iterator[Frontend]:
    spec, labels = service["spec"], service["metadata"].get("labels") or {}
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds") or 10800
    affinity = seconds if spec.get("sessionAffinity") == "ClientIP" else None
    ranges = tuple(text.strip() for text in spec.get("loadBalancerSourceRanges") or ()) or None
    for port in () if labels.keys() & _FOREIGN else spec.get("ports") or ():
        name, protocol = port.get("name") or "", protocol_of(port)
        for kind, address, number in _places(service, port, node):
            ends = known.get((key(service), name, protocol, is_ipv6(address)), ())
            choices, serving = _choices(spec, kind, ends, node), tuple(sorted({one.backend for one in ends if one.serving}))
            admitted = ranges if kind == "load-balancer" else None
            yield Frontend(kind, f"{key(service)}:{name}", address, protocol, number, *choices, affinity, admitted, serving)


def _places(service: Object, port: Object, node: str) -> list[tuple[Kind, str, int]]:
    """Where a Service's port is to be found, in the families of its cluster IPs."""
    spec, number = service["spec"], port["port"]
    vips = [address for address in spec.get("clusterIPs") or () if address != "None"]
    places: list[tuple[Kind, str, int]] = [("cluster-ip", one, number) for one in vips]
    places += [("external-ip", one, number) for one in spec.get("externalIPs") or ()]
    if spec.get("type") in ("NodePort", "LoadBalancer") and port.get("nodePort"):
        places += [("node-port", one, port["nodePort"]) for one in node_addresses(node)]
    if spec.get("type") == "LoadBalancer":
        given = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        places += [("load-balancer", one["ip"], number) for one in given if one.get("ip") and one.get("ipMode") != "Proxy"]
    return [place for place in places if is_ipv6(place[1]) in map(is_ipv6, vips)]


def _choices(spec: Object, kind: Kind, ends: Sequence[_Endpoint], node: str) -> tuple[Choice, Choice | None]:
    """What comes from this node's pods and leads to an address of the outside is not subject to the external traffic policy."""
    everywhere = _usable(ends)
    local = Choice(_usable(ends, node), otherwise="drop" if everywhere else "reject")
    if kind == "cluster-ip":
        return local if spec.get("internalTrafficPolicy") == "Local" else Choice(everywhere), None
    return Choice(everywhere), local if spec.get("externalTrafficPolicy") == "Local" else Choice(everywhere, masquerade=True)


def _host_ports(snapshot: Snapshot, node: str) -> Iterator[Frontend]:
    for pod in snapshot.get("Pod", ()):
        spec, status = pod["spec"], pod.get("status") or {}
        if spec.get("nodeName") != node or spec.get("hostNetwork") or status.get("phase") in FINISHED:
            continue
        ports = [port for container in spec["containers"] for port in container.get("ports") or () if port.get("hostPort")]
        for port, host in product(ports, node_addresses(node)):
            addresses = [entry["ip"] for entry in status.get("podIPs") or () if is_ipv6(entry["ip"]) == is_ipv6(host)]
            if addresses and port.get("hostIP") in (None, "", "::" if is_ipv6(host) else "0.0.0.0", host):
                choice = Choice(tuple(Backend(one, port["containerPort"], node) for one in addresses))
                yield Frontend("host-port", f"{key(pod)}:host", host, protocol_of(port), port["hostPort"], choice, choice)
