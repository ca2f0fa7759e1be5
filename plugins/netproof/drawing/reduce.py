"""Smaller sets of policies: what could be left out of one, the largest parts first. What the rest still shows is asked elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from netproof.drawing.stage import Object, Policies

_SECTIONS = ("ingress", "egress")
_END_OF = {"ingress": "from", "egress": "to"}


def size(policies: Policies) -> tuple[int, int, int]:
    """How large a set is: its policies, their rules, and all that is written in them."""
    return len(policies), rules(policies), _written([policy["spec"] for policy in policies])


def rules(policies: Policies) -> int:
    """How many rules a set has."""
    return sum(len(policy["spec"].get(section) or ()) for policy in policies for section in _SECTIONS)


def reductions(policies: Policies) -> Iterator[Policies]:
    """Sets that are smaller by one thing each: a policy, a direction, a rule, a peer, a port, an exception, part of a selector."""
    seen: list[Policies] = []
    for smaller in _candidates(policies):
        if size(smaller) < size(policies) and smaller not in seen:
            seen.append(smaller)
            yield smaller


def _candidates(policies: Policies) -> Iterator[Policies]:
    yield from (tuple(fewer) for fewer in _fewer(policies) if fewer)
    if len(policies) > 1:
        yield from ((bare,) for policy in policies for bare in _bare(policy))
    for step in (_directions, _rule_lists, _peer_lists, _port_lists, _peers, _subjects, _ports, _spelling):
        for i, policy in enumerate(policies):
            for spec in step(policy["spec"]):
                yield (*policies[:i], policy | {"spec": spec}, *policies[i + 1 :])


def _bare(policy: Object) -> Iterator[Object]:
    """The policy with nothing but its subject and its directions."""
    kept = {key: value for key, value in policy["spec"].items() if key not in _SECTIONS}
    yield policy | {"spec": kept}
    if policy["spec"].get("egress") and "policyTypes" not in kept:
        yield policy | {"spec": kept | {"policyTypes": ["Egress"]}}


def _fewer(entries: Sequence[Any]) -> Iterator[list[Any]]:
    """Each entry alone, then the list without each, then nothing."""
    if len(entries) > 1:
        yield from ([entry] for entry in entries)
    if len(entries) > 2:
        yield from ([*entries[:i], *entries[i + 1 :]] for i in range(len(entries)))
    if entries:
        yield []


def _directions(spec: Object) -> Iterator[Object]:
    """The policy for one direction alone."""
    for section in _SECTIONS:
        kept = {key: value for key, value in spec.items() if key not in _SECTIONS or key == section}
        yield kept | {"policyTypes": [section.title()]}
        if spec.get(section) and spec.get("policyTypes") != [section.title()]:
            yield {key: value for key, value in spec.items() if key not in _SECTIONS or key == section}


def _rule_lists(spec: Object) -> Iterator[Object]:
    for section in _SECTIONS:
        yield from (_put(spec, section, fewer) for fewer in _fewer(spec.get(section) or ()))


def _each_rule(spec: Object) -> Iterator[tuple[str, int, Object]]:
    for section in _SECTIONS:
        yield from ((section, i, rule) for i, rule in enumerate(spec.get(section) or ()))


def _peer_lists(spec: Object) -> Iterator[Object]:
    for section, i, rule in _each_rule(spec):
        for fewer in _fewer(rule.get(_END_OF[section]) or ()):
            yield _put_rule(spec, section, i, _put(rule, _END_OF[section], fewer))


def _port_lists(spec: Object) -> Iterator[Object]:
    for section, i, rule in _each_rule(spec):
        for fewer in _fewer(rule.get("ports") or ()):
            yield _put_rule(spec, section, i, _put(rule, "ports", fewer))


def _peers(spec: Object) -> Iterator[Object]:
    for section, i, rule in _each_rule(spec):
        peers = rule.get(_END_OF[section]) or []
        for j, peer in enumerate(peers):
            for simpler in _simpler_peer(peer):
                yield _put_rule(spec, section, i, rule | {_END_OF[section]: [*peers[:j], simpler, *peers[j + 1 :]]})


def _simpler_peer(peer: Object) -> Iterator[Object]:
    if block := peer.get("ipBlock"):
        yield from ({"ipBlock": _put(block, "except", fewer)} for fewer in _fewer(block.get("except") or ()))
        return
    if len(peer) > 1:
        yield from ({key: selector} for key, selector in peer.items())
    for key, selector in peer.items():
        yield from (peer | {key: simpler} for simpler in _simpler_selector(selector))


def _subjects(spec: Object) -> Iterator[Object]:
    yield from (spec | {"podSelector": simpler} for simpler in _simpler_selector(spec.get("podSelector") or {}))


def _simpler_selector(selector: Object) -> Iterator[Object]:
    """Everything; one requirement alone, or less; one value."""
    if selector:
        yield {}
    labels, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if len(labels) + len(expressions) > 1:
        yield from ({"matchLabels": {key: value}} for key, value in labels.items())
        yield from ({"matchExpressions": [one]} for one in expressions)
    for key in labels:
        yield _selector({other: value for other, value in labels.items() if other != key}, expressions)
    for i, one in enumerate(expressions):
        before, after = expressions[:i], expressions[i + 1 :]
        yield _selector(labels, [*before, *after])
        values = one.get("values") or []
        if len(values) > 1:
            yield from (_selector(labels, [*before, one | {"values": [value]}, *after]) for value in values)


def _selector(labels: Object, expressions: list[Object]) -> Object:
    return ({"matchLabels": labels} if labels else {}) | ({"matchExpressions": expressions} if expressions else {})


def _ports(spec: Object) -> Iterator[Object]:
    for section, i, rule in _each_rule(spec):
        ports = rule.get("ports") or []
        for j, port in enumerate(ports):
            for key in ("endPort", "port"):
                if key in port:
                    fewer = {kept: value for kept, value in port.items() if kept not in (key, "endPort")}
                    yield _put_rule(spec, section, i, rule | {"ports": [*ports[:j], fewer, *ports[j + 1 :]]})


def _spelling(spec: Object) -> Iterator[Object]:
    """Without what is written and says nothing: nulls, empty lists of rules, peers, ports and exceptions."""
    yield _plain(spec)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    nothing = ("ingress", "egress", "from", "to", "ports", "except", "matchLabels", "matchExpressions")
    return {key: _plain(entry) for key, entry in value.items() if not (key in nothing and not entry)}


def _put(obj: Object, key: str, entries: list[Any]) -> Object:
    """The object with another list; an empty one is left out."""
    rest = {kept: value for kept, value in obj.items() if kept != key}
    return rest | ({key: entries} if entries else {})


def _put_rule(spec: Object, section: str, index: int, rule: Object) -> Object:
    listed = spec[section]
    return spec | {section: [*listed[:index], rule, *listed[index + 1 :]]}


def _written(value: Any) -> int:
    """How many keys, entries and values stand in it."""
    if isinstance(value, dict):
        return sum(1 + _written(entry) for entry in value.values())
    if isinstance(value, list):
        return sum(1 + _written(entry) for entry in value)
    return 1
