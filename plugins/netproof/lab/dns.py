"""The lab's DNS: what Services, endpoints and addresses are called. Pure functions of the objects, and of what is asked.

The names are those of https://github.com/kubernetes/dns/blob/master/docs/specification.md; where that leaves a choice, CoreDNS's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from netproof.lab.facts import slices_of
from netproof.lab.seams import DOMAIN, Object, Snapshot

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
_ZONES = (DOMAIN, "in-addr.arpa", "ip6.arpa")
_LINKS = 8  # names that one answer follows by CNAME


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, over which transport (`udp`, `tcp`), and of which server (`namespace/name` of its pod)."""

    name: str
    type: str
    over: str = "udp"
    server: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One record; its data as text: `10.96.0.10`, `0 100 80 web.x.svc.cluster.local`, `a.b`."""

    name: str
    type: str
    data: str
    ttl: int = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered. Records that a datagram has no room for are left out; `truncated` False hides that this was so."""

    code: int = NOERROR
    records: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    authoritative: bool = True
    truncated: bool = True


Edit = Callable[[Question, Answer], Answer | None]  # None: nothing is answered at all
Names = Mapping[str, Collection[Record]]  # in lower case, without the last dot -> all that it has: nothing where only others end with it


def answer(question: Question, names: Names) -> Answer:
    """What the cluster's DNS answers: from these names alone, and nothing from outside (REFUSED)."""
    name = question.name.lower().rstrip(".")
    zone = next((zone for zone in _ZONES if f".{name}".endswith(f".{zone}")), None)
    if zone is None:
        return Answer(REFUSED, authoritative=False)
    start = Record(zone, "SOA", f"ns.dns.{zone} hostmaster.{zone} 1 7200 1800 86400 30")
    if name not in names:
        return Answer(NXDOMAIN, authority=(start,))
    found = tuple(_follow(question.type, name, names))
    hosts = dict.fromkeys(record.data.split()[3] for record in found if record.type == "SRV")
    addresses = tuple(record for host in hosts for record in names.get(host, ()) if record.type in ("A", "AAAA"))
    return Answer(NOERROR, found, () if found else (start,), addresses)


def _follow(type_: str, name: str, names: Names) -> Iterator[Record]:
    """The records of that type; where the name is another's alias, the alias and what is known of that one."""
    for _ in range(_LINKS):
        yield from (record for record in names.get(name, ()) if record.type == type_)
        alias = next((record for record in names.get(name, ()) if record.type == "CNAME" != type_), None)
        if alias is None:
            return
        yield alias
        name = alias.data


NAMING = ("Namespace", "Service", "EndpointSlice")  # what gives names


def names(snapshot: Snapshot) -> Names:
    """All names that the objects give, and those above them."""
    found: dict[str, dict[Record, None]] = {zone: {} for zone in _ZONES}
    for namespace in (item["metadata"]["name"] for item in snapshot.get("Namespace", ())):
        found |= {f"svc.{DOMAIN}": {}, f"{namespace}.svc.{DOMAIN}": {}}
    for record in _records(snapshot):
        found.setdefault(record.name, {})[record] = None
        if record.type == "SRV":
            found.setdefault(record.name.partition(".")[2], {})  # `_tcp.web`, of which nothing but others end with it
    return found


def _records(snapshot: Snapshot) -> Iterator[Record]:
    for service in snapshot.get("Service", ()):
        spec, full = service["spec"], f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.{DOMAIN}"
        if spec.get("type") == "ExternalName":
            yield Record(full, "CNAME", spec["externalName"].rstrip(".").lower())
        elif spec.get("clusterIP") == "None":
            yield from _headless(full, slices_of(service, snapshot.get("EndpointSlice", ())))
        else:
            for address in spec.get("clusterIPs") or ():
                yield from (_address(full, address), Record(ip_address(address).reverse_pointer, "PTR", full))
            yield from _ports(spec, full, full, 100)


def _headless(full: str, slices: Sequence[Object]) -> Iterator[Record]:
    """The ready endpoints of a Service, each under the Service's name and one of its own."""
    ends = [(made, end) for made in slices for end in made.get("endpoints") or ()]
    ready = [(made, end) for made, end in ends if (end.get("conditions") or {}).get("ready") is not False]
    places = [(end.get("hostname") or re.sub("[.:]", "-", one), one, made) for made, end in ready for one in end["addresses"]]
    weight = max(1, 100 // len({host for host, *_ in places} or "1"))
    for host, address, made in places:
        name = f"{host}.{full}"
        yield from (_address(full, address), _address(name, address), Record(ip_address(address).reverse_pointer, "PTR", name))
        yield from _ports(made, full, name, weight)


def _ports(owner: Object, full: str, host: str, weight: int) -> Iterator[Record]:
    for port in (port for port in owner.get("ports") or () if port.get("name")):
        name = f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{full}"
        yield Record(name, "SRV", f"0 {weight} {port['port']} {host}")


def _address(name: str, address: str) -> Record:
    return Record(name, "AAAA" if ":" in address else "A", address)
