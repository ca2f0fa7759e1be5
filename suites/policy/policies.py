"""NetworkPolicies as plain dicts, spelled as the API spells them (networking.k8s.io/v1). Namespaces are the world's letters: x, y, z."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netproof.cases import Decision, Port, Protocol

Object = dict[str, Any]
PODS = tuple(f"{letter}/{name}" for letter in "xyz" for name in "abc")


def policy(
    name: str, namespace: str, *, pods: Object | None = None, types: Sequence[str] | None = None, **rules: Sequence[Object]
) -> Object:
    """A NetworkPolicy. `pods` selects its subject (None: all), `rules` are `ingress` and `egress`; no `types`: the API implies them."""
    spec: Object = {"podSelector": pods or {}} | {direction: list(listed) for direction, listed in rules.items()}
    if types is not None:
        spec["policyTypes"] = list(types)
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def default_deny(namespace: str, *types: str) -> Object:
    """Isolates every pod of the namespace in these directions and allows nothing."""
    return policy(f"deny-{'-'.join(types).lower()}", namespace, types=types)


def match(**labels: str) -> Object:
    """A label selector with matchLabels."""
    return {"matchLabels": labels}


def expression(key: str, operator: str, *values: str) -> Object:
    """A label selector with one of matchExpressions: In, NotIn, Exists, DoesNotExist."""
    return {"matchExpressions": [{"key": key, "operator": operator} | ({"values": list(values)} if values else {})]}


def both(*selectors: Object) -> Object:
    """A label selector that asks for all that these ask for."""
    labels = {key: value for one in selectors for key, value in one.get("matchLabels", {}).items()}
    expressions = [each for one in selectors for each in one.get("matchExpressions", [])]
    return ({"matchLabels": labels} if labels else {}) | ({"matchExpressions": expressions} if expressions else {})


def pod(name: str) -> Object:
    """Selects the world's pods of that name: `a`, `b` or `c`."""
    return match(pod=name)


def namespace(letter: str) -> Object:
    """Selects the world's namespace of that letter."""
    return match(ns=letter)


def peer(*, pods: Object | None = None, namespaces: Object | None = None) -> Object:
    """One peer: with both selectors they are ANDed."""
    return {key: value for key, value in (("podSelector", pods), ("namespaceSelector", namespaces)) if value is not None}


def block(cidr: str, *excepts: str) -> Object:
    """An ipBlock peer."""
    return {"ipBlock": {"cidr": cidr} | ({"except": list(excepts)} if excepts else {})}


def entry(protocol: Protocol | None = None, port: int | str | None = None, end: int | None = None) -> Object:
    """One of a rule's `ports`, with what is given and nothing more."""
    given = {"protocol": str(protocol) if protocol else None, "port": port, "endPort": end}
    return {key: value for key, value in given.items() if value is not None}


def one_each(direction: str, rules: Sequence[Sequence[Object]]) -> list[Object]:
    """A policy for each of the world's pods in turn, with these rules: so one set of policies holds up to nine variants side by side."""
    subjects = [name.split("/") for name in PODS[: len(rules)]]
    return [
        one_way(direction, f"variant-{number}", letter, *variant, pods=pod(name))
        for number, ((letter, name), variant) in enumerate(zip(subjects, rules, strict=True), 1)
    ]


def allow(*peers: Object, ports: Sequence[Port | Object] = (), direction: str = "from") -> Object:
    """One rule: these peers on these ports. Without peers or ports the key is left out, which means any.

    A port may be an entry as the API spells it: `{"protocol": "TCP", "port": "web"}`.
    """
    rule: Object = {direction: list(peers)} if peers else {}
    listed = [port if isinstance(port, dict) else {"protocol": str(port.protocol), "port": port.number} for port in ports]
    return rule | ({"ports": listed} if listed else {})


# policies that a case has twice, for ingress and for egress


def one_way(direction: str, name: str, namespace: str, *rules: Object, pods: Object | None = None) -> Object:
    """A policy for `ingress` or for `egress` alone, with rules of `allowing`; without rules it allows nothing."""
    return policy(name, namespace, pods=pods, types=[direction.capitalize()], **{direction: rules})


def allowing(direction: str, *peers: Object, ports: Sequence[Port | Object] = ()) -> Object:
    """A rule for that direction, as `allow` makes it."""
    return allow(*peers, ports=ports, direction={"ingress": "from", "egress": "to"}[direction])


def other(direction: str) -> str:
    """The other direction."""
    return {"ingress": "egress", "egress": "ingress"}[direction]


# what such a policy does, with the same flows in either direction

OPEN, SHUT = Decision.ALLOW, Decision.DENY
FRIENDS = peer(pods=match(role="friend"), namespaces=namespace("y"))


def between(world: Any, direction: str, far: str, near: str, port: Port) -> Any:
    """The flow between a far pod and one of x: into x for ingress, out of it for egress."""
    source, destination = (far, near) if direction == "ingress" else (near, far)
    return world.pod(source).to(world.pod(destination).on(port))


def meets(
    world: Any, expect: Any, direction: str, port: Port, decisions: Mapping[str, Any], *, control: str = "", sentinel: bool = False
) -> None:
    """Expect a decision for each far pod, against a pod of x on either node.

    A pod that came later could not connect before the policy did: `control` did, and shows that this end would answer.
    """
    nears = ("x/a", "x/b")
    flows = {between(world, direction, far, near, port): (far, near) for far in decisions for near in nears}
    controls = {flow: between(world, direction, control, near, port) for flow, (_, near) in flows.items() if control}
    expect(sentinel=sentinel, controls=controls).decided({flow: decisions[far] for flow, (far, _) in flows.items()})
