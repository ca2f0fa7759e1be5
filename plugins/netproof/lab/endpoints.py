"""From Services and pods to EndpointSlices: a pure function.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from netproof.lab.facts import FINISHED, SERVICE_NAME, is_deleted, is_part, is_ready, key
from netproof.lab.seams import Object

MANAGED = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
_ZONE = "topology.kubernetes.io/zone"


def slices(service: Object, pods: Iterable[Object], nodes: Sequence[Object]) -> list[Object]:
    """The slices of a Service: one a family, more where its named ports have different numbers in different pods.

    None for a Service without a selector: its slices are somebody else's.
    """
    spec = service["spec"]
    if not spec.get("selector") or spec.get("type") == "ExternalName":
        return []
    zones = {node["metadata"]["name"]: node["metadata"].get("labels", {}).get(_ZONE) for node in nodes}
    chosen = [pod for pod in pods if _is_behind(pod, service)]
    return [made for family in spec.get("ipFamilies") or ["IPv4"] for made in _of_family(service, family, chosen, zones)]


def _is_behind(pod: Object, service: Object) -> bool:
    here = pod["metadata"]["namespace"] == service["metadata"]["namespace"]
    return (
        here
        and pod.get("status", {}).get("phase") not in FINISHED
        and is_part(service["spec"]["selector"], pod["metadata"].get("labels") or {})
    )


def _of_family(service: Object, family: str, pods: Sequence[Object], zones: dict[str, str | None]) -> list[Object]:
    groups: dict[str, list[Object]] = {}  # ports as JSON -> endpoints that have them at these numbers
    for pod in pods:
        address = _address(pod, family)
        if address:
            endpoint = _endpoint(service, pod, address, zones)
            groups.setdefault(json.dumps(_ports(service, pod)), []).append(endpoint)
    return [_slice(service, family, ports, ends) for ports, ends in (groups or {"[]": []}).items()]


def _address(pod: Object, family: str) -> str:
    given = [entry["ip"] for entry in pod.get("status", {}).get("podIPs") or []]
    return next((ip for ip in given if (":" in ip) == (family == "IPv6")), "")


def _endpoint(service: Object, pod: Object, address: str, zones: dict[str, str | None]) -> Object:
    spec, metadata = pod["spec"], pod["metadata"]
    serving, terminating = is_ready(pod), is_deleted(pod)
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    target = {"kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
    made: Object = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "nodeName": spec["nodeName"],
        "targetRef": target,
    }
    if zone := zones.get(spec["nodeName"]):
        made["zone"] = zone
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        made["hostname"] = spec["hostname"]
    return made


def _ports(service: Object, pod: Object) -> list[Object]:
    found = []
    for port in service["spec"].get("ports") or []:
        number = target_number(port, pod)
        if number:
            more = {"appProtocol": port["appProtocol"]} if "appProtocol" in port else {}
            found.append({"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"), "port": number} | more)
    return found


def target_number(port: Object, pod: Object) -> int | None:
    """The number that a Service's port has in a pod; None where the pod has no container port of that name and protocol."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    declared = [p for container in pod["spec"]["containers"] for p in container.get("ports") or []]
    same = (p for p in declared if p.get("name") == target and p.get("protocol", "TCP") == port.get("protocol", "TCP"))
    return next((int(p["containerPort"]) for p in same), None)


def _slice(service: Object, family: str, ports: str, ends: list[Object]) -> Object:
    metadata, headless = service["metadata"], service["spec"].get("clusterIP") == "None"
    labels = (metadata.get("labels") or {}) | MANAGED | {SERVICE_NAME: metadata["name"]}
    labels |= {"service.kubernetes.io/headless": ""} if headless else {}
    owner = {"apiVersion": "v1", "kind": "Service", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    name = f"{metadata['name']}-{family.lower()}-{hashlib.sha256(ports.encode()).hexdigest()[:5]}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": metadata["namespace"], "labels": labels, "ownerReferences": [owner]},
        "addressType": family,
        "endpoints": sorted(ends, key=lambda end: key({"metadata": end["targetRef"]})),
        "ports": json.loads(ports),
    }


def serving_nodes(service_slices: Iterable[Object]) -> list[str]:
    """The nodes with a ready endpoint; where none is ready anywhere, those with one that still serves while it ends."""
    ends = [end for made in service_slices for end in made.get("endpoints") or []]
    ready = {end["nodeName"] for end in ends if end["conditions"].get("ready") is not False and end.get("nodeName")}
    last = {end["nodeName"] for end in ends if end["conditions"].get("serving") and end.get("nodeName")}
    return sorted(ready or last)
