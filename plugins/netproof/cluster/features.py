"""The features that a case may need: what an implementation claims, and what a cluster and its provider supply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netproof.problem import Problem

CLAIMS: Mapping[str, str] = {
    "NetworkPolicy": "networking.k8s.io/v1 policies are enforced: isolation, pod and namespace selectors, ports by number and name",
    "NetworkPolicyEndPort": "endPort opens a range of ports",
    "NetworkPolicyIPBlock": "ipBlock matches addresses outside the cluster",
    "NetworkPolicyIPBlockPods": "ipBlock matches addresses of pods",
    "SCTP": "SCTP between pods and through Services",
    "HostPort": "hostPort leads to its pod",
    "IPv6": "pods and Services have IPv6 addresses",
    "DualStack": "pods and Services have addresses of both families",
}
"""What an implementation says of itself, in `claims` of its catalogue entry or by --netproof-claim."""

MEANS: Mapping[str, str] = {
    "SecondNode": "a second node that takes pods",
    "LoadBalancer": "something gives addresses to Services of type LoadBalancer",
    "Outsider": "an agent on a machine outside the cluster",
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


def unclaimed(claims: Iterable[str], *, reason: str) -> dict[str, str]:
    """The claimable features that are not among `claims`, each with the reason."""
    claimed = set(claims)
    return {name: reason for name in CLAIMS if name not in claimed}
