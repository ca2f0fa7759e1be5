"""Every non-empty selector of a case carries a label unique to it, so that what an earlier case left behind can't match."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from netproof.world import labels


@dataclass(frozen=True, slots=True)
class Stamped:
    """A policy with its selectors stamped, and which kinds of object must carry the case's label for it."""

    policy: dict[str, Any]
    pods: bool
    namespaces: bool


def stamp(policy: Mapping[str, Any], case: str) -> Stamped:
    """Add the case's label to each non-empty selector of a NetworkPolicy. An empty selector keeps its meaning: everything."""
    made = copy.deepcopy(dict(policy))
    kinds = [kind for kind, selector in _selectors(made["spec"]) if _stamp(selector, case)]
    return Stamped(made, pods="podSelector" in kinds, namespaces="namespaceSelector" in kinds)


def sides(policy: Mapping[str, Any]) -> frozenset[str]:
    """At which end of a flow the policy is enforced: the `destination` for ingress, the `source` for egress.

    Without policyTypes a policy is for ingress, and for egress too if it has egress rules
    (https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/, policyTypes).
    """
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return frozenset({"Ingress": "destination", "Egress": "source"}[type_] for type_ in types)


def _selectors(spec: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "podSelector" in spec:
        yield "podSelector", spec["podSelector"]
    rules = [*spec.get("ingress", []), *spec.get("egress", [])]
    for peer in (peer for rule in rules for peer in [*rule.get("from", []), *rule.get("to", [])]):
        for kind in ("podSelector", "namespaceSelector"):
            if kind in peer:
                yield kind, peer[kind]


def _stamp(selector: dict[str, Any], case: str) -> bool:
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        return False
    selector["matchLabels"] = {**selector.get("matchLabels", {}), labels.CASE: case}
    return True
