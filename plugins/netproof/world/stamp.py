"""Every non-empty selector of a case carries the label of its world, so that no other worker's or run's objects can match.

The label is the world's and not the case's: a label that changes with each case would give every pod a new identity each time, which
costs a CNI that derives identities from labels seconds a case. What a case leaves behind is found by its restore step, and a
fail that it caused in a later case does not come back in a fresh world.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from netproof.world import labels


def stamp(policy: Mapping[str, Any], world: str) -> dict[str, Any]:
    """Add the world's label to each non-empty selector of a NetworkPolicy. An empty selector keeps its meaning: everything."""
    made = copy.deepcopy(dict(policy))
    for selector in _selectors(made["spec"]):
        if selector.get("matchLabels") or selector.get("matchExpressions"):
            selector["matchLabels"] = {**selector.get("matchLabels", {}), labels.WORLD: world}
    return made


def sides(policy: Mapping[str, Any]) -> frozenset[str]:
    """At which end of a flow the policy is enforced: the `destination` for ingress, the `source` for egress.

    Without policyTypes a policy is for ingress, and for egress too if it has egress rules
    (https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/, policyTypes).
    """
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return frozenset({"Ingress": "destination", "Egress": "source"}[type_] for type_ in types)


def _selectors(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if spec.get("podSelector"):
        yield spec["podSelector"]
    rules = [*(spec.get("ingress") or ()), *(spec.get("egress") or ())]  # a null is as good as nothing
    for peer in (peer for rule in rules for peer in [*(rule.get("from") or ()), *(rule.get("to") or ())]):
        for kind in ("podSelector", "namespaceSelector"):
            if peer.get(kind):
                yield peer[kind]
