"""The world that a set of policies is drawn for: its pods, their labels, who stands outside, and what the cluster claims.

Sets speak of namespaces by their letters and of addresses by whose they are (`"cidr": "outside/a"`), so that the same set can be had in
every world; `resolved` puts in what is true of one world.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netproof.model.flow import Family, Port
from netproof.oracle import Endpoint, Outside, Pod, Ruling, Snapshot, decide
from netproof.oracle.decide import NAME_LABEL

Object = dict[str, Any]
Policies = tuple[Object, ...]

EVERYWHERE, NOWHERE, ALL_PODS, ALL_OUTSIDE = "everywhere", "nowhere", "pods", "outside"
# Addresses of documentation (RFC 5737, RFC 3849), which nobody has.
_NOWHERE = {Family.IPV4: "203.0.113.0/24", Family.IPV6: "2001:db8:113::/48"}
_EVERYWHERE = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}

UNLISTED_RULES = "UnlistedRules"  # the ingredient: a policy with rules of a direction that its policyTypes lack


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """A flow by the names of its ends: `x/a`, `outside/b`."""

    source: str
    destination: str
    port: Port

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} {self.port}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Pods (namespaces are letters), labels of the namespaces, agents outside, and the features that a set may use."""

    pods: tuple[Pod, ...]
    namespaces: Mapping[str, Mapping[str, str]]
    outside: tuple[Outside, ...] = ()
    features: frozenset[str] = frozenset()
    family: Family = Family.IPV4
    addresses: Mapping[str, str] = field(init=False)  # of pods and of those outside, by their names

    def __post_init__(self) -> None:
        known = {pod.key: pod.addresses[self.family] for pod in self.pods} | {one.name: one.address for one in self.outside}
        object.__setattr__(self, "addresses", known)

    def rulings(self, policies: Policies, ways: Sequence[Way]) -> dict[Way, Ruling]:
        """What the text of the API says of each flow under these policies. Raises PolicyError."""
        snapshot = Snapshot(resolved(policies, self.addresses), self.pods, self.namespaces)
        ends: dict[str, Endpoint] = {pod.key: pod for pod in self.pods} | {one.name: one for one in self.outside}
        return {way: decide(snapshot, ends[way.source], ends[way.destination], way.port, self.family) for way in ways}

    def labels(self, policies: Policies, way: Way) -> list[str]:
        """The labels of both ends of a flow and of their namespaces that these policies speak of, in words."""
        asked: dict[str, dict[str, None]] = {"podSelector": {}, "namespaceSelector": {}}
        _collect([policy["spec"] for policy in policies], asked)
        ends = {pod.key: pod for pod in self.pods if pod.key in (way.source, way.destination)}
        found = {key: _having(ends[key].labels, asked["podSelector"]) for key in (way.source, way.destination) if key in ends}
        homes = dict.fromkeys(ends[key].namespace for key in found)
        names = {home: {**self.namespaces[home], NAME_LABEL: home} for home in homes}
        found |= {f"namespace {home}": _having(names[home], asked["namespaceSelector"]) for home in homes}
        return [f"{who} has {has}" for who, has in found.items() if has]

    def promised(self, ruling: Ruling) -> bool:
        """Whether anything is promised of a flow here: an ipBlock on addresses of pods is a claim of its own."""
        return ruling.judged and (not ruling.rests_on_block or "NetworkPolicyIPBlockPods" in self.features)


def _collect(value: Any, asked: Mapping[str, dict[str, None]]) -> None:
    """Put the keys of every selector in there to those of its kind."""
    if isinstance(value, list):
        for entry in value:
            _collect(entry, asked)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            if key in asked and entry:
                asked[key].update(dict.fromkeys(entry.get("matchLabels") or ()))
                asked[key].update(dict.fromkeys(one["key"] for one in entry.get("matchExpressions") or ()))
            _collect(entry, asked)


def _having(labels: Mapping[str, str], asked: Mapping[str, None]) -> str:
    """What somebody has of the keys that are asked for; empty where none is."""
    had = [f"{key}={labels[key]}" for key in asked if key in labels]
    lacks = [f"no {key}" for key in asked if key not in labels]
    return ", ".join(had + lacks)


def resolved(policies: Sequence[Object], addresses: Mapping[str, str], names: Mapping[str, str] | None = None) -> list[Object]:
    """The policies with the addresses of a world in their ipBlocks, and the names that its namespaces have in their name labels.

    `addresses` are of one family, by the names of their owners; `names` of namespaces by their letters.
    """
    made: list[Object] = [_resolved(policy, addresses, names or {}) for policy in policies]
    return made


def network(place: str, addresses: Mapping[str, str]) -> str:
    """The block of a place: of one agent, of all pods, of all outside, of everybody or of nobody."""
    family = Family.of(next(iter(addresses.values())))
    if place in (EVERYWHERE, NOWHERE):
        return (_EVERYWHERE if place == EVERYWHERE else _NOWHERE)[family]
    if place not in (ALL_PODS, ALL_OUTSIDE):
        return str(ipaddress.ip_network(addresses[place]))
    return _smallest([address for name, address in addresses.items() if name.startswith("outside/") == (place == ALL_OUTSIDE)])


def _smallest(addresses: Sequence[str]) -> str:
    """The smallest block that holds them all."""
    first, *others = map(ipaddress.ip_address, addresses)
    found = ipaddress.ip_network(first)
    while not all(other in found for other in others):
        found = found.supernet()
    return str(found)


def _resolved(value: Any, addresses: Mapping[str, str], names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_resolved(entry, addresses, names) for entry in value]
    if not isinstance(value, Mapping):
        return value
    made = {key: _resolved(entry, addresses, names) for key, entry in value.items()}
    if "cidr" in made:
        made["cidr"] = network(made["cidr"], addresses)
        made |= {"except": [network(place, addresses) for place in made["except"]]} if made.get("except") else {}
    if made.get("key") == NAME_LABEL and made.get("values"):
        made["values"] = [names.get(entry, entry) for entry in made["values"]]
    if NAME_LABEL in made:
        made[NAME_LABEL] = names.get(made[NAME_LABEL], made[NAME_LABEL])
    return made
