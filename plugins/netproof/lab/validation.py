"""Whether an object may be stored as it is, and if not why: rules and words of the API server, as far as networks are concerned.

Objects come completed (`resources`). What is looked at and has a wrong type raises what Python raises.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from netproof.lab.refusal import Problems
from netproof.lab.resources import external, has_health_port, has_node_ports, headless
from netproof.lab.seams import Object

PROTOCOLS = ("TCP", "UDP", "SCTP")
_WORD = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_ENDS = "must start and end with an alphanumeric character"
_LABELLED = f"alphanumeric characters, '-', '_' or '.', and {_ENDS}"
_FORMS = {  # pattern, length, what is said, an example
    "label": (_WORD, 63, f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and {_ENDS}", "my-name"),
    "service": (
        "[a-z]([-a-z0-9]*[a-z0-9])?",
        63,
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an "
        "alphanumeric character",
        "my-name",
    ),
    "subdomain": (
        rf"{_WORD}(\.{_WORD})*",
        253,
        f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and {_ENDS}",
        "example.com",
    ),
    "key": (_NAME, 63, f"name part must consist of {_LABELLED}", "MyName"),
    "value": (f"({_NAME})?", 63, f"a valid label must be an empty string or consist of {_LABELLED}", "MyValue"),
}
_PORT_NAME = (
    ("[^\n]{0,15}", "must be no more than 15 characters"),
    ("[-a-z0-9]*", "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"),
    (".*[a-z].*", "must contain at least one letter (a-z)"),
    ("(?!.*--).*", "must not contain consecutive hyphens"),
    ("(?!-).*(?<!-)", "must not begin or end with a hyphen"),
)
_IMMUTABLE_POD = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def validate(obj: Object, before: Object | None, problems: Problems) -> None:
    """Note what is wrong with an object that is to be created, or put in the place of `before`."""
    metadata, kind = obj["metadata"], obj["kind"]
    _form({"Namespace": "label", "Service": "service"}.get(kind, "subdomain"), metadata["name"], "metadata.name", problems)
    _labels(metadata.get("labels", {}), "metadata.labels", problems)
    if kind in _CHECKS:
        _CHECKS[kind](obj["spec"], problems)
    if before and kind in _UPDATES:
        _UPDATES[kind](obj["spec"], before["spec"], problems)


# words, numbers, addresses


def _form(form: str, text: str, at: str, problems: Problems, *, shown: str = "") -> None:
    pattern, limit, said, example = _FORMS[form]
    if len(text) > limit:
        problems.invalid(at, shown or text, f"must be no more than {limit} bytes")
    if not re.fullmatch(pattern, text):
        problems.invalid(at, shown or text, f"{said} (e.g. '{example}', regex used for validation is '{pattern}')")


def _label_key(key: str, at: str, problems: Problems) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash:
        _form("subdomain", prefix, at, problems, shown=key)
    _form("key", name, at, problems, shown=key)


def _labels(labels: Mapping[str, str], at: str, problems: Problems) -> None:
    for key, value in labels.items():
        _label_key(key, at, problems)
        _form("value", value, at, problems)


def _selector(selector: Object, at: str, problems: Problems) -> None:
    _labels(selector.get("matchLabels", {}), f"{at}.matchLabels", problems)
    for place, expression in enumerate(selector.get("matchExpressions", ())):
        _expression(expression, f"{at}.matchExpressions[{place}]", problems)


def _expression(expression: Object, at: str, problems: Problems) -> None:
    operator, values = expression.get("operator", ""), expression.get("values", ())
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        problems.invalid(f"{at}.operator", operator, "not a valid selector operator")
    elif operator in ("In", "NotIn") and not values:
        problems.required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist") and values:
        problems.forbidden(f"{at}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    _label_key(expression.get("key", ""), f"{at}.key", problems)
    for place, value in enumerate(values):
        _form("value", value, f"{at}.values[{place}]", problems)


def _one_of(value: object, at: str, choices: Sequence[str], problems: Problems) -> None:
    if value not in choices:
        problems.unsupported(at, value, tuple(choices))


def _port(port: int | str | None, at: str, problems: Problems) -> None:
    """A number, or where it is text, a name."""
    if isinstance(port, str):
        for pattern, said in _PORT_NAME:
            if not re.fullmatch(pattern, port):
                problems.invalid(at, port, said)
    elif port is None or not 1 <= port <= 65535:
        problems.invalid(at, port or 0, "must be between 1 and 65535, inclusive")


def _network(text: str, at: str, problems: Problems) -> Any:
    """The network, None where it is none."""
    try:
        interface = ipaddress.ip_interface(text if re.fullmatch(r"[^/]+/\d+", text) else "")
    except ValueError:
        problems.invalid(at, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
        return None
    if re.search(r"/0\d", text):
        problems.invalid(at, text, "must not have leading 0s in IP or prefix length")
    elif interface.ip != interface.network.network_address:
        problems.invalid(at, text, "must not have bits set beyond the prefix length")
    return interface.network


def _unique(entries: Iterable[Object], fields: Sequence[str], at: str, problems: Problems) -> None:
    """No two entries agree in all the fields; those without the first of them don't count."""
    seen: list[Object] = []
    for place, entry in enumerate(entries):
        key = {field: entry.get(field) for field in fields}
        if entry.get(fields[0]) and key in seen:
            problems.duplicate(at.format(place), entry[fields[0]] if len(fields) == 1 else key)
        seen.append(key)


# policies


def _policy(spec: Object, problems: Problems) -> None:
    _selector(spec["podSelector"], "spec.podSelector", problems)
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for place, rule in enumerate(spec.get(direction, ())):
            at = f"spec.{direction}[{place}]"
            for number, port in enumerate(rule.get("ports", ())):
                _policy_port(port, f"{at}.ports[{number}]", problems)
            for number, peer in enumerate(rule.get(side, ())):
                _peer(peer, f"{at}.{side}[{number}]", problems)
    if len(spec["policyTypes"]) > 2:
        problems.invalid("spec.policyTypes", spec["policyTypes"], "may not specify more than two policyTypes")
        return
    for place, name in enumerate(spec["policyTypes"]):
        _one_of(name, f"spec.policyTypes[{place}]", ("Ingress", "Egress"), problems)


def _policy_port(entry: Object, at: str, problems: Problems) -> None:
    _one_of(entry["protocol"], f"{at}.protocol", PROTOCOLS, problems)
    port, end = entry.get("port"), entry.get("endPort")
    if port is not None:
        _port(port, f"{at}.port", problems)
    if end is not None and isinstance(port, int):
        if end < port:
            problems.invalid(f"{at}.endPort", end, "must be greater than or equal to `port`")
        _port(end, f"{at}.endPort", problems)
    elif end is not None:
        why = "not specified" if port is None else "non-numeric"
        problems.invalid(f"{at}.endPort", end, f"may not be specified when `port` is {why}")


def _peer(peer: Object, at: str, problems: Problems) -> None:
    for name in ("podSelector", "namespaceSelector"):
        _selector(peer.get(name, {}), f"{at}.{name}", problems)
    if "ipBlock" in peer:
        _block(peer["ipBlock"], f"{at}.ipBlock", problems)
    if not peer:
        problems.required(at, "must specify a peer")
    elif "ipBlock" in peer and len(peer) > 1:
        problems.forbidden(at, "may not specify both ipBlock and another peer")


def _block(block: Object, at: str, problems: Problems) -> None:
    if not block.get("cidr"):
        problems.required(f"{at}.cidr")
        return
    whole = _network(block["cidr"], f"{at}.cidr", problems)
    for place, text in enumerate(block.get("except", ())):
        part = _network(text, f"{at}.except[{place}]", problems)
        if whole and part and (whole.version != part.version or whole == part or not part.subnet_of(whole)):
            problems.invalid(f"{at}.except[{place}]", text, "must be a strict subset of `cidr`")


# services


def _service(spec: Object, problems: Problems) -> None:
    _labels(spec.get("selector", {}), "spec.selector", problems)
    _one_of(spec["type"], "spec.type", ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"), problems)
    _one_of(spec["sessionAffinity"], "spec.sessionAffinity", ("ClientIP", "None"), problems)
    timeout = spec.get("sessionAffinityConfig", {}).get("clientIP", {}).get("timeoutSeconds", 1)
    if not 0 < timeout <= 86400:
        at = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        problems.invalid(at, timeout, "must be greater than 0 and less than 86400")
    if spec["type"] == "ExternalName":
        _form("subdomain", spec.get("externalName", "").rstrip("."), "spec.externalName", problems)
    elif not spec.get("ports") and not headless(spec):
        problems.required("spec.ports")
    _service_ports(spec, problems)
    _cluster_ips(spec, problems)
    _traffic(spec, problems)


def _service_ports(spec: Object, problems: Problems) -> None:
    ports = spec.get("ports", ())
    for place, port in enumerate(ports):
        at = f"spec.ports[{place}]"
        if port.get("name"):
            _form("label", port["name"], f"{at}.name", problems)
        elif len(ports) > 1:
            problems.required(f"{at}.name")
        _port(port.get("port"), f"{at}.port", problems)
        _one_of(port["protocol"], f"{at}.protocol", PROTOCOLS, problems)
        _port(port.get("targetPort", 1), f"{at}.targetPort", problems)
        if port.get("nodePort") and not has_node_ports(spec) and spec["type"] != "LoadBalancer":
            problems.forbidden(f"{at}.nodePort", f"may not be used when `type` is '{spec['type']}'")
    _unique(ports, ("name",), "spec.ports[{}].name", problems)
    _unique(ports, ("port", "protocol"), "spec.ports[{}]", problems)
    _unique(ports, ("nodePort", "protocol"), "spec.ports[{}].nodePort", problems)


def _cluster_ips(spec: Object, problems: Problems) -> None:
    policy, families = spec.get("ipFamilyPolicy", "SingleStack"), spec.get("ipFamilies", ())
    addresses = spec.get("clusterIPs") or [text for text in (spec.get("clusterIP"),) if text]
    _one_of(policy, "spec.ipFamilyPolicy", ("SingleStack", "PreferDualStack", "RequireDualStack"), problems)
    if policy == "SingleStack" and max(len(families), len(addresses)) > 1:
        said = "must be RequireDualStack or PreferDualStack when multiple ipFamilies are specified"
        problems.invalid("spec.ipFamilyPolicy", policy, said)
    for place, family in enumerate(families):
        _one_of(family, f"spec.ipFamilies[{place}]", ("IPv4", "IPv6"), problems)
    if addresses and spec["type"] == "ExternalName":
        problems.forbidden("spec.clusterIPs[0]", "may not be set for ExternalName services")
    elif addresses[:1] == ["None"] and spec["type"] != "ClusterIP":
        problems.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {spec['type']} services")
    for place, text in enumerate(addresses):
        if text != "None":
            _address(text, f"spec.clusterIPs[{place}]", problems)
    for place, text in enumerate(spec.get("externalIPs", ())):
        _address(text, f"spec.externalIPs[{place}]", problems)


def _address(text: str, at: str, problems: Problems) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        problems.invalid(at, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")


def _traffic(spec: Object, problems: Problems) -> None:
    ranges = spec.get("loadBalancerSourceRanges", ())
    if ranges and spec["type"] != "LoadBalancer":
        problems.forbidden("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'")
    for place, text in enumerate(ranges):
        _network(text.strip(), f"spec.LoadBalancerSourceRanges[{place}]", problems)
    for field in ("internalTrafficPolicy", "externalTrafficPolicy"):
        if field in spec:
            _one_of(spec[field], f"spec.{field}", ("Cluster", "Local"), problems)
    if "externalTrafficPolicy" in spec and not external(spec):
        said = "may only be set for externally-accessible services"
        problems.invalid("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], said)
    if spec.get("healthCheckNodePort") and not has_health_port(spec):
        said = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        problems.invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"], said)


def _service_update(spec: Object, old: Object, problems: Problems) -> None:
    if "ExternalName" in (spec["type"], old["type"]):
        return
    for field in ("clusterIPs", "ipFamilies"):
        for place, (was, now) in enumerate(zip(old.get(field, ()), spec.get(field, ()), strict=False)):
            if was != now:
                problems.invalid(f"spec.{field}[{place}]", spec[field], "may not change once set")


# pods


def _pod(spec: Object, problems: Problems) -> None:
    if not spec.get("containers"):
        problems.required("spec.containers")
    _one_of(spec["restartPolicy"], "spec.restartPolicy", ("Always", "OnFailure", "Never"), problems)
    _one_of(spec["dnsPolicy"], "spec.dnsPolicy", ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"), problems)
    _labels(spec.get("nodeSelector", {}), "spec.nodeSelector", problems)
    for field in ("initContainers", "containers"):
        for place, container in enumerate(spec.get(field, ())):
            _container(container, f"spec.{field}[{place}]", problems)
        _unique(spec.get(field, ()), ("name",), f"spec.{field}[{{}}].name", problems)


def _container(container: Object, at: str, problems: Problems) -> None:
    for field in ("name", "image"):
        if not container.get(field):
            problems.required(f"{at}.{field}")
    if container.get("name"):
        _form("label", container["name"], f"{at}.name", problems)
    for place, port in enumerate(container.get("ports", ())):
        here = f"{at}.ports[{place}]"
        _port(port.get("name", "unnamed"), f"{here}.name", problems)
        _port(port.get("containerPort"), f"{here}.containerPort", problems)
        _port(port.get("hostPort", 1), f"{here}.hostPort", problems)
        _one_of(port["protocol"], f"{here}.protocol", PROTOCOLS, problems)
    _unique(container.get("ports", ()), ("name",), f"{at}.ports[{{}}].name", problems)


def _pod_update(spec: Object, old: Object, problems: Problems) -> None:
    if _fixed(spec) != _fixed(old):
        problems.forbidden("spec", _IMMUTABLE_POD)


def _fixed(spec: Object) -> Object:
    """What of a pod's spec may not change."""
    fixed = {field: value for field, value in spec.items() if field not in ("activeDeadlineSeconds", "tolerations")}
    for field in ("containers", "initContainers"):
        fixed[field] = [container | {"image": ""} for container in spec.get(field, ())]
    return fixed


_CHECKS: dict[str, Callable[[Object, Problems], None]] = {"NetworkPolicy": _policy, "Service": _service, "Pod": _pod}
_UPDATES: dict[str, Callable[[Object, Object, Problems], None]] = {"Service": _service_update, "Pod": _pod_update}
