"""What is to be said of a cluster, whoever made it: the implementation, the load balancer, and all that cases cannot have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from netproof.cluster import cni
from netproof.cluster.catalogue import Entry
from netproof.cluster.features import unsupported
from netproof.cluster.state import Implementation, LoadBalancer, Node
from netproof.kube.client import Api

UNRECOGNISED = "unrecognised"


def recognised(api: Api, entries: Iterable[Entry]) -> Entry | None:
    """The one entry that is there; None where there is none, or several that may each be a part of something else."""
    found = cni.detect(api, entries)
    return found[0] if len(found) == 1 else None


def unrecognised(claims: Sequence[str]) -> Implementation:
    """A CNI of which nothing is known but what the user claims for it."""
    return Implementation(name=UNRECOGNISED, version="unknown", reported_by="nothing", claims=tuple(claims))


def lacking(
    implementation: Implementation,
    balancer: LoadBalancer | None,
    nodes: Sequence[Node],
    families: Iterable[str],
    missing: Mapping[str, str],
) -> dict[str, str]:
    """Feature -> reason, for all that is not there. `missing`: what the provider says so of."""

    def because(feature: str) -> str:
        if feature == "LoadBalancer":
            return "no load balancer is known to be there; say --loadbalancer=NAME or --netproof-claim=LoadBalancer"
        if implementation.name == UNRECOGNISED:
            return f"the CNI was not recognised; say --cni=NAME or --netproof-claim={feature}"
        return f"{implementation.name} does not claim it"

    claims = [*implementation.claims, *(["LoadBalancer"] if balancer else [])]
    takers = sum(node.schedulable for node in nodes)
    return unsupported(claims=claims, because=because, families=families, takers=takers, missing=missing)
