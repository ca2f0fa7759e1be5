"""Where objects live: from kinds and names to the paths of the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


class UnknownKind(LookupError):  # noqa: N818
    """No kind of that name is known here, or served by this cluster."""


@dataclass(frozen=True, slots=True)
class Resource:
    """How the API serves a kind."""

    api_version: str
    plural: str
    namespaced: bool = True

    def path(self, name: str = "", namespace: str = "") -> str:
        """The path of the object, or without a name that of the collection; without a namespace, that of all namespaces."""
        if self.namespaced and name and not namespace:
            raise ValueError(f"{self.plural}/{name} lives in a namespace: name it")
        scope = f"/namespaces/{quote(namespace)}" if self.namespaced and namespace else ""
        return f"{root(self.api_version)}{scope}/{self.plural}" + (f"/{quote(name)}" if name else "")


KINDS = {
    "ConfigMap": Resource("v1", "configmaps"),
    "DaemonSet": Resource("apps/v1", "daemonsets"),
    "Deployment": Resource("apps/v1", "deployments"),
    "EndpointSlice": Resource("discovery.k8s.io/v1", "endpointslices"),
    "Event": Resource("v1", "events"),
    "IPAddressPool": Resource("metallb.io/v1beta1", "ipaddresspools"),
    "L2Advertisement": Resource("metallb.io/v1beta1", "l2advertisements"),
    "Lease": Resource("coordination.k8s.io/v1", "leases"),
    "Namespace": Resource("v1", "namespaces", namespaced=False),
    "NetworkPolicy": Resource("networking.k8s.io/v1", "networkpolicies"),
    "Node": Resource("v1", "nodes", namespaced=False),
    "Pod": Resource("v1", "pods"),
    "Secret": Resource("v1", "secrets"),
    "SelfSubjectAccessReview": Resource("authorization.k8s.io/v1", "selfsubjectaccessreviews", namespaced=False),
    "Service": Resource("v1", "services"),
    "ServiceAccount": Resource("v1", "serviceaccounts"),
}


def root(api_version: str) -> str:
    """Where the kinds of an apiVersion are found: the core group has a place of its own."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def path(kind: str, name: str = "", namespace: str = "") -> str:
    """The path of an object of a kind known here, or of its collection."""
    try:
        return KINDS[kind].path(name, namespace)
    except KeyError:
        raise UnknownKind(f"the kind {kind!r} is not known here; known are {', '.join(KINDS)}") from None


def known(obj: Mapping[str, Any]) -> Resource | None:
    """How the object's kind is served, where no question to the cluster is needed."""
    resource = KINDS.get(obj["kind"])
    return resource if resource and resource.api_version == obj["apiVersion"] else None


def path_of(obj: Mapping[str, Any]) -> str:
    """The path of an object of a kind known here; `Api.path_of` knows the others too."""
    resource = known(obj)
    if resource is None:
        raise UnknownKind(f"the kind {obj['kind']!r} of {obj['apiVersion']!r} is not known here; known are {', '.join(KINDS)}")
    return resource.path(*place(obj))


def place(obj: Mapping[str, Any]) -> tuple[str, str]:
    """An object's name and namespace."""
    metadata = obj.get("metadata") or {}
    return metadata.get("name", ""), metadata.get("namespace", "")
