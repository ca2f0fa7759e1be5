"""The kinds that the lab serves, the paths where they are found, and the documents by which kubectl discovers them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from netproof.lab.refusal import Refused
from netproof.lab.seams import Object

_READ = ("get", "list", "watch")
_ALL = (*_READ, "create", "patch", "delete")
_PATH = re.compile(r"/apis?(?:/([^/]+\.[^/]+))?/v1(?:/namespaces/([^/]+))?/([^/]+)(?:/([^/]+)(?:/([^/]+))?)?")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind is served. `parts` are what its objects have below them, all for reading."""

    name: str
    plural: str
    short: str = ""
    group: str = ""
    namespaced: bool = True
    verbs: tuple[str, ...] = _ALL
    parts: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1".lstrip("/")

    def __str__(self) -> str:
        """As errors name it: `networkpolicies.networking.k8s.io`."""
        return f"{self.plural}.{self.group}".rstrip(".")


KINDS = (
    Kind("Namespace", "namespaces", "ns", namespaced=False),
    Kind("Node", "nodes", "no", namespaced=False, verbs=_READ),
    Kind("Pod", "pods", "po", parts=("exec", "log", "portforward")),
    Kind("Service", "services", "svc"),
    Kind("ConfigMap", "configmaps", "cm"),
    Kind("EndpointSlice", "endpointslices", group="discovery.k8s.io", verbs=_READ),
    Kind("NetworkPolicy", "networkpolicies", "netpol", "networking.k8s.io"),
    Kind("SelfSubjectAccessReview", "selfsubjectaccessreviews", "", "authorization.k8s.io", namespaced=False, verbs=("create",)),
)
_BY_PLACE = {(kind.group, kind.plural): kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path stands for: a collection, an object, or a part of one (`pods/web/log`)."""

    kind: Kind
    namespace: str
    name: str
    part: str


def target(path: str) -> Target:
    """What a path stands for. Raises Refused (404) where it is nothing that is served."""
    if found := _PATH.fullmatch(path):
        group, namespace, plural, name, part = found.groups("")
        kind = _BY_PLACE.get((group, plural))
        if kind and (kind.namespaced if namespace else not (kind.namespaced and name)) and part in ("", *kind.parts):
            return Target(kind, namespace, name, part)
    raise Refused(404, "the server could not find the requested resource")


def _resource(kind: Kind) -> Object:
    return {"name": kind.plural, "kind": kind.name, "shortNames": kind.short.split(), "namespaced": kind.namespaced, "verbs": kind.verbs}


def _resources(version: str) -> Object:
    served = [_resource(kind) for kind in KINDS if kind.api_version == version]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": served}


_GROUPS = [{"name": kind.group, "versions": [{"groupVersion": kind.api_version, "version": "v1"}]} for kind in KINDS if kind.group]
DOCUMENTS: dict[str, Object] = {
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0-lab"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": _GROUPS},
    "/api/v1": _resources("v1"),
    **{f"/apis/{kind.api_version}": _resources(kind.api_version) for kind in KINDS if kind.group},
}
