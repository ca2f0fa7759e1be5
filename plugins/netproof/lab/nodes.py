"""What stands in the lab before anything is asked of it: its nodes, the first namespaces, the Services of the API and of DNS."""

from __future__ import annotations

import os

from netproof.lab.facts import condition
from netproof.lab.resources import completed
from netproof.lab.seams import API_SERVICE, DNS_SERVICE, NODES, Object, node_addresses, pod_networks

DNS_LABELS = {"k8s-app": "kube-dns"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def first_objects() -> tuple[Object, ...]:
    """Complete objects, to be created in this order."""
    namespaces = [_object("Namespace", name) for name in ("default", "kube-system", "kube-public")]
    api = _service("kubernetes", "default", API_SERVICE, ports=[{"name": "https", "port": 443}])
    dns = _service("kube-dns", "kube-system", DNS_SERVICE, ports=_dns_ports("port"), selector=DNS_LABELS)
    servers = [_dns_server(f"coredns-{number}", node) for number, node in enumerate(NODES[:2])]
    return tuple(completed(obj) for obj in (*map(_node, NODES), *namespaces, api, dns, *servers))


def _object(kind: str, name: str, namespace: str = "", *, spec: Object | None = None, labels: Object | None = None) -> Object:
    place = {"namespace": namespace} if namespace else {}
    made = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels or {}, **place}}
    return made | ({"spec": spec} if spec else {})


def _node(name: str) -> Object:
    """A node as its kubelet would describe it: Ready, in a zone of its own."""
    system = os.uname()
    architecture = _ARCHITECTURES.get(system.machine, system.machine)
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture}
    zone = {"topology.kubernetes.io/zone": f"zone-{NODES.index(name) + 1}"}
    networks = pod_networks(name)
    info = {"architecture": architecture, "operatingSystem": "linux", "osImage": "Netproof lab", "kernelVersion": system.release}
    status = {
        "addresses": [{"type": "InternalIP", "address": address} for address in node_addresses(name)],
        "conditions": [condition((), "Ready", holds=True, reason="KubeletReady", message="the lab is up")],
        "nodeInfo": info | {"containerRuntimeVersion": "lab://namespaces", "kubeletVersion": "lab"},
    }
    return _object("Node", name, spec={"podCIDR": networks[0], "podCIDRs": list(networks)}, labels=labels | zone) | {"status": status}


def _service(name: str, namespace: str, addresses: tuple[str, str], **spec: object) -> Object:
    given = {"clusterIP": addresses[0], "clusterIPs": list(addresses), "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}
    return _object("Service", name, namespace, spec=given | spec)


def _dns_ports(number: str) -> list[Object]:
    return [{"name": name, "protocol": protocol, number: 53} for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))]


def _dns_server(name: str, node: str) -> Object:
    """A pod that holds a network for a DNS server of the lab's own process to listen in; what runs in it does nothing."""
    container = {"name": "coredns", "image": "lab", "command": ["sleep", "infinity"], "ports": _dns_ports("containerPort")}
    spec = {"nodeName": node, "containers": [container], "dnsPolicy": "Default", "terminationGracePeriodSeconds": 0}
    return _object("Pod", name, "kube-system", spec=spec, labels=DNS_LABELS)
