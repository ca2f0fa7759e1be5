"""One policy by chance: whom it selects, in which directions, and what its rules let through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netproof.drawing.dice import Dice
from netproof.drawing.selectors import Words, namespace_words, selector
from netproof.drawing.stage import ALL_OUTSIDE, ALL_PODS, EVERYWHERE, NOWHERE, UNLISTED_RULES, Stage
from netproof.model.flow import TCP, UDP, Port, Protocol

Object = dict[str, Any]

_RULES = {0: 10.0, 1: 45.0, 2: 33.0, 3: 12.0}
_PEERS = {0: 12.0, 1: 46.0, 2: 29.0, 3: 13.0}
_PORTS = {0: 40.0, 1: 30.0, 2: 21.0, 3: 9.0}
_DIRECTIONS = {("Ingress",): 40.0, ("Egress",): 30.0, ("Ingress", "Egress"): 20.0, ("Egress", "Ingress"): 10.0}
_NUMBERS = {8080: 42.0, 8081: 42.0, 80: 6.0, 9090: 6.0, 65535: 4.0}
_RANGES = {(8080, 8081): 30.0, (8079, 8080): 20.0, (8081, 8081): 10.0, (8081, 9000): 20.0, (1, 65535): 10.0, (9000, 9100): 10.0}
_END_OF = {"ingress": "from", "egress": "to"}
_NO_SUCH_NAME = "metrics"


@dataclass(frozen=True, slots=True)
class Palette:
    """What policies for a stage can be made of."""

    pods: Words
    namespaces: Words
    letters: tuple[str, ...]
    names: tuple[tuple[str, Port], ...]  # the names that pods give to ports
    pod_places: tuple[str, ...]
    outside_places: tuple[str, ...]
    ranges: bool
    sctp: bool
    unlisted: bool  # rules of a direction that policyTypes lack

    @staticmethod
    def of(stage: Stage) -> Palette:
        """What its pods have, and its cluster claims."""
        outside = tuple(one.name for one in stage.outside) if {"NetworkPolicyIPBlock", "Outsider"} <= stage.features else ()
        return Palette(
            pods=Words.of(pod.labels for pod in stage.pods),
            namespaces=namespace_words(stage.namespaces),
            letters=tuple(sorted(stage.namespaces)),
            names=tuple(sorted({entry for pod in stage.pods for entry in pod.ports})),
            pod_places=tuple(pod.key for pod in stage.pods) if "NetworkPolicyIPBlockPods" in stage.features else (),
            outside_places=outside,
            ranges="NetworkPolicyEndPort" in stage.features,
            sctp="SCTP" in stage.features,
            unlisted=UNLISTED_RULES in stage.features,
        )


def policy(dice: Dice, palette: Palette, name: str) -> Object:
    """A NetworkPolicy as somebody might write it; its namespace is a letter."""
    home = dice.one_of(palette.letters)
    directions = dice.weighted(_DIRECTIONS)
    listed = {section: _rules(dice, palette, section) for section in ("ingress", "egress") if section.title() in directions}
    spec: Object = {} if dice.chance(0.05) else {"podSelector": selector(dice, palette.pods, empty=0.45)}
    types = _types(dice, directions, listed)
    spec |= {"policyTypes": types} if types else {}
    for section in ("ingress", "egress"):
        spec |= _spelled(dice, section, listed.get(section, []))
    # Rules of a direction that the policy is not about mean nothing. The die is cast either way: the other policies stay the same.
    if len(directions) == 1 and types and dice.chance(0.12) and palette.unlisted:
        other = "egress" if directions == ("Ingress",) else "ingress"
        spec[other] = [_rule(dice, palette, other)]
    metadata = {"name": name, "namespace": home}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _types(dice: Dice, directions: tuple[str, ...], listed: Mapping[str, list[Object]]) -> list[str]:
    """policyTypes, left out half of the time where the API implies just these."""
    implied = "Ingress" in directions and ("Egress" in directions) == bool(listed.get("egress"))
    return [] if implied and dice.chance(0.5) else list(directions)


def _spelled(dice: Dice, key: str, entries: list[Object]) -> Object:
    """A list under its key; an empty one may as well be left out, or null."""
    return {key: entries} if entries else dice.one_of(({}, {}, {}, {key: []}, {key: []}, {key: None}))


def _rules(dice: Dice, palette: Palette, section: str) -> list[Object]:
    return [_rule(dice, palette, section) for _ in range(dice.weighted(_RULES))]


def _rule(dice: Dice, palette: Palette, section: str) -> Object:
    peers = [_peer(dice, palette, section) for _ in range(dice.weighted(_PEERS))]
    ports = [_port(dice, palette) for _ in range(dice.weighted(_PORTS))]
    return _spelled(dice, _END_OF[section], peers) | _spelled(dice, "ports", ports)


def _peer(dice: Dice, palette: Palette, section: str) -> Object:
    blocks = bool(palette.pod_places) or (section == "egress" and bool(palette.outside_places))
    form = dice.weighted({"pods": 24.0, "namespaces": 24.0, "both": 32.0, "block": 20.0 if blocks else 0.0})
    if form == "block":
        return {"ipBlock": _block(dice, palette, section)}
    words = {"podSelector": palette.pods, "namespaceSelector": palette.namespaces}
    keys = {"pods": ("podSelector",), "namespaces": ("namespaceSelector",)}.get(form, tuple(words))
    return {key: selector(dice, words[key], empty=0.15) for key in keys}


def _block(dice: Dice, palette: Palette, section: str) -> Object:
    """A block with up to three exceptions. Who stands outside is the peer of egress rules alone: no flow of a set begins there."""
    outside = palette.outside_places if section == "egress" else ()
    pods = palette.pod_places
    within = {EVERYWHERE: (*pods, *outside), ALL_PODS: pods, ALL_OUTSIDE: outside}
    weights = {
        EVERYWHERE: 40.0,
        ALL_PODS: 20.0 if pods else 0.0,
        ALL_OUTSIDE: 20.0 if len(outside) > 1 else 0.0,
        NOWHERE: 3.0,
        "one": 17.0,
    }
    place = dice.weighted(weights)
    if place == "one":
        return {"cidr": dice.one_of((*pods, *outside))}
    holes = dice.some(within.get(place, ()), dice.weighted({0: 30.0, 1: 35.0, 2: 20.0, 3: 15.0}))
    larger = [ALL_PODS] * bool(pods) + [ALL_OUTSIDE] * (len(outside) > 1)
    if place == EVERYWHERE and larger and dice.chance(0.2):
        holes = [dice.one_of(larger), *holes[:1]]
    return {"cidr": place} | ({"except": holes} if holes else dice.one_of(({}, {}, {"except": []})))


def _port(dice: Dice, palette: Palette) -> Object:
    form = dice.weighted({"number": 40.0, "name": 26.0, "protocol": 12.0, "range": 28.0 if palette.ranges else 0.0, "nothing": 2.0})
    if form == "nothing":
        return {}
    if form == "name":
        return _named(dice, palette)
    protocol = _protocol(dice, palette)
    if form == "protocol":
        return {"protocol": str(protocol)}
    said = {} if protocol is TCP and dice.chance(0.3) else {"protocol": str(protocol)}
    if form == "number":
        return said | {"port": dice.weighted(_NUMBERS)}
    first, last = dice.weighted(_RANGES)
    return said | {"port": first, "endPort": last}


def _named(dice: Dice, palette: Palette) -> Object:
    """A port by a name that pods give it; now and then with the other protocol, or by a name that nobody uses."""
    name, port = dice.one_of(palette.names)
    if dice.chance(0.05):
        return {"protocol": "TCP", "port": _NO_SUCH_NAME}
    protocol = _protocol(dice, palette) if dice.chance(0.2) else port.protocol
    return ({} if protocol is TCP and dice.chance(0.3) else {"protocol": str(protocol)}) | {"port": name}


def _protocol(dice: Dice, palette: Palette) -> Protocol:
    return dice.weighted({TCP: 56.0, UDP: 40.0, Protocol.SCTP: 4.0 if palette.sctp else 0.0})
