"""What changes the store on behalf of a client: create, patch and delete, with the API server's checks in its order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netproof.lab.facts import is_deleted, stamp
from netproof.lab.kinds import Kind, Target
from netproof.lab.refusal import Refused
from netproof.lab.resources import allocate, completed
from netproof.lab.seams import Object
from netproof.lab.store import Store
from netproof.lab.validation import validate

# metadata that clients don't set
_GIVEN = ("uid", "creationTimestamp", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds")
_PURGED = "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace will automatically be purged"


class Writer:
    """Changes of one store. Every method raises Refused where the API server would refuse, and for wrong types what Python raises."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def existing(self, target: Target) -> Object:
        """The object that is meant."""
        if (found := self._store.get(target.kind.name, target.name, target.namespace)) is None:
            raise Refused(404, f'{target.kind} "{target.name}" not found')
        return found

    def create(self, target: Target, body: object, *, dry: bool = False) -> Object:
        """The object as stored, or as a `dry` run would store it; whoever asks for rights is told that they have them."""
        if target.kind.name == "SelfSubjectAccessReview":
            return {"status": {"allowed": True}}
        kind, obj = target.kind, _decoded(target, body)
        name, namespace = obj["metadata"]["name"], target.namespace
        space = self._store.get("Namespace", namespace)
        if namespace and space is None:
            raise Refused(404, f'namespaces "{namespace}" not found')
        if space and is_deleted(space):
            raise Refused(403, f'{kind} "{name}" is forbidden: namespace {namespace} takes nothing new because it is being terminated')
        if self._store.get(kind.name, name, namespace):
            raise Refused(409, f'{kind} "{name}" already exists', reason="AlreadyExists")
        obj["metadata"] = {field: value for field, value in obj["metadata"].items() if field not in _GIVEN}
        obj.pop("status", None)
        made = self._admitted(kind, obj, None)
        return made if dry else self._store.create(made)

    def patch(self, target: Target, body: object, how: str) -> Object:
        """The object with a part of it changed, by merge patch (RFC 7386), or by a JSON patch (RFC 6902) that replaces whole fields."""
        before, change = self.existing(target), _PATCHES.get(how)
        if change is None:
            raise Refused(415, f"the lab takes patches of the types {', '.join(_PATCHES)}")
        obj = _decoded(target, change(before, body))
        given = {field: before["metadata"][field] for field in _GIVEN if field in before["metadata"]}
        if obj["metadata"].get("resourceVersion") != given["resourceVersion"]:
            raise Refused(409, f'Operation cannot be fulfilled on {target.kind} "{target.name}": the object has been modified')
        kept = {field: before[field] for field in ("status",) if field in before}
        return self._store.update(self._admitted(target.kind, obj | kept | {"metadata": obj["metadata"] | given}, before))

    def delete(self, target: Target, options: Mapping[str, Any]) -> Object:
        """A Status where the object is gone at once, else the object as it is while somebody has still to take its leave."""
        kind, obj = target.kind, self.existing(target)
        uid, wanted = obj["metadata"]["uid"], (options.get("preconditions") or {}).get("uid")
        if wanted not in (None, uid):
            raise Refused(409, f'{kind} "{target.name}": Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}')
        if kind.name == "Namespace":
            return self._store.update(_ending(obj))
        if kind.name == "Pod" and obj["spec"].get("nodeName"):
            grace = max(0, options.get("gracePeriodSeconds", obj["spec"]["terminationGracePeriodSeconds"]))
            sooner = not is_deleted(obj) or grace < obj["metadata"]["deletionGracePeriodSeconds"]
            return self._store.update(_marked(obj, grace)) if sooner else obj
        self._store.remove(kind.name, target.name, target.namespace)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": target.name, "uid": uid}}

    def _admitted(self, kind: Kind, obj: Object, before: Object | None) -> Object:
        """With defaults, checked, and with what it is given."""
        made = completed(obj, before)
        causes = list(validate(made, before))
        if kind.name == "Service" and not causes:
            causes = list(allocate(made["spec"], [other["spec"] for other in self._store.list("Service") if other is not before]))
        if causes:
            said = ", ".join(f"{cause['field']}: {cause['message']}" for cause in causes)
            full = f"{kind.name}.{kind.group}".rstrip(".")
            raise Refused(422, f'{full} "{obj["metadata"]["name"]}" is invalid: {said}', reason="Invalid", causes=causes)
        return made


def _decoded(target: Target, body: Any) -> Object:
    """The body as an object of that kind that lives where the path says."""
    kind = target.kind
    if not isinstance(body, dict) or (body.get("apiVersion"), body.get("kind")) != (kind.api_version, kind.name):
        raise Refused(400, f"the object provided is unrecognized: it must be of type {kind.name} in version {kind.api_version}")
    obj: Object = {"metadata": {}} | _merged({}, body)
    name = obj["metadata"].setdefault("name", "")
    namespace = obj["metadata"].setdefault("namespace", target.namespace) if kind.namespaced else ""
    if (target.name or name, target.namespace) != (name, namespace):
        raise Refused(400, "the name or the namespace of the object provided does not match the one of the URL")
    return obj


def _ending(namespace: Object) -> Object:
    name = namespace["metadata"]["name"]
    if name in ("default", "kube-system", "kube-public"):
        raise Refused(403, f'namespaces "{name}" is forbidden: this namespace may not be deleted')
    if is_deleted(namespace):
        raise Refused(409, f'Operation cannot be fulfilled on namespaces "{name}": {_PURGED}')
    return _marked(namespace, 0) | {"status": {"phase": "Terminating"}}


def _marked(obj: Object, grace: int) -> Object:
    return obj | {"metadata": obj["metadata"] | {"deletionTimestamp": stamp(grace), "deletionGracePeriodSeconds": grace}}


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null deletes, everything else replaces. In the API a null is what is left out, in lists too."""
    if isinstance(patch, list):
        return [_merged({}, entry) for entry in patch]
    if not isinstance(patch, dict):
        return patch
    base = target if isinstance(target, dict) else {}
    merged = base | {field: _merged(base.get(field), value) for field, value in patch.items()}
    return {field: value for field, value in merged.items() if value is not None}


def _replaced(target: Object, operations: Any) -> Object:
    """RFC 6902, as far as operations replace fields of the first level."""
    made = dict(target)
    for operation in operations:
        field = operation["path"].removeprefix("/")
        if operation["op"] != "replace" or field not in made:
            raise ValueError(operation)
        made[field] = operation["value"]
    return made


_PATCHES = {"application/merge-patch+json": _merged, "application/json-patch+json": _replaced}
