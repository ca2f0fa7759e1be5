"""The features that a case may need: what an implementation claims, and what a cluster and its provider supply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from netproof.problem import Problem

CLAIMS: Mapping[str, str] = {
    "NetworkPolicy": "networking.k8s.io/v1 policies are enforced: isolation, pod and namespace selectors, ports by number and name",
    "NetworkPolicyEndPort": "endPort opens a range of ports",
    "NetworkPolicyIPBlock": "ipBlock matches addresses outside the cluster",
    "NetworkPolicyIPBlockPods": "ipBlock matches addresses of pods",
    "SCTP": "SCTP between pods and through Services",
    "HostPort": "hostPort leads to its pod",
    "LoadBalancer": "something gives addresses to Services of type LoadBalancer, and they lead to the pods",
}
"""What an implementation says of itself, in `claims` of its catalogue entry or by --netproof-claim."""

MEANS: Mapping[str, str] = {
    "IPv6": "pods and Services have IPv6 addresses",
    "DualStack": "pods and Services have addresses of both families",
    "SecondNode": "a second node that takes pods",
    "Outsider": "an agent on a machine outside the cluster",
    "HostNetwork": "pods on their nodes' network",
    "AgentRestart": "the network's agent can be restarted on a node",
    "NodeAccess": "commands on the nodes, for tests that break the network",
}
"""What the cluster or its provider has or lacks, whatever the implementation claims."""

FEATURES: Mapping[str, str] = {**CLAIMS, **MEANS}


def require_claims(names: Iterable[str], *, where: str) -> tuple[str, ...]:
    """The names, in their order. Raises Problem for one that no implementation can claim."""
    known = tuple(names)
    for name in known:
        if name not in CLAIMS:
            raise Problem(f"{where}: {name!r} is no feature that can be claimed; there are {', '.join(CLAIMS)}")
    return known


def unsupported(
    *, claims: Iterable[str], because: Callable[[str], str], families: Iterable[str], takers: int, missing: Mapping[str, str]
) -> dict[str, str]:
    """All that cases cannot have here, each with the reason.

    `because` gives the reason of a feature that nobody claims, `missing` the means that are not there; `takers`: nodes that take pods.
    """
    has, claimed = set(families), set(claims)
    lacking = {name: because(name) for name in CLAIMS if name not in claimed}
    if "IPv6" not in has:
        lacking["IPv6"] = "this cluster has no IPv6 addresses"
    if len(has) < 2:
        lacking["DualStack"] = f"this cluster has {' and '.join(sorted(has)) or 'no'} addresses only"
    if takers < 2:
        lacking["SecondNode"] = f"{takers} node takes pods"
    return lacking | dict(missing)
