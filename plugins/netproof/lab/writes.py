"""What changes the store on behalf of a client: create, replace, patch and delete, with the API server's checks in its order."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from netproof.lab import patch, refusal
from netproof.lab.kinds import KINDS, Kind, Target
from netproof.lab.refusal import Problems, Refused
from netproof.lab.resources import allocated, carried, completed
from netproof.lab.seams import Object
from netproof.lab.store import Store
from netproof.lab.validation import validate

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"

_GIVEN = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")  # metadata that clients don't set
_LASTING = ("default", "kube-system", "kube-public", "kube-node-lease")
_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
_PURGED = (
    "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace will automatically be purged "
    "by the system."
)


@dataclass(frozen=True, slots=True)
class Ask:
    """How a change is asked for: `dry` leaves the store as it is, `manager` owns applied fields."""

    dry: bool = False
    manager: str = "unknown"


class Writer:
    """Changes of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, target: Target, body: object, ask: Ask) -> Object:
        """The object as stored. Raises Refused."""
        kind = target.kind
        obj = _decoded(kind, body)
        metadata = _placed(obj, target)
        namespace = self._store.get("Namespace", target.namespace) if target.namespace else None
        if target.namespace and namespace is None:
            raise refusal.not_found(KINDS["Namespace"], target.namespace)
        if namespace and namespace["metadata"].get("deletionTimestamp"):
            raise refusal.terminating(kind, metadata["name"], target.namespace)
        if self._store.get(kind.name, metadata["name"], target.namespace):
            raise refusal.exists(kind, metadata["name"])
        if "status" in kind.parts:
            obj.pop("status", None)
        obj["metadata"] = {field: value for field, value in metadata.items() if field not in (*_GIVEN, "resourceVersion")}
        return (Store() if ask.dry else self._store).create(self._admitted(kind, obj, None))

    def replace(self, target: Target, body: object, ask: Ask) -> Object:
        """Put: the whole object is new, but for what only the server sets."""
        return self._update(target, body, ask)

    def patch(self, target: Target, body: object, how: str, ask: Ask) -> Object:
        """Change a part of an object; apply makes it where there is none."""
        before = self._store.get(target.kind.name, target.name, target.namespace)
        if before is None and how == APPLY:
            return self.create(target, patch.apply(None, _config(body, target), ask.manager), ask)
        if before is None:
            raise refusal.not_found(target.kind, target.name)
        return self._update(target, _patched(before, body, how, target, ask), ask)

    def delete(self, target: Target, options: Mapping[str, Any], ask: Ask) -> Object:
        """A Status where the object is gone at once, else the object as it is from now on."""
        kind, obj = target.kind, self._existing(target)
        _require(kind, obj, options.get("preconditions") or {})
        later = self._marked(kind, obj, options)
        if later is not None:
            return later if ask.dry else self._store.update(later)
        if not ask.dry:
            self._store.remove(kind.name, target.name, target.namespace)
        details = {"name": target.name, "kind": kind.plural, "uid": obj["metadata"]["uid"]} | ({"group": kind.group} if kind.group else {})
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _existing(self, target: Target) -> Object:
        found = self._store.get(target.kind.name, target.name, target.namespace)
        if found is None:
            raise refusal.not_found(target.kind, target.name)
        return found

    def _update(self, target: Target, body: object, ask: Ask) -> Object:
        kind, before = target.kind, self._existing(target)
        obj = _decoded(kind, body)
        metadata = _placed(obj, target)
        _require(kind, before, {"uid": metadata.get("uid")})
        if metadata.get("resourceVersion") not in (None, "", before["metadata"]["resourceVersion"]):
            raise refusal.conflict(kind, target.name, _MODIFIED)
        obj["metadata"] = metadata | {field: before["metadata"][field] for field in _GIVEN if field in before["metadata"]}
        if target.part == "status":
            obj = before | {"status": obj.get("status", {})}
        else:
            obj = self._admitted(kind, _with_status_of(obj, before) if "status" in kind.parts else obj, before)
        if ask.dry:
            return obj
        updated = self._store.update(obj)
        if "deletionTimestamp" in obj["metadata"] and not obj["metadata"].get("finalizers") and kind.name not in ("Pod", "Namespace"):
            self._store.remove(kind.name, target.name, target.namespace)
        return updated

    def _admitted(self, kind: Kind, obj: Object, before: Object | None) -> Object:
        """With defaults, checked, and with what it is given. Raises Refused (422) with all that is wrong."""
        problems, name = Problems(), obj["metadata"]["name"]
        try:
            obj = completed(obj)
            if kind.name == "Service" and before:
                obj = carried(obj, before)
            validate(obj, before, problems)
        except (TypeError, AttributeError, KeyError, ValueError) as exc:  # a field holds another type than its kind says
            raise Refused(400, f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: {exc!r}') from exc
        problems.raise_for(kind, name)
        if kind.name == "Service":
            others = [other for other in self._store.list("Service") if not before or other["metadata"]["uid"] != before["metadata"]["uid"]]
            obj = allocated(obj, others, problems)
            problems.raise_for(kind, name)
        return obj

    def _marked(self, kind: Kind, obj: Object, options: Mapping[str, Any]) -> Object | None:
        """The object while somebody has still to take its leave; None where nobody has."""
        metadata = obj["metadata"]
        if kind.name == "Namespace":
            if metadata["name"] in _LASTING:
                raise Refused(403, f'namespaces "{metadata["name"]}" is forbidden: this namespace may not be deleted')
            if "deletionTimestamp" in metadata:
                raise refusal.conflict(kind, metadata["name"], _PURGED)
            return _dying(obj, 0) | {"status": obj.get("status", {}) | {"phase": "Terminating"}}
        if kind.name == "Pod" and (obj["spec"].get("nodeName") or metadata.get("finalizers")):
            asked = options.get("gracePeriodSeconds")
            grace = max(0, int(obj["spec"]["terminationGracePeriodSeconds"] if asked is None else asked))
            if "deletionTimestamp" in metadata and metadata["deletionGracePeriodSeconds"] <= grace:
                return obj
            return _dying(obj, grace)
        return _dying(obj, 0) if metadata.get("finalizers") else None


def _decoded(kind: Kind, body: object) -> Object:
    """The body as an object of that kind. Raises Refused (400)."""
    if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
        raise Refused(400, f"the object provided is unrecognized (must be of type {kind.name})")
    said = (body.get("apiVersion", kind.api_version), body.get("kind", kind.name))
    if said != (kind.api_version, kind.name):
        raise Refused(400, f"the object provided is unrecognized (must be of type {kind.name}): {said[1]} in version {said[0]!r}")
    obj: Object = _bare(body | {"apiVersion": said[0], "kind": said[1]})
    return obj


def _bare(value: Any) -> Any:
    """Without nulls, which stand for what is left out."""
    if isinstance(value, dict):
        return {field: _bare(entry) for field, entry in value.items() if entry is not None}
    return [_bare(entry) for entry in value] if isinstance(value, list) else value


def _placed(obj: Object, target: Target) -> Object:
    """The metadata of an object that lives where the path says. Raises Refused (400, 422)."""
    metadata: Object = obj.setdefault("metadata", {})
    if metadata.get("generateName") and not metadata.get("name") and not target.name:
        metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
    name = metadata.setdefault("name", target.name)
    if target.name and name != target.name:
        raise Refused(400, f"the name of the object ({name}) does not match the name on the URL ({target.name})")
    if not name:
        problems = Problems()
        problems.required("metadata.name", "name or generateName is required")
        problems.raise_for(target.kind, "")
    if target.kind.namespaced and metadata.setdefault("namespace", target.namespace) != target.namespace:
        raise Refused(400, "the namespace of the provided object does not match the namespace sent on the request")
    if not target.kind.namespaced:
        metadata.pop("namespace", None)
    return metadata


def _require(kind: Kind, obj: Object, wanted: Mapping[str, Any]) -> None:
    """Raises Refused (409) where it is another object, or another state of it, than the client has in mind."""
    for field, title in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        has, asked = obj["metadata"][field], wanted.get(field)
        if asked and asked != has:
            why = f"Precondition failed: {title} in precondition: {asked}, {title} in object meta: {has}"
            raise refusal.conflict(kind, obj["metadata"]["name"], why)


def _with_status_of(obj: Object, before: Object) -> Object:
    bare = {field: value for field, value in obj.items() if field != "status"}
    return bare | ({"status": before["status"]} if "status" in before else {})


def _dying(obj: Object, grace: int) -> Object:
    end = (datetime.now(UTC) + timedelta(seconds=grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
    marks: Object = {"deletionTimestamp": end} | ({"deletionGracePeriodSeconds": grace} if obj["kind"] == "Pod" else {})
    return obj | {"metadata": obj["metadata"] | marks}


def _config(body: object, target: Target) -> Object:
    """What is applied, which must say what it is."""
    if not isinstance(body, dict) or "apiVersion" not in body or "kind" not in body:
        raise Refused(400, "invalid object type: apiVersion and kind must be set")
    config = _decoded(target.kind, body)
    _placed(config, target)
    if "managedFields" in config["metadata"]:
        raise Refused(400, "metadata.managedFields must be nil")
    return config


def _patched(before: Object, body: object, how: str, target: Target, ask: Ask) -> Object:
    try:
        if how == JSON:
            return patch.json_patch(before, _operations(body))
    except patch.Unpatchable as exc:
        raise Refused(422, f"the server rejected our request due to an error in our request: {exc}") from exc
    if how == APPLY:
        return patch.apply(before, _config(body, target), ask.manager)
    if how not in (MERGE, STRATEGIC):
        accepted = ", ".join((JSON, MERGE, APPLY, STRATEGIC))
        raise Refused(415, f"the body of the request was in an unknown format - accepted media types include: {accepted}")
    if not isinstance(body, dict):
        raise Refused(400, "the patch is no object")
    merged: Object = patch.merge(before, body) if how == MERGE else patch.strategic(before, body)
    return merged


def _operations(body: object) -> Sequence[Any]:
    if not isinstance(body, list):
        raise Refused(400, "a JSON patch is a list of operations")
    return body
