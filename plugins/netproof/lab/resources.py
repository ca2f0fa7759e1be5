"""What the API server makes of an object before it is stored: defaults, and what a Service is given from the lab's pools."""

from __future__ import annotations

import copy
import ipaddress
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from netproof.lab.refusal import Cause, invalid
from netproof.lab.seams import NODE_PORTS, SERVICE_NETWORKS, Object

_POOLS = {family: ipaddress.ip_network(network) for family, network in zip(("IPv4", "IPv6"), SERVICE_NETWORKS, strict=True)}
_STATIC = 256  # cluster IPs at the pool's begin that are given only to those who ask for them
_STATIC_PORTS = 86  # node ports likewise
_TCP = {"protocol": "TCP"}

# What is left out, by kind: the places, and what stands there then.
_DEFAULTS: Mapping[str, Mapping[str, Object]] = {
    "Namespace": {"": {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}},
    "NetworkPolicy": {"": {"spec": {}}, "spec": {"podSelector": {}}, "spec.(in|e)gress[].ports[]": _TCP},
    "Pod": {
        "": {"spec": {}, "status": {"phase": "Pending"}},
        "spec": {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30},
        "spec.(c|initC)ontainers[].ports[]": _TCP,
    },
    "Service": {
        "": {"spec": {}, "status": {"loadBalancer": {}}},
        "spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
        "spec.ports[]": _TCP,
    },
}


def places(value: Any, pattern: str, at: str = "") -> Iterator[tuple[str, Any]]:
    """The places of an object that a pattern means, with what stands there: `spec.(in|e)gress[].ports[].port`."""
    if not pattern:
        yield at, value
        return
    head, _, rest = pattern.partition(".")
    word = head.removesuffix("[]")
    for name, found in value.items():
        if re.fullmatch(word, name):
            for number, one in enumerate([found] if word == head else found):
                yield from places(one, rest, f"{at}.{name}".lstrip(".") + ("" if word == head else f"[{number}]"))


def completed(obj: Object, before: Object | None = None) -> Object:
    """A copy with the defaults of its kind, and of a Service with what it has been given. Completing what is complete changes nothing."""
    made = copy.deepcopy(obj)
    for pattern, defaults in _DEFAULTS.get(made["kind"], {}).items():
        for _, place in places(made, pattern):
            place.update(copy.deepcopy(defaults) | place)
    spec = made.get("spec", {})
    match made["kind"]:
        case "Namespace":
            made["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = made["metadata"]["name"]
        case "NetworkPolicy" if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        case "Service":
            for port in spec.get("ports", ()):
                port.setdefault("targetPort", port.get("port"))
            if is_external(spec):
                spec.setdefault("externalTrafficPolicy", "Cluster")
            if before:
                made["spec"] = _carried(spec, before["spec"])
    return made


def _carried(spec: Object, old: Object) -> Object:
    """A Service's spec as it is updated: it keeps the addresses that it was given, and loses what it has no use for any more."""
    spec = {field: old[field] for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy") if field in old} | spec
    return {field: value for field, value in spec.items() if field not in USES or USES[field][0](spec) or value != old.get(field)}


def is_external(spec: Object) -> bool:
    """Whether a Service can be reached from outside."""
    return spec["type"] != "ClusterIP" or bool(spec.get("externalIPs"))


def has_health_port(spec: Object) -> bool:
    return (spec["type"], spec.get("externalTrafficPolicy")) == ("LoadBalancer", "Local")


def is_headless(spec: Object) -> bool:
    return "None" in (spec.get("clusterIP"), *spec.get("clusterIPs", ()))


USES: Mapping[str, tuple[Callable[[Object], bool], str]] = {
    "externalTrafficPolicy": (is_external, "may only be set for externally-accessible services"),
    "healthCheckNodePort": (has_health_port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"),
    "loadBalancerSourceRanges": (lambda spec: spec["type"] == "LoadBalancer", "may only be used when `type` is 'LoadBalancer'"),
}
"""Fields that only some Services may have: which, and what is said of others."""


def allocate(spec: Object, others: Sequence[Object]) -> Iterator[Cause]:
    """Give a valid Service cluster IPs and node ports that no other one has; what it asks for and can't have is told."""
    yield from _give_addresses(spec, {address for other in others for address in other.get("clusterIPs", ())})
    wanting = _wanting(spec)
    used = {holder[field] for other in others for _, holder, field in _wanting(other)}
    taken = used | {holder.get(field) for _, holder, field in wanting}
    for at, holder, field in wanting:
        wanted = holder.setdefault(field, random.choice([port for port in NODE_PORTS[_STATIC_PORTS:] if port not in taken]))
        taken.add(wanted)
        if wanted in used or wanted not in NODE_PORTS:
            yield invalid(at, wanted, f"provided port is already allocated, or not in the valid range, {NODE_PORTS[0]}-{NODE_PORTS[-1]}")


def _wanting(spec: Object) -> list[tuple[str, Object, str]]:
    """What of a Service has a node port: where it is told of, the part, and its field."""
    ports = () if spec["type"] == "ClusterIP" else spec.get("ports", ())
    found = [(f"spec.ports[{number}].nodePort", port, "nodePort") for number, port in enumerate(ports)]
    return [*found, ("spec.healthCheckNodePort", spec, "healthCheckNodePort")] if has_health_port(spec) else found


def _give_addresses(spec: Object, used: set[str]) -> Iterator[Cause]:
    asked = [address for address in spec.get("clusterIPs") or [spec.get("clusterIP")] if address]
    families = spec.get("ipFamilies") or ["IPv6" if ":" in address else "IPv4" for address in asked] or ["IPv4"]
    if spec.setdefault("ipFamilyPolicy", "SingleStack") != "SingleStack":
        families = list(dict.fromkeys([*families, *_POOLS]))
    given = asked if is_headless(spec) else [*asked, *(_free_address(family, used) for family in families[len(asked) :])]
    for family, address in zip(families, given, strict=False):
        if address != "None" and (address in used or ipaddress.ip_address(address) not in _POOLS[family]):
            yield invalid("spec.clusterIPs", asked, f"failed to allocate IP {address}: it is allocated already, or not in {_POOLS[family]}")
    spec |= {"clusterIP": given[0], "clusterIPs": given, "ipFamilies": families}


def _free_address(family: str, used: set[str]) -> str:
    """One at random: an address that was just given back is not given again at once."""
    network = _POOLS[family]
    while (found := str(network[random.randrange(_STATIC, network.num_addresses - 1)])) in used:
        pass
    return found
