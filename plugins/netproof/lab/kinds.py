"""The kinds that the lab serves, where they are found, and the documents by which clients discover them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netproof.lab.seams import Object

READ = ("get", "list", "watch")
CHANGE = (*READ, "patch", "update")
ALL = (*CHANGE, "create", "delete", "deletecollection")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind is served. `fields`: what a field selector may name, besides metadata.name and metadata.namespace."""

    name: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL
    fields: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()  # subresources
    categories: tuple[str, ...] = ()  # `kubectl get all`

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        return f"apis/{self.api_version}" if self.group else f"api/{self.version}"

    @property
    def qualified(self) -> str:
        """As errors name it: `networkpolicies.networking.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_EVENT_FIELDS = ("type", "reason", *(f"involvedObject.{field}" for field in ("kind", "namespace", "name", "uid", "fieldPath")))
_POD_FIELDS = ("spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP")

KINDS = {
    kind.name: kind
    for kind in (
        Kind("Namespace", "namespaces", namespaced=False, short=("ns",), fields=("status.phase",), parts=("status",)),
        Kind("Node", "nodes", namespaced=False, short=("no",), verbs=CHANGE, fields=("spec.unschedulable",), parts=("status",)),
        Kind(
            "Pod",
            "pods",
            short=("po",),
            fields=_POD_FIELDS,
            parts=("status", "log", "exec", "portforward"),
            categories=("all",),
        ),
        Kind("Service", "services", short=("svc",), fields=("spec.clusterIP", "spec.type"), parts=("status",), categories=("all",)),
        Kind("ConfigMap", "configmaps", short=("cm",)),
        Kind("ServiceAccount", "serviceaccounts", short=("sa",)),
        Kind("Event", "events", short=("ev",), fields=_EVENT_FIELDS),
        Kind("EndpointSlice", "endpointslices", "discovery.k8s.io"),
        Kind("NetworkPolicy", "networkpolicies", "networking.k8s.io", short=("netpol",)),
        Kind("DaemonSet", "daemonsets", "apps", short=("ds",), verbs=READ),
        Kind("Deployment", "deployments", "apps", short=("deploy",), verbs=READ),
        Kind("Lease", "leases", "coordination.k8s.io"),
        Kind("SelfSubjectAccessReview", "selfsubjectaccessreviews", "authorization.k8s.io", namespaced=False, verbs=("create",)),
    )
}
GROUPS = tuple(dict.fromkeys(kind.group for kind in KINDS.values() if kind.group))
_BY_PLACE = {(kind.root, kind.plural): kind for kind in KINDS.values()}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path stands for: a collection, an object, or a part of one (`pods/web/log`)."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    part: str = ""


def target(path: str) -> Target | None:
    """What a path stands for; None where it is nothing that is stored."""
    words = path.strip("/").split("/")
    size = 2 if words[0] == "api" else 3
    root, rest = "/".join(words[:size]), words[size:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and (root, rest[2]) in _BY_PLACE:
        namespace, rest = rest[1], rest[2:]
    kind = _BY_PLACE.get((root, rest[0])) if 0 < len(rest) <= 3 else None
    if kind is None or (namespace and not kind.namespaced) or (kind.namespaced and len(rest) > 1 and not namespace):
        return None
    found = Target(kind, namespace, *rest[1:])
    return found if not found.part or found.part in kind.parts else None


def document(path: str) -> Object | None:
    """A document of discovery: versions, groups, resources, or as much of OpenAPI as kubectl asks for."""
    return _DOCUMENTS.get(path.strip("/"))


def _groups() -> Object:
    def described(group: str) -> Object:
        version = {"groupVersion": f"{group}/v1", "version": "v1"}
        return {"name": group, "versions": [version], "preferredVersion": version}

    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [described(group) for group in GROUPS]}


def _resources(root: str) -> Object:
    kinds = [kind for kind in KINDS.values() if kind.root == root]
    served = [entry for kind in kinds for entry in _entries(kind)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": kinds[0].api_version, "resources": served}


def _entries(kind: Kind) -> Iterable[Object]:
    common = {"singularName": kind.name.lower(), "namespaced": kind.namespaced, "kind": kind.name}
    yield common | {"name": kind.plural, "verbs": list(kind.verbs), "shortNames": list(kind.short), "categories": list(kind.categories)}
    for part in kind.parts:
        yield common | {"name": f"{kind.plural}/{part}", "verbs": ["get", "patch", "update"] if part == "status" else ["get", "create"]}


def _openapi(root: str) -> Object:
    """kubectl looks for one thing: that a kind's patch takes `fieldValidation`."""

    def described(kind: Kind) -> Object:
        gvk = {"group": kind.group, "version": kind.version, "kind": kind.name}
        patch = {"parameters": [{"name": "fieldValidation", "in": "query"}], "x-kubernetes-group-version-kind": gvk}
        return {"patch": patch | {"responses": {}}}

    scope = {True: "namespaces/{namespace}/", False: ""}
    kinds = [kind for kind in KINDS.values() if kind.root == root]
    paths = {f"/{root}/{scope[kind.namespaced]}{kind.plural}/{{name}}": described(kind) for kind in kinds}
    return {"openapi": "3.0.0", "info": {"title": "lab", "version": "v1"}, "paths": paths}


_ROOTS = tuple(dict.fromkeys(kind.root for kind in KINDS.values()))
_DOCUMENTS: dict[str, Object] = {
    "version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0-lab", "platform": "linux/amd64"},
    "api": {"kind": "APIVersions", "versions": ["v1"]},
    "apis": _groups(),
    "openapi/v3": {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in _ROOTS}},
    **{root: _resources(root) for root in _ROOTS},
    **{f"openapi/v3/{root}": _openapi(root) for root in _ROOTS},
}
