"""What the API server makes of an object before it is stored: defaults, and what a Service is given from the lab's pools."""

from __future__ import annotations

import copy
import ipaddress
import random
from collections.abc import Callable, Iterable, Sequence

from netproof.lab.refusal import Problems
from netproof.lab.seams import NODE_PORTS, SERVICE_NETWORKS, Object

FAMILIES = ("IPv4", "IPv6")
_NETWORKS = {family: ipaddress.ip_network(network) for family, network in zip(FAMILIES, SERVICE_NETWORKS, strict=True)}
_STATIC = 256  # cluster IPs at the pool's begin that are given only to those who ask for them
_STATIC_PORTS = 86


def completed(obj: Object) -> Object:
    """A copy with the defaults of its kind. Completing what is complete changes nothing."""
    made = copy.deepcopy(obj)
    if complete := _DEFAULTS.get(made["kind"]):
        complete(made)
    return made


def _fill(target: Object, **defaults: object) -> Object:
    for field, value in defaults.items():
        target.setdefault(field, copy.deepcopy(value))
    return target


def _namespace(obj: Object) -> None:
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    _fill(obj, spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"})


def _policy(obj: Object) -> None:
    spec = _fill(obj.setdefault("spec", {}), podSelector={})
    for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
        for port in rule.get("ports", ()):
            port.setdefault("protocol", "TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _slice(obj: Object) -> None:
    _fill(obj, endpoints=[], ports=[])
    for port in obj["ports"]:
        _fill(port, name="", protocol="TCP")


def _pod(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _fill(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", terminationGracePeriodSeconds=30, securityContext={})
    _fill(spec, schedulerName="default-scheduler", enableServiceLinks=True, serviceAccountName="default")
    for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
        _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes", ()):
        if "configMap" in volume:
            volume["configMap"].setdefault("defaultMode", 420)
        elif len(volume) == 1:
            volume["emptyDir"] = {}
    _fill(obj.setdefault("status", {}), phase="Pending")


def _container(container: Object, *, host_network: bool) -> None:
    tag = container.get("image", "").rsplit("/", 1)[-1].partition(":")[2]
    policy = "Always" if tag in ("", "latest") and "@" not in container.get("image", "") else "IfNotPresent"
    _fill(container, imagePullPolicy=policy, resources={})
    _fill(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    for port in container.get("ports", ()):
        _fill(port, protocol="TCP", **({"hostPort": port["containerPort"]} if host_network and "containerPort" in port else {}))
    for variable in container.get("env", ()):
        if reference := variable.get("valueFrom", {}).get("fieldRef"):
            reference.setdefault("apiVersion", "v1")
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        if probe := container.get(name):
            _fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _fill(probe.get("httpGet", {}), path="/", scheme="HTTP")


def _service(obj: Object) -> None:
    spec = _fill(obj.setdefault("spec", {}), type="ClusterIP", sessionAffinity="None")
    for port in spec.get("ports", ()):
        _fill(port, protocol="TCP", **({"targetPort": port["port"]} if "port" in port else {}))
    if spec["sessionAffinity"] == "ClientIP":
        _fill(spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}), timeoutSeconds=10800)
    if spec["type"] != "ExternalName":
        _fill(spec, internalTrafficPolicy="Cluster")
    if external(spec):
        _fill(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _fill(spec, allocateLoadBalancerNodePorts=True)
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "Namespace": _namespace,
    "NetworkPolicy": _policy,
    "EndpointSlice": _slice,
    "Pod": _pod,
    "Service": _service,
}


def external(spec: Object) -> bool:
    """Whether a Service can be reached from outside."""
    return spec["type"] in ("NodePort", "LoadBalancer") or (spec["type"] == "ClusterIP" and bool(spec.get("externalIPs")))


def has_node_ports(spec: Object) -> bool:
    return spec["type"] == "NodePort" or (spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def has_health_port(spec: Object) -> bool:
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def headless(spec: Object) -> bool:
    return "None" in (spec.get("clusterIP"), *spec.get("clusterIPs", ())[:1])


def carried(obj: Object, before: Object) -> Object:
    """A Service as it is updated: it keeps what it was given and does not mention, and loses what its new type has no use for."""
    old = before["spec"]
    spec = {
        field: value for field, value in obj["spec"].items() if obj["spec"]["type"] == old["type"] or field not in _useless(obj["spec"])
    }
    if spec["type"] != "ExternalName":
        _carry_addresses(spec, old)
    if not has_health_port(spec) and has_health_port(old):
        spec.pop("healthCheckNodePort", None)
    elif has_health_port(spec) and has_health_port(old):
        _fill(spec, healthCheckNodePort=old["healthCheckNodePort"])
    spec["ports"] = [_carried_port(port, spec, old) for port in spec.get("ports", ())]
    return obj | {"spec": spec}


def _useless(spec: Object) -> tuple[str, ...]:
    named = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy") if spec["type"] == "ExternalName" else ()
    outside = () if external(spec) else ("externalTrafficPolicy",)
    balanced = () if spec["type"] == "LoadBalancer" else ("allocateLoadBalancerNodePorts", "loadBalancerIP", "loadBalancerSourceRanges")
    return (*named, *outside, *balanced)


def _carry_addresses(spec: Object, old: Object) -> None:
    if "clusterIP" in old and "clusterIP" not in spec and not spec.get("clusterIPs"):
        spec |= {"clusterIP": old["clusterIP"], "clusterIPs": old["clusterIPs"]}
    elif spec.get("clusterIP") != old.get("clusterIP") and spec.get("clusterIPs") == old.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]] if spec.get("clusterIP") else []
    _fill(spec, **{field: old[field] for field in ("ipFamilies", "ipFamilyPolicy") if field in old})
    if spec.get("ipFamilyPolicy") == "SingleStack" != old.get("ipFamilyPolicy"):
        spec |= {field: spec[field][:1] for field in ("clusterIPs", "ipFamilies") if field in spec}


def _carried_port(port: Object, spec: Object, old: Object) -> Object:
    had = next((entry.get("nodePort") for entry in old.get("ports", ()) if _same_port(entry, port)), None)
    if has_node_ports(spec):
        return {"nodePort": had} | port if had else port
    return {field: value for field, value in port.items() if field != "nodePort" or value != had}


def _same_port(a: Object, b: Object) -> bool:
    return (a.get("port"), a.get("protocol")) == (b.get("port"), b.get("protocol"))


def allocated(service: Object, others: Sequence[Object], problems: Problems) -> Object:
    """A valid Service with cluster IPs and node ports that no other one has; what it asks for and can't have is a problem."""
    made = copy.deepcopy(service)
    spec = made["spec"]
    if spec["type"] != "ExternalName":
        _families(spec)
        _cluster_ips(spec, {address for other in others for address in other["spec"].get("clusterIPs", ())}, problems)
    used = {port for other in others for port in _node_ports(other["spec"])}
    if has_node_ports(spec):
        _give_node_ports(spec["ports"], used, problems)
    if has_health_port(spec):
        at, wanted = "spec.healthCheckNodePort", spec.get("healthCheckNodePort")
        spec["healthCheckNodePort"] = _node_port(wanted, used | set(_node_ports(spec | {"healthCheckNodePort": 0})), at, problems)
    return made


def _families(spec: Object) -> None:
    asked = [address for address in spec.get("clusterIPs") or [spec.get("clusterIP")] if address and address != "None"]
    families = list(spec.get("ipFamilies") or [family_of(address) for address in asked])
    if not families and headless(spec) and not spec.get("selector"):
        spec.setdefault("ipFamilyPolicy", "RequireDualStack")
    families = families or [FAMILIES[0]]
    if _fill(spec, ipFamilyPolicy="SingleStack")["ipFamilyPolicy"] != "SingleStack":
        families = list(dict.fromkeys([*families, *FAMILIES]))
    spec["ipFamilies"] = families


def family_of(address: str) -> str:
    """IPv4 or IPv6."""
    return FAMILIES[ipaddress.ip_address(address).version == 6]


def _cluster_ips(spec: Object, used: set[str], problems: Problems) -> None:
    if headless(spec):
        spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
        return
    asked = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
    given = []
    for place, family in enumerate(spec["ipFamilies"]):
        wanted = asked[place] if place < len(asked) else ""
        if wanted and (wanted in used or ipaddress.ip_address(wanted) not in _NETWORKS[family]):
            why = "provided IP is already allocated" if wanted in used else f"the provided network does not match {_NETWORKS[family]}"
            problems.invalid("spec.clusterIPs", asked, f"failed to allocate IP {wanted}: {why}")
        given.append(wanted or _free_address(family, used))
    spec |= {"clusterIP": given[0], "clusterIPs": given}


def _free_address(family: str, used: set[str]) -> str:
    """One at random: an address that was just given back is not given again at once."""
    network = _NETWORKS[family]
    while (found := str(network[random.randrange(_STATIC, network.num_addresses - 1)])) in used:
        pass
    return found


def _node_ports(spec: Object) -> Iterable[int]:
    yield from (port["nodePort"] for port in spec.get("ports", ()) if port.get("nodePort"))
    if spec.get("healthCheckNodePort"):
        yield spec["healthCheckNodePort"]


def _give_node_ports(ports: Sequence[Object], used: set[int], problems: Problems) -> None:
    """One port number of a Service has the same node port for all protocols, where they are not asked for."""
    taken = used | {port["nodePort"] for port in ports if port.get("nodePort")}
    for place, port in enumerate(ports):
        twin = next((other for other in ports if other["port"] == port["port"] and other.get("nodePort") and other is not port), None)
        wanted = port.get("nodePort") or (twin["nodePort"] if twin else 0)
        port["nodePort"] = _node_port(wanted, used if wanted else taken, f"spec.ports[{place}].nodePort", problems)
        taken.add(port["nodePort"])


def _node_port(wanted: int | None, used: set[int], at: str, problems: Problems) -> int:
    if wanted:
        if wanted not in NODE_PORTS:
            limits = f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
            problems.invalid(at, wanted, f"provided port is not in the valid range. The range of valid ports is {limits}")
        elif wanted in used:
            problems.invalid(at, wanted, "provided port is already allocated")
        return wanted
    free = [port for port in NODE_PORTS[_STATIC_PORTS:] if port not in used]
    return random.choice(free)
