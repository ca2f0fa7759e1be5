"""Objects for the tests of the lab's data plane, as the API would show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netproof.lab.seams import Object, Snapshot, pod_networks

PORTS = ({"name": "web", "containerPort": 8080}, {"name": "dns", "protocol": "UDP", "containerPort": 5353})


def addresses(node: str, number: int) -> tuple[str, str]:
    """The addresses of a node's pod with that number."""
    v4, v6 = (network.partition("/")[0] for network in pod_networks(node))
    return f"{v4[:-1]}{number}", f"{v6}{number:x}"


def pod(key: str, node: str, number: int, *, labels: dict[str, str] | None = None, ports: Sequence[Object] = PORTS, **more: Any) -> Object:
    """A running pod; `more` goes into its spec, but for `phase`."""
    namespace, name = key.split("/")
    status = {"phase": more.pop("phase", "Running"), "podIPs": [{"ip": address} for address in addresses(node, number)]}
    spec = {"nodeName": node, "containers": [{"name": "main", "ports": [*ports]}], **more}
    meta = {"name": name, "namespace": namespace, "uid": key, "labels": {"pod": name} if labels is None else labels}
    return {"kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def service(key: str, number: int, *, balancer: Sequence[str] = (), port: Object | None = None, **spec: Any) -> Object:
    """A Service with cluster IPs of that number, port 80 unless told."""
    namespace, name = key.split("/")
    vips = [f"10.96.1.{number}", f"fd00:96::1:{number:x}"]
    port = {"name": "web", "port": 80, "protocol": "TCP", **(port or {})}
    status = {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"} for address in balancer]}}
    spec = {"type": "ClusterIP", "clusterIP": vips[0], "clusterIPs": vips, "ports": [port], **spec}
    return {"kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": status}


def endpoint(of: Object, **conditions: bool) -> tuple[Object, dict[str, bool]]:
    """A pod as an endpoint, ready unless told."""
    return of, {"ready": True, "serving": True, "terminating": False, **conditions}


def slices(
    key: str, *endpoints: Object | tuple[Object, dict[str, bool]], port: int = 8080, name: str = "web", protocol: str = "TCP"
) -> list[Object]:
    """The EndpointSlices of a Service, one a family."""
    namespace, owner = key.split("/")
    known = [one if isinstance(one, tuple) else endpoint(one) for one in endpoints]
    return [
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"{owner}-{family}", "namespace": namespace, "labels": {"kubernetes.io/service-name": owner}},
            "addressType": family,
            "ports": [{"name": name, "port": port, "protocol": protocol}],
            "endpoints": [
                {"addresses": [one["status"]["podIPs"][index]["ip"]], "nodeName": one["spec"]["nodeName"], "conditions": conditions}
                for one, conditions in known
            ],
        }
        for index, family in enumerate(("IPv4", "IPv6"))
    ]


def policy(key: str, subject: Object | None = None, **spec: Any) -> Object:
    """A NetworkPolicy; it selects all pods of its namespace unless told."""
    namespace, name = key.split("/")
    return {"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": {"podSelector": subject or {}, **spec}}


def namespace(name: str, **labels: str) -> Object:
    """A namespace with its default label."""
    return {"kind": "Namespace", "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **labels}}}


def snapshot(*objects: Object | list[Object]) -> Snapshot:
    """All of them by kind; x, y and z are there unless other namespaces are given."""
    flat = [one for given in objects for one in (given if isinstance(given, list) else [given])]
    if not any(one["kind"] == "Namespace" for one in flat):
        flat += [namespace(name) for name in "xyz"]
    found: dict[str, list[Object]] = {}
    for one in flat:
        found.setdefault(one["kind"], []).append(one)
    return found
