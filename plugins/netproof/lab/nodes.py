"""What stands in the lab before anything is asked of it: its nodes, the first namespaces, the Services of the API and of DNS."""

from __future__ import annotations

import os

from netproof.lab.facts import SERVICE_NAME, condition
from netproof.lab.seams import API_SERVICE, DNS_SERVICE, NODES, Object, node_addresses, pod_networks

API_PORT = 6443  # on the first node: whatever listens there answers behind the Service `kubernetes`
DNS_LABELS = {"k8s-app": "kube-dns"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def first_objects() -> tuple[Object, ...]:
    """Complete objects, to be created in this order."""
    namespaces = [_namespace(name) for name in ("default", "kube-system", "kube-public")]
    servers = [_dns_pod(number, node) for number, node in enumerate(NODES[:2])]
    return (*map(node_object, NODES), *namespaces, _api_service(), *_api_slices(), _dns_service(), *servers)


def node_object(name: str) -> Object:
    """A node as its kubelet would describe it: Ready, in a zone of its own."""
    system = os.uname()
    architecture = _ARCHITECTURES.get(system.machine, system.machine)
    place = {"topology.kubernetes.io/region": "lab", "topology.kubernetes.io/zone": f"zone-{NODES.index(name) + 1}"}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture} | place
    networks = pod_networks(name)
    addresses = [{"type": "InternalIP", "address": address} for address in node_addresses(name)]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDR": networks[0], "podCIDRs": list(networks)},
        "status": {
            "addresses": [*addresses, {"type": "Hostname", "address": name}],
            "capacity": {"pods": "250"},
            "allocatable": {"pods": "250"},
            "conditions": [condition((), "Ready", holds=True, reason="KubeletReady", message="the lab is up")],
            "nodeInfo": {
                "architecture": architecture,
                "operatingSystem": "linux",
                "kernelVersion": system.release,
                "osImage": "Netproof lab",
                "containerRuntimeVersion": "lab://namespaces",
                "kubeletVersion": "lab",
                "kubeProxyVersion": "lab",
            },
        },
    }


def _namespace(name: str) -> Object:
    metadata = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata, "spec": {"finalizers": ["kubernetes"]}, "status": _active()}


def _active() -> Object:
    return {"phase": "Active"}


def _service(name: str, namespace: str, addresses: tuple[str, str], ports: list[Object], spec: Object) -> Object:
    given = {
        "type": "ClusterIP",
        "clusterIP": addresses[0],
        "clusterIPs": list(addresses),
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "PreferDualStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "ports": ports,
    }
    metadata = {"name": name, "namespace": namespace, "labels": dict(spec.get("selector", {}))}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": given | spec, "status": {"loadBalancer": {}}}


def _api_service() -> Object:
    port = {"name": "https", "protocol": "TCP", "port": 443, "targetPort": API_PORT}
    return _service("kubernetes", "default", API_SERVICE, [port], {})


def _api_slices() -> list[Object]:
    return [_api_slice(address) for address in node_addresses(NODES[0])]


def _api_slice(address: str) -> Object:
    family = "IPv6" if ":" in address else "IPv4"
    metadata = {"name": f"kubernetes-{family.lower()}", "namespace": "default", "labels": {SERVICE_NAME: "kubernetes"}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}],
        "ports": [{"name": "https", "protocol": "TCP", "port": API_PORT}],
    }


def _dns_service() -> Object:
    ports = [{"name": name, "protocol": protocol, "port": 53, "targetPort": 53} for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))]
    return _service("kube-dns", "kube-system", DNS_SERVICE, ports, {"selector": dict(DNS_LABELS)})


def _dns_pod(number: int, node: str) -> Object:
    """A pod that holds a network for a DNS server of the lab's own process to listen in; what runs in it does nothing."""
    ports = [{"name": name, "protocol": protocol, "containerPort": 53} for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))]
    container = {"name": "coredns", "image": "lab", "command": ["sleep", "infinity"], "ports": ports}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"coredns-{number}", "namespace": "kube-system", "labels": dict(DNS_LABELS)},
        "spec": {
            "nodeName": node,
            "containers": [container],
            "restartPolicy": "Always",
            "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": False,
        },
        "status": {"phase": "Pending"},
    }
