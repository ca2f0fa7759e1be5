"""From Services and pods to EndpointSlices: a pure function.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from netproof.lab.facts import FINISHED, SERVICE_NAME, is_deleted, is_part, is_ready
from netproof.lab.seams import Object

MANAGED = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}


def slices(service: Object, pods: Iterable[Object]) -> list[Object]:
    """The slices of a Service: one a family, more where its named ports have different numbers in different pods.

    None for a Service without a selector: its slices are somebody else's.
    """
    spec, home = service["spec"], service["metadata"]["namespace"]
    groups: dict[tuple[str, str], list[Object]] = {}  # family, ports as JSON -> endpoints that have them at these numbers
    for pod in pods if spec.get("selector") and spec.get("type") != "ExternalName" else ():
        status, labels = pod.get("status", {}), pod["metadata"].get("labels") or {}
        if pod["metadata"]["namespace"] == home and status.get("phase") not in FINISHED and is_part(spec["selector"], labels):
            ports = json.dumps([made for port in spec.get("ports") or () for made in _ports(port, pod)])
            for address in (entry["ip"] for entry in status.get("podIPs") or ()):
                family = "IPv6" if ":" in address else "IPv4"
                groups.setdefault((family, ports), []).append(_endpoint(service, pod, address))
    return [_slice(service, family, ports, ends) for (family, ports), ends in groups.items() if family in spec.get("ipFamilies", ["IPv4"])]


def _endpoint(service: Object, pod: Object, address: str) -> Object:
    spec, metadata = pod["spec"], pod["metadata"]
    serving, terminating = is_ready(pod), is_deleted(pod)
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    return {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "nodeName": spec["nodeName"],
        "targetRef": {"kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
    } | ({"hostname": spec["hostname"]} if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"] else {})


def _ports(port: Object, pod: Object) -> list[Object]:
    """A Service's port as a slice of that pod has it; nothing where the pod has no container port of the name that it targets."""
    protocol, target = port.get("protocol", "TCP"), port.get("targetPort", port["port"])
    declared = (one for container in pod["spec"]["containers"] for one in container.get("ports") or ())
    named = (one["containerPort"] for one in declared if (one.get("name"), one.get("protocol", "TCP")) == (target, protocol))
    number = target if isinstance(target, int) else next(named, None)
    return [{"name": port.get("name", ""), "protocol": protocol, "port": number}] if number else []


def _slice(service: Object, family: str, ports: str, ends: list[Object]) -> Object:
    metadata = service["metadata"]
    labels = (metadata.get("labels") or {}) | MANAGED | {SERVICE_NAME: metadata["name"]}
    owner = {"apiVersion": "v1", "kind": "Service", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    name = f"{metadata['name']}-{family.lower()}-{hashlib.sha256(ports.encode()).hexdigest()[:5]}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": metadata["namespace"], "labels": labels, "ownerReferences": [owner]},
        "addressType": family,
        "endpoints": ends,
        "ports": json.loads(ports),
    }
