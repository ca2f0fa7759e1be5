"""What a run asks of an existing cluster, checked before anything is made. `manifests/probe/rbac.yaml` grants it."""

from __future__ import annotations

from netproof.kube.client import Api
from netproof.kube.rights import Right, missing
from netproof.problem import Problem

_MUST = (
    *(Right(verb, "namespaces") for verb in ("create", "get", "list", "patch", "delete")),
    *(Right(verb, resource) for resource in ("pods", "services", "configmaps") for verb in ("create", "get", "list", "delete")),
    Right("patch", "pods"),
    Right("list", "nodes"),
    Right("list", "endpointslices", group="discovery.k8s.io"),
    *(Right(verb, "networkpolicies", group="networking.k8s.io") for verb in ("create", "get", "patch", "delete")),
)
# a stream over a websocket is opened by GET and asks for `create` beside it
_WAYS = {way: tuple(Right(verb, "pods", subresource=way) for verb in ("get", "create")) for way in ("portforward", "exec")}


def require_rights(api: Api) -> None:
    """Raise Problem, in one sentence, for what the user may not do and a run cannot do without."""
    lacking = missing(api, _MUST)
    if lacking:
        named = ", ".join(str(right) for right in lacking[:4]) + (f" and {len(lacking) - 4} more" if len(lacking) > 4 else "")
        raise Problem(f"no right on {api.server} to {named}; manifests/probe/rbac.yaml lists all that a run needs")
    if all(missing(api, rights) for rights in _WAYS.values()):
        raise Problem(
            f"neither port-forward nor exec is allowed on {api.server}, and the probe agents can be reached in no other way; "
            "grant `get` and `create` on pods/portforward (manifests/probe/rbac.yaml)"
        )
