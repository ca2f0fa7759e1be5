"""The load balancer: its pool of addresses on kind's network, and what is to be said of it."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from netproof.cluster.catalogue import Entry
from netproof.cluster.cni import ask, image_tag, workload
from netproof.cluster.docker import inspect, network
from netproof.cluster.manifest import Object, filled, parse
from netproof.cluster.state import LoadBalancer
from netproof.kube.client import Api
from netproof.problem import Problem

_BLOCK = 28  # sixteen addresses


def describe(api: Api, entry: Entry, *, pool: str = "", objects: Sequence[Mapping[str, Any]] = (), execute: bool = False) -> LoadBalancer:
    """What is to be said of it; a version by its program where that is allowed, else by its image's tag."""
    command = entry.version_command
    said = ask(api, command) if execute and command else ""
    found = next((item for item in objects if item["kind"] == "DaemonSet"), None) or workload(api, entry.detect)
    return LoadBalancer(name=entry.name, version=said or image_tag(found) or "unknown", pool=pool, logs=entry.logs)


def pool_objects(entry: Entry, pool: str) -> list[Object]:
    """The entry's objects that hand it the pool."""
    return [item for file in entry.pool for item in parse(filled(file.read_text(encoding="utf-8"), {"POOL": pool}), where=str(file))]


def choose_pool(cluster: str, taken_by_others: Iterable[str] = ()) -> str:
    """A range of kind's IPv4 network for this cluster's Services. Raises Problem."""
    found = inspect("network", network())
    if not found:
        raise Problem(f"there is no Docker network {network()!r}: kind makes it with its first cluster")
    subnets = [entry["Subnet"] for entry in found[0]["IPAM"]["Config"] or () if ":" not in entry["Subnet"]]
    if not subnets:
        raise Problem(f"the Docker network {network()!r} has no IPv4 subnet to take addresses of Services from")
    used = [entry["IPv4Address"].partition("/")[0] for entry in (found[0].get("Containers") or {}).values() if entry.get("IPv4Address")]
    gateways = [
        entry["Gateway"].partition("/")[0] for entry in found[0]["IPAM"]["Config"] if entry.get("Gateway") and ":" not in entry["Gateway"]
    ]
    return pool(subnets[0], [*used, *gateways], cluster, taken_by_others)


def pool(subnet: str, used: Iterable[str], cluster: str, taken_by_others: Iterable[str] = ()) -> str:
    """Sixteen addresses in the upper half of a network, as `first-last`; the cluster's name decides which.

    Docker hands out a network's addresses from below, so the upper half is free in all but very full networks; blocks
    with an address in use, and those of other runs, are passed over. Raises Problem where none is left.
    """
    net = ipaddress.IPv4Network(subnet, strict=False)
    if net.prefixlen > _BLOCK - 2:
        raise Problem(f"the network {subnet} is too small for a pool of sixteen addresses beside the nodes")
    first, count = int(net.network_address), net.num_addresses // 16
    busy = {(int(ipaddress.IPv4Address(address)) - first) // 16 for address in used}
    busy |= {(int(ipaddress.IPv4Address(other.partition("-")[0])) - first) // 16 for other in taken_by_others if other}
    free = [block for block in range(count // 2, count - 1) if block not in busy]  # the last block holds the broadcast address
    if not free:
        raise Problem(f"the network {subnet} has no free block of sixteen addresses left in its upper half")
    chosen = first + 16 * free[int(hashlib.sha256(cluster.encode()).hexdigest(), 16) % len(free)]
    return f"{ipaddress.IPv4Address(chosen)}-{ipaddress.IPv4Address(chosen + 15)}"
