"""What controllers, kubelet and DNS read off objects, and the small forms in which they write: times and conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import is_
from typing import Any

from netproof.lab.seams import Object

SERVICE_NAME = "kubernetes.io/service-name"  # the label that says to which Service a slice belongs
FINISHED = ("Succeeded", "Failed")
_OPERATORS: Mapping[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
}


def key(obj: Object) -> str:
    """`namespace/name`."""
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def stamp(after: float = 0.0) -> str:
    """The time now, or some seconds from now, as the API writes it."""
    return (datetime.now(UTC) + timedelta(seconds=after)).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_deleted(obj: Object) -> bool:
    """Whether its deletion has been asked for; it may still be there for a while."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_ready(pod: Object) -> bool:
    """Whether the kubelet says so."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def condition(before: Iterable[Object], type_: str, *, holds: bool, reason: str = "", message: str = "") -> Object:
    """A condition of a status; the time of its last transition is kept where it did not change."""
    status = "True" if holds else "False"
    since = next((c["lastTransitionTime"] for c in before if c["type"] == type_ and c["status"] == status), stamp())
    said = {name: text for name, text in (("reason", reason), ("message", message)) if text}
    return {"type": type_, "status": status, "lastTransitionTime": since} | said


def among(labels: Mapping[str, str], expressions: Iterable[Mapping[str, Any]]) -> bool:
    """Whether labels meet all requirements (`matchExpressions`)."""
    return all(_OPERATORS[e["operator"]](labels.get(e["key"]), e.get("values") or ()) for e in expressions)


def unchanged(before: Sequence[object], now: Sequence[object]) -> bool:
    """Whether these are the very same, one by one: of two snapshots the kinds in which nothing was written between them."""
    return len(before) == len(now) and all(map(is_, before, now))


def is_part(part: Mapping[str, str], whole: Mapping[str, str]) -> bool:
    """Whether `whole` has all labels of `part`."""
    return part.items() <= whole.items()


def slices_of(service: Object, slices: Iterable[Object]) -> list[Object]:
    """A Service's EndpointSlices, whoever made them."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    mine = (s for s in slices if s["metadata"]["namespace"] == namespace)
    return [s for s in mine if s["metadata"].get("labels", {}).get(SERVICE_NAME) == name]
