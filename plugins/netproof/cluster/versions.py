"""Versions as the programs report them."""

from __future__ import annotations

from netproof.cluster.catalogue import VersionCommand
from netproof.cluster.cni import ask
from netproof.cluster.state import Node
from netproof.kube.client import Api

_COREDNS = VersionCommand(selector="k8s-app=kube-dns", namespace="kube-system", command=("/coredns", "-version"), pattern=r"CoreDNS-(\S+)")
_PROXY = VersionCommand(
    selector="k8s-app=kube-proxy", namespace="kube-system", command=("/usr/local/bin/kube-proxy", "--version"), pattern=r"Kubernetes (\S+)"
)


def collect(api: Api, nodes: tuple[Node, ...], *, execute: bool) -> dict[str, str]:
    """By program. Without `execute` only what the API itself says: nothing runs in pods that are not ours."""
    found = {"kubernetes": str(api.version().get("gitVersion", "unknown"))}
    for program in ("kubelet", "runtime", "kernel", "system"):
        found[program] = ", ".join(sorted({getattr(node, program) for node in nodes} - {""}))
    if execute:
        found |= {"coredns": ask(api, _COREDNS), "kube-proxy": ask(api, _PROXY)}
    return {program: version for program, version in found.items() if version}
