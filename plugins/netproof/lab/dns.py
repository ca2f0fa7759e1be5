"""The lab's DNS: what Services, endpoints and addresses are called. A pure function of the objects.

The names are those of https://github.com/kubernetes/dns/blob/master/docs/specification.md; where that leaves a choice, CoreDNS's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from netproof.lab.dnswire import NOERROR, NXDOMAIN, REFUSED, Answer, Question, Record
from netproof.lab.facts import slices_of
from netproof.lab.seams import DNS_SERVICE, DOMAIN, Object, Snapshot

__all__ = ["Answer", "Edit", "Question", "Record", "answer"]

Edit = Callable[[Question, Answer], Answer | None]  # None: nothing is answered at all

_REVERSE = ("in-addr.arpa", "ip6.arpa")
_LINKS = 8  # names that one answer follows by CNAME
_SCHEMA = "1.1.0"


def answer(question: Question, snapshot: Snapshot) -> Answer:
    """What the cluster's DNS answers: from the objects alone, and nothing from outside (REFUSED)."""
    name = question.name.lower().rstrip(".")
    zone = next((zone for zone in (DOMAIN, *_REVERSE) if name == zone or name.endswith("." + zone)), None)
    if zone is None:
        return Answer(REFUSED, authoritative=False)
    nothing = (Record(zone, "SOA", f"ns.dns.{zone} hostmaster.{zone} 1 7200 1800 86400 30"),)
    records = _records(name, snapshot)
    if records is None:
        return Answer(NXDOMAIN, authority=nothing)
    found = _follow(question.type, records, snapshot)
    return Answer(NOERROR, tuple(found), () if found else nothing, tuple(_targets(found, snapshot)))


def _follow(type_: str, records: Sequence[Record], snapshot: Snapshot) -> list[Record]:
    """The records of that type; where the name is another's alias, the alias and what is known of that one."""
    found: list[Record] = []
    for _ in range(_LINKS):
        found += [record for record in records if record.type == type_]
        alias = next((record for record in records if record.type == "CNAME"), None)
        if alias is None or type_ == "CNAME":
            return found
        found.append(alias)
        records = _records(alias.data, snapshot) or []
    return found


def _targets(found: Iterable[Record], snapshot: Snapshot) -> list[Record]:
    """The addresses of the names to which SRV records lead."""
    names = dict.fromkeys(record.data.split()[3] for record in found if record.type == "SRV")
    return [record for name in names for record in _records(name, snapshot) or [] if record.type in ("A", "AAAA")]


# --- names -------------------------------------------------------------------------------------------------------------------


def _records(name: str, snapshot: Snapshot) -> list[Record] | None:
    """All that a name has, in lower case; None where there is no such name, nor one below it."""
    if name.endswith(_REVERSE):
        return _named_by(name, snapshot)
    if name != DOMAIN and not name.endswith("." + DOMAIN):
        return None
    match name.removesuffix(DOMAIN).rstrip(".").split("."):
        case [""]:
            return [Record(name, "SOA", f"ns.dns.{name} hostmaster.{name} 1 7200 1800 86400 30"), Record(name, "NS", f"ns.dns.{name}")]
        case ["dns-version"]:
            return [Record(name, "TXT", _SCHEMA)]
        case ["ns", "dns"]:
            return [_address(name, address) for address in DNS_SERVICE]
        case ["svc" | "pod" | "dns"]:
            return []
        case [namespace, "svc" | "pod"]:
            return [] if _has_namespace(namespace, snapshot) else None
        case [dashed, namespace, "pod"]:
            return _pod(name, dashed) if _has_namespace(namespace, snapshot) else None
        case [*front, service, namespace, "svc"] if len(front) < 3:
            obj = _service(service, namespace, snapshot)
            return None if obj is None else _below(name, front, obj, snapshot)
    return None


def _below(name: str, front: Sequence[str], service: Object, snapshot: Snapshot) -> list[Record] | None:
    """What a Service's name has (no labels before it), an endpoint's (one), a port's (`_http._tcp`)."""
    if service["spec"].get("type") == "ExternalName":
        return None if front else [Record(name, "CNAME", service["spec"]["externalName"].rstrip(".").lower())]
    headless = service["spec"].get("clusterIP") == "None"
    if front and front[-1].startswith("_"):
        ports = _headless_ports(service, snapshot) if headless else _cluster_ports(service)
        records = [Record(name, "SRV", data) for labels, data in ports if labels[-len(front) :] == tuple(front)]
        return None if not records else records if len(front) == 2 else []
    if not headless:
        return None if front else [_address(name, address) for address in service["spec"].get("clusterIPs") or []]
    addresses = [address for host, address in _hosts(service, snapshot) if not front or [host] == list(front)]
    return [_address(name, address) for address in addresses] or None


def _cluster_ports(service: Object) -> list[tuple[tuple[str, str], str]]:
    full = _full(service)
    ports = [port for port in service["spec"].get("ports") or [] if port.get("name")]
    return [(_labels(port), f"0 100 {port['port']} {full}") for port in ports]


def _headless_ports(service: Object, snapshot: Snapshot) -> list[tuple[tuple[str, str], str]]:
    """One for each endpoint (not address) and each of its named ports."""
    found: dict[tuple[tuple[str, str], str], None] = {}
    hosts = len({host for host, _ in _hosts(service, snapshot)})
    for made in slices_of(service, snapshot.get("EndpointSlice", ())):
        for host, _ in _hosts_in(made):
            for port in made.get("ports") or []:
                if port.get("name"):
                    found[_labels(port), f"0 {max(1, 100 // hosts)} {port['port']} {host}.{_full(service)}"] = None
    return list(found)


def _labels(port: Object) -> tuple[str, str]:
    return f"_{port['name'].lower()}", f"_{port.get('protocol', 'TCP').lower()}"


def _hosts(service: Object, snapshot: Snapshot) -> list[tuple[str, str]]:
    """Host name and address of each ready endpoint of a Service."""
    return [pair for made in slices_of(service, snapshot.get("EndpointSlice", ())) for pair in _hosts_in(made)]


def _hosts_in(made: Object) -> list[tuple[str, str]]:
    ready = [end for end in made.get("endpoints") or [] if (end.get("conditions") or {}).get("ready") is not False]
    return [(end.get("hostname") or _dashed(address), address) for end in ready for address in end["addresses"]]


def _dashed(address: str) -> str:
    return address.replace(".", "-").replace(":", "-")


def _pod(name: str, dashed: str) -> list[Record] | None:
    """`1-2-3-4` is 1.2.3.4, whether or not a pod has that address."""
    for sign in (".", ":"):
        with suppress(ValueError):
            return [_address(name, str(ipaddress.ip_address(dashed.replace("-", sign))))]
    return None


def _named_by(name: str, snapshot: Snapshot) -> list[Record] | None:
    """Who has the address that a reverse name stands for: a Service's, or a ready endpoint's of a headless one."""
    address = _reversed(name)
    if address is None:
        return [] if name in _REVERSE else None
    names = []
    for service in snapshot.get("Service", ()):
        if address in (service["spec"].get("clusterIPs") or []):
            return [Record(name, "PTR", _full(service))]
        if service["spec"].get("clusterIP") == "None":
            names += [f"{host}.{_full(service)}" for host, has in _hosts(service, snapshot) if has == address]
    return [Record(name, "PTR", full) for full in names] or None


def _reversed(name: str) -> str | None:
    """The address of a reverse name, as Kubernetes writes it."""
    parts = name.split(".")[:-2][::-1]
    text = ".".join(parts) if name.endswith(_REVERSE[0]) else ":".join("".join(parts[at : at + 4]) for at in range(0, len(parts), 4))
    with suppress(ValueError):
        return str(ipaddress.ip_address(text))
    return None


def _address(name: str, address: str) -> Record:
    return Record(name, "AAAA" if ":" in address else "A", address)


def _full(service: Object) -> str:
    return f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.{DOMAIN}"


def _service(name: str, namespace: str, snapshot: Snapshot) -> Object | None:
    services = (s for s in snapshot.get("Service", ()) if s["metadata"]["name"] == name)
    return next((s for s in services if s["metadata"]["namespace"] == namespace), None)


def _has_namespace(name: str, snapshot: Snapshot) -> bool:
    return any(obj["metadata"]["name"] == name for obj in snapshot.get("Namespace", ()))
