"""The four ways to change a part of an object: merge, strategic merge, JSON patch, and server-side apply with field ownership.

Nothing here changes its arguments.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from netproof.lab.seams import Object
from netproof.lab.store import now

# Lists that are merged item by item, and by what their items are told apart (sets have no keys). All others are replaced as a whole.
_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "env": ("name",),
    "ports": ("containerPort", "port", "protocol"),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "finalizers": (),
}
_ATOMIC = ("selector", "podSelector", "nodeSelector")  # maps with one owner
_APART = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields")


class Unpatchable(Exception):  # noqa: N818
    """The patch does not fit the object."""


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null deletes, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for field, value in patch.items():
        if value is None:
            merged.pop(field, None)
        else:
            merged[field] = merge(merged.get(field), value)
    return merged


def strategic(target: Any, patch: Any) -> Any:
    """As `merge`, but lists whose items have keys are merged item by item, and `$patch` and `$deleteFromPrimitiveList` are obeyed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") in ("replace", "delete"):
        return {field: copy.deepcopy(value) for field, value in patch.items() if field != "$patch"}
    merged = dict(target) if isinstance(target, dict) else {}
    for field, value in patch.items():
        directive, _, listed = field.partition("/")
        if directive == "$deleteFromPrimitiveList":
            merged[listed] = [item for item in merged.get(listed, []) if item not in value]
        elif field.startswith("$"):  # $setElementOrder, $retainKeys: the order means nothing here
            continue
        elif value is None:
            merged.pop(field, None)
        elif isinstance(value, list) and field in _KEYS:
            merged[field] = _strategic_list(merged.get(field) or [], value, field)
        else:
            merged[field] = strategic(merged.get(field), value)
    return merged


def _strategic_list(target: Sequence[Any], patch: Sequence[Any], field: str) -> list[Any]:
    said = [item.get("$patch") if isinstance(item, dict) else None for item in patch]
    if "replace" in said:
        return [copy.deepcopy(item) for item, how in zip(patch, said, strict=True) if how != "replace"]
    gone = [_without(item, ("$patch",)) for item, how in zip(patch, said, strict=True) if how == "delete"]
    left = [item for item in target if not any(condition.items() <= item.items() for condition in gone)]
    return _by_key(left, [item for item, how in zip(patch, said, strict=True) if how != "delete"], field, strategic)


def _by_key(target: Sequence[Any], patch: Sequence[Any], field: str, combine: Callable[[Any, Any], Any]) -> list[Any]:
    merged = {_key(item, field): item for item in target}
    for item in patch:
        merged[_key(item, field)] = combine(merged.get(_key(item, field)), item)
    return list(merged.values())


def _key(item: Any, field: str) -> str:
    """What tells an item from the others, as `fieldsV1` spells it. A protocol that is left out is TCP."""
    if not isinstance(item, dict):
        return f"v:{json.dumps(item)}"
    given = {"protocol": "TCP"} | item if field == "ports" else item
    return f"k:{json.dumps({key: given[key] for key in _KEYS[field] if key in given}, separators=(',', ':'))}"


def json_patch(target: Object, operations: Sequence[Any]) -> Object:
    """RFC 6902. Raises Unpatchable where a path leads nowhere or a test fails."""
    document = {"": copy.deepcopy(target)}
    try:
        for operation in operations:
            _operate(document, operation)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as exc:
        raise Unpatchable(f"the operation {operation} cannot be carried out") from exc
    return document[""]


def _operate(document: Any, operation: dict[str, Any]) -> None:
    path, verb = _pointer(operation["path"]), operation["op"]
    if verb in ("move", "copy"):
        source = _pointer(operation["from"])
        value = _take(document, source) if verb == "move" else copy.deepcopy(_look(document, source))
        _put(document, path, value)
    elif verb == "add":
        _put(document, path, copy.deepcopy(operation["value"]))
    elif verb == "replace":
        _take(document, path)
        _put(document, path, copy.deepcopy(operation["value"]))
    elif verb == "remove":
        _take(document, path)
    elif verb != "test" or _look(document, path) != operation["value"]:
        raise ValueError(verb)


def _pointer(text: str) -> list[str]:
    return [word.replace("~1", "/").replace("~0", "~") for word in text.split("/")]


def _look(value: Any, path: Sequence[str]) -> Any:
    for word in path:
        value = value[int(word)] if isinstance(value, list) else value[word]
    return value


def _put(document: Any, path: Sequence[str], value: Any) -> None:
    parent = _look(document, path[:-1])
    if not isinstance(parent, list):
        parent[path[-1]] = value
        return
    place = len(parent) if path[-1] == "-" else int(path[-1])
    if not 0 <= place <= len(parent):
        raise IndexError(place)
    parent.insert(place, value)


def _take(document: Any, path: Sequence[str]) -> Any:
    parent = _look(document, path[:-1])
    return parent.pop(int(path[-1])) if isinstance(parent, list) else parent.pop(path[-1])


def apply(live: Object | None, config: Object, manager: str) -> Object:
    """Server-side apply with force: what the manager applied before and leaves out now goes, unless another one applied it too."""
    entries = ((live or {}).get("metadata") or {}).get("managedFields") or []
    mine = [entry for entry in entries if entry.get("manager") == manager]
    others = [entry for entry in entries if entry.get("manager") != manager]
    fields = _fields(_without(config, ("apiVersion", "kind")) | {"metadata": _without(config["metadata"], _APART)})
    kept = [fields, *(entry["fieldsV1"] for entry in others)]
    merged: Object = _overlay(live or {}, config)
    for entry in mine:
        merged = _prune(merged, entry["fieldsV1"], kept)
    if not mine or mine[0]["fieldsV1"] != fields:
        facts = {"manager": manager, "operation": "Apply", "apiVersion": config["apiVersion"], "time": now()}
        mine = [facts | {"fieldsType": "FieldsV1", "fieldsV1": fields}]
    return merged | {"metadata": merged["metadata"] | {"managedFields": [*others, *mine]}}


def _without(value: Object, fields: Sequence[str]) -> Object:
    return {field: entry for field, entry in value.items() if field not in fields}


def _fields(value: Any, name: str = "") -> Object:
    """The fields of a configuration, as `fieldsV1` spells them. What has one owner as a whole ends the branch."""
    if isinstance(value, dict) and name not in _ATOMIC:
        return {f"f:{field}": _fields(entry, field) for field, entry in value.items()}
    if isinstance(value, list) and name in _KEYS:
        return {_key(item, name): ({".": {}} | _fields(item)) if isinstance(item, dict) else {} for item in value}
    return {}


def _overlay(live: Any, config: Any, name: str = "") -> Any:
    if isinstance(config, dict) and name not in _ATOMIC:
        base = dict(live) if isinstance(live, dict) else {}
        return base | {field: _overlay(base.get(field), entry, field) for field, entry in config.items()}
    if isinstance(config, list) and name in _KEYS:
        return _by_key(live or [], config, name, _overlay)
    return copy.deepcopy(config)


def _prune(live: Any, old: Object, kept: Sequence[Object], name: str = "") -> Any:
    """Without the fields of `old` that are in none of `kept`. A map or list that this empties goes too."""
    if isinstance(live, list) and name in _KEYS:
        left = [_pruned(item, _key(item, name), old, kept, "") for item in live]
        return [item for item in left if item is not None]
    if not isinstance(live, dict):
        return live
    pruned = {field: _pruned(value, f"f:{field}", old, kept, field) for field, value in live.items()}
    return {field: value for field, value in pruned.items() if value is not None}


def _pruned(value: Any, place: str, old: Object, kept: Sequence[Object], name: str) -> Any:
    """What is left of a field or item; None where nothing is."""
    if place not in old:
        return value
    inside = [tree[place] for tree in kept if place in tree]
    if not inside and (not old[place] or "." in old[place]):
        return None
    left = _prune(value, old[place], inside, name) if old[place] else value
    return left if inside or left else None
