"""Services of a world, and what the control plane makes of them before a packet is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netproof.kube.client import Api
from netproof.kube.objects import path
from netproof.model.flow import Family, Port, Protocol


@dataclass(frozen=True, slots=True)
class Vip:
    """A Service as the API shows it. `node_ports` has an entry a Service port where there are any, `targets` says where ports lead."""

    name: str
    namespace: str
    uid: str
    addresses: Mapping[Family, str]
    ports: tuple[Port, ...]
    node_ports: Mapping[Port, int]
    targets: Mapping[Port, int | str] = field(default_factory=dict)

    @property
    def dns(self) -> str:
        """Its name below the cluster's domain: `web.namespace.svc`."""
        return f"{self.name}.{self.namespace}.svc"


def service(
    name: str, namespace: str, ports: Mapping[Port, int | str], own: Mapping[str, str], *, selector: Mapping[str, str], **spec: Any
) -> dict[str, Any]:
    """A Service with that selector; `ports` maps a Service port to the pods' port."""
    entries = [
        {"name": f"{port.protocol.lower()}-{port.number}", "protocol": str(port.protocol), "port": port.number, "targetPort": target}
        for port, target in ports.items()
    ]
    metadata = {"name": name, "namespace": namespace, "labels": dict(own)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": dict(selector), "ports": entries} | spec}


def vip(obj: Mapping[str, Any]) -> Vip:
    """What the API made of a Service."""
    spec, meta = obj["spec"], obj["metadata"]
    addresses = {Family.of(ip): ip for ip in spec.get("clusterIPs", []) if ip != "None"}
    ports = {Port(Protocol(entry["protocol"]), entry["port"]): entry.get("nodePort", 0) for entry in spec["ports"]}
    node_ports = {port: number for port, number in ports.items() if number}
    targets = {Port(Protocol(entry["protocol"]), entry["port"]): entry.get("targetPort", entry["port"]) for entry in spec["ports"]}
    return Vip(meta["name"], meta["namespace"], meta["uid"], addresses, tuple(ports), node_ports, targets)


def endpoints(api: Api, service: Vip) -> dict[str, bool]:
    """The addresses in the Service's EndpointSlices, and whether each is ready."""
    slices = api.list(path("EndpointSlice", namespace=service.namespace), labels=f"kubernetes.io/service-name={service.name}")
    return {
        address: bool(entry.get("conditions", {}).get("ready", True))
        for slice_ in slices
        for entry in slice_.get("endpoints") or []
        for address in entry["addresses"]
    }


def balanced_at(api: Api, service: Vip) -> dict[Family, str]:
    """The addresses that a load balancer has given the Service so far."""
    status = api.get(path("Service", service.name, service.namespace)).get("status", {})
    given = [entry["ip"] for entry in status.get("loadBalancer", {}).get("ingress", []) if "ip" in entry]
    return {Family.of(address): address for address in given}
