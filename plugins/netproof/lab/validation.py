"""Whether an object may be stored as it is, and if not why: the API server's rules, as far as networks are concerned.

Objects come completed (`resources`). What is looked at and has a wrong type raises what Python raises.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from netproof.lab.refusal import Cause, duplicate, forbidden, invalid, required, unsupported
from netproof.lab.resources import USES, is_headless, places
from netproof.lab.seams import Object

Rule = Callable[[Any, str], Iterable[Cause]]  # of a value and where it stands: what is wrong with it
Rules = Mapping[str, Sequence[Rule]]  # by the pattern of the places where they hold

_WORD = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOTTED = rf"{_WORD}(\.{_WORD})*"
_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"


def validate(obj: Object, before: Object | None) -> Iterator[Cause]:
    """What is wrong with an object that is to be created, or put in the place of `before`."""
    yield from _every({**_METADATA, **_RULES.get(obj["kind"], {})})(obj, "")
    old, spec = (before or {}).get("spec", {}), obj.get("spec", {})
    if old and obj["kind"] == "Pod" and spec != old:
        yield forbidden("spec", "pod updates may not change it")
    for field in ("clusterIP", "clusterIPs", "ipFamilies") if old and obj["kind"] == "Service" else ():
        was, now = old[field], spec[field]
        if was != (now[: len(was)] if isinstance(was, list) else now):
            yield invalid(f"spec.{field}", now, "may not change once set")


# kinds of rules


def _every(rules: Rules) -> Rule:
    def rule(value: Any, at: str) -> Iterator[Cause]:
        for pattern, applied in rules.items():
            for place, found in places(value, pattern, at):
                for one in applied:
                    yield from one(found, place)

    return rule


def _must(hold: Callable[[Any], object], why: str) -> Rule:
    return lambda value, at: [] if hold(value) else [invalid(at, value, why)]


def _form(what: str, pattern: str, limit: int = 63) -> Rule:
    why = f"a {what} has no more than {limit} bytes and matches '{pattern}'"
    return _must(lambda text: len(text) <= limit and re.fullmatch(pattern, text), why)


def _one_of(*choices: str) -> Rule:
    return lambda value, at: [] if value in choices else [unsupported(at, value, choices)]


def _needs(field: str) -> Rule:
    return lambda value, at: [required(f"{at}.{field}")] if value.get(field, []) == [] else []


def _unique(*fields: str) -> Rule:
    """No two entries of a list agree in all the fields; those without the first of them don't count."""

    def rule(entries: Sequence[Object], at: str) -> Iterator[Cause]:
        keys = [{field: entry.get(field) for field in fields} for entry in entries]
        for number, key in enumerate(keys):
            if key[fields[0]] and key in keys[:number]:
                yield duplicate(f"{at}[{number}]", key)

    return rule


_text = _must(lambda value: isinstance(value, str), "must be text")
_label, _value = _form("lowercase RFC 1123 label", _WORD), _form("label value", f"({_NAME})?")
_key = _form("qualified name", f"({_DOTTED}/)?(?=[^/]{{1,63}}$){_NAME}", 253 + 64)
_port_name = _form("port name", "(?!.*--)(?=.*[a-z])" + _WORD, 15)
_port = _must(lambda number: 1 <= number <= 65535, "must be between 1 and 65535, inclusive")
_address = _must(lambda text: text == "None" or _made(ipaddress.ip_address, text), "must be a valid IP address")
_network = _must(
    lambda text: re.fullmatch(r"[^/]+/(0|[1-9]\d*)", text) and _made(ipaddress.ip_network, text),
    "must be a valid CIDR value, with no bits set beyond the prefix length",
)


def _made(make: Callable[[str], Any], text: str) -> Any:
    with suppress(ValueError):
        return make(text)
    return None


def _labels(labels: Mapping[str, str], at: str) -> Iterator[Cause]:
    for key, value in labels.items():
        yield from (*_key(key, at), *_value(value, at))


def _port_or_name(port: int | str, at: str) -> Iterable[Cause]:
    return _port_name(port, at) if isinstance(port, str) else _port(port, at)


def _expression(expression: Object, at: str) -> Iterator[Cause]:
    operator = expression.get("operator", "")
    has_values = {"In": True, "NotIn": True, "Exists": False, "DoesNotExist": False}.get(operator)
    if has_values is None:
        yield invalid(f"{at}.operator", operator, "not a valid selector operator")
    elif has_values != bool(expression.get("values")):
        yield (required if has_values else forbidden)(f"{at}.values", "must be specified for `operator` In and NotIn, and for no other")


def _end_port(entry: Object, at: str) -> Iterator[Cause]:
    port, end = entry.get("port"), entry.get("endPort")
    if end is not None and not (isinstance(port, int) and port <= end):
        yield invalid(f"{at}.endPort", end, "must be greater than or equal to `port`, and that a number")


def _peer(peer: Object, at: str) -> Iterator[Cause]:
    said = {"podSelector", "namespaceSelector", "ipBlock"} & peer.keys()
    if not said:
        yield required(at, "must specify a peer")
    if "ipBlock" in said and len(said) > 1:
        yield forbidden(at, "may not specify both ipBlock and another peer")


def _excepts(block: Object, at: str) -> Iterator[Cause]:
    whole = _made(ipaddress.ip_network, block.get("cidr", ""))
    for number, text in enumerate(block.get("except", ()) if whole else ()):  # what is no network is told of by its own rule
        part = _made(ipaddress.ip_network, text)
        if part and (whole == part or whole.version != part.version or not part.subnet_of(whole)):
            yield invalid(f"{at}.except[{number}]", text, "must be a strict subset of `cidr`")


def _service(spec: Object, at: str) -> Iterator[Cause]:
    ports, kind = spec.get("ports", []), spec["type"]
    if not ports and not is_headless(spec):
        yield required(f"{at}.ports")
    for number, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{at}.ports[{number}].name")
    for field, (has_use, said) in USES.items():
        if field in spec and not has_use(spec):
            yield forbidden(f"{at}.{field}", said)
    if is_headless(spec) and kind != "ClusterIP":
        yield invalid(f"{at}.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if spec.get("ipFamilyPolicy", "SingleStack") == "SingleStack" and len(spec.get("ipFamilies", ())) > 1:
        yield invalid(f"{at}.ipFamilyPolicy", "SingleStack", "must be RequireDualStack or PreferDualStack for several ipFamilies")


# what applies to which kind

_PROTOCOL = [_one_of("TCP", "UDP", "SCTP")]
_selector = _every(
    {
        "matchLabels": [_labels],
        "matchExpressions[]": [_expression, _needs("key")],
        "matchExpressions[].key": [_key],
        "matchExpressions[].values[]": [_value],
    }
)
_METADATA: Rules = {"metadata.name": [_form("lowercase RFC 1123 subdomain", _DOTTED, 253)], "metadata.labels": [_labels]}
_RULES: Mapping[str, Rules] = {
    "Namespace": {"metadata.name": [_label]},
    "ConfigMap": {"data.[^/]+": [_text]},
    "NetworkPolicy": {
        "spec.podSelector": [_selector],
        "spec.policyTypes": [_must(lambda names: len(names) <= 2, "may not specify more than two policyTypes")],
        "spec.policyTypes[]": [_one_of("Ingress", "Egress")],
        "spec.(in|e)gress[].ports[]": [_end_port],
        "spec.(in|e)gress[].ports[].protocol": _PROTOCOL,
        "spec.(in|e)gress[].ports[].port": [_port_or_name],
        "spec.(in|e)gress[].ports[].endPort": [_port],
        "spec.(in|e)gress[].(from|to)[]": [_peer],
        "spec.(in|e)gress[].(from|to)[].(pod|namespace)Selector": [_selector],
        "spec.(in|e)gress[].(from|to)[].ipBlock": [_needs("cidr"), _excepts],
        "spec.(in|e)gress[].(from|to)[].ipBlock.cidr": [_network],
        "spec.(in|e)gress[].(from|to)[].ipBlock.except[]": [_network],
    },
    "Service": {
        "metadata.name": [_form("DNS-1035 label", "[a-z]([-a-z0-9]*[a-z0-9])?")],
        "spec": [_service],
        "spec.selector": [_labels],
        "spec.type": [_one_of("ClusterIP", "LoadBalancer", "NodePort")],
        "spec.sessionAffinity": [_one_of("ClientIP", "None")],
        "spec.(in|ex)ternalTrafficPolicy": [_one_of("Cluster", "Local")],
        "spec.ipFamilyPolicy": [_one_of("SingleStack", "PreferDualStack", "RequireDualStack")],
        "spec.ipFamilies[]": [_one_of("IPv4", "IPv6")],
        "spec.clusterIP": [_address],
        "spec.(clusterIP|externalIP)s[]": [_address],
        "spec.loadBalancerSourceRanges[]": [_network],
        "spec.ports": [_unique("name"), _unique("port", "protocol"), _unique("nodePort", "protocol")],
        "spec.ports[]": [_needs("port")],
        "spec.ports[].name": [_label],
        "spec.ports[].protocol": _PROTOCOL,
        "spec.ports[].port": [_port],
        "spec.ports[].targetPort": [_port_or_name],
    },
    "Pod": {
        "spec": [_needs("containers")],
        "spec.restartPolicy": [_one_of("Always", "OnFailure", "Never")],
        "spec.dnsPolicy": [_one_of("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")],
        "spec.nodeSelector": [_labels],
        "spec.(containers|initContainers|volumes)[]": [_needs("name")],
        "spec.(c|initC)ontainers[].name": [_label],
        "spec.(c|initC)ontainers[].(command|args)[]": [_text],
        "spec.(c|initC)ontainers[].env[]": [_needs("name")],
        "spec.(c|initC)ontainers[].env[].value": [_text],
        "spec.(c|initC)ontainers[].ports[]": [_needs("containerPort")],
        "spec.(c|initC)ontainers[].ports[].name": [_port_name],
        "spec.(c|initC)ontainers[].ports[].protocol": _PROTOCOL,
        "spec.(c|initC)ontainers[].ports[].(container|host)Port": [_port],
    },
}
