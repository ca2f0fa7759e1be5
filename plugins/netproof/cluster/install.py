"""Applying what the catalogue says: the same for CNIs and load balancers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netproof.cluster.catalogue import Entry, Reference
from netproof.cluster.manifest import Object, workloads
from netproof.cluster.progress import Progress
from netproof.kube.client import Api, ApiError, NotFound
from netproof.kube.objects import UnknownKind
from netproof.kube.wait import Late, NotYet, until
from netproof.problem import Problem

LIMIT = 90.0
_FIRST = ("Namespace", "CustomResourceDefinition")


def apply(api: Api, objects: Sequence[Object], *, namespace: str, what: str, progress: Progress, limit: float = LIMIT) -> None:
    """Apply the objects, namespaces and definitions of kinds first. Raises Problem.

    A kind that is not served yet and a webhook that does not answer yet are tried again until `limit`: both are on their way.
    """
    for item in sorted(objects, key=lambda item: item["kind"] not in _FIRST):
        try:
            until(lambda item=item: _applied(api, item, namespace), what=what, limit=limit, every=0.5, progress=progress)  # type: ignore[misc]
        except Late as late:
            raise Problem(str(late)) from late


def _applied(api: Api, item: Object, namespace: str) -> Mapping[str, Any]:
    name = f"{item['kind']} {item['metadata']['name']}"
    try:
        return api.apply(_placed(api, item, namespace))
    except (UnknownKind, NotFound) as error:
        raise NotYet(f"{name}: {error}") from error
    except ApiError as error:
        if "webhook" in error.message:
            raise NotYet(f"{name}: {error.message}") from error
        raise Problem(f"the API server does not take {name}: {error.message}") from error


def _placed(api: Api, item: Object, namespace: str) -> Object:
    """The object in the namespace that kubectl would put it into."""
    if item["metadata"].get("namespace") or not api.resource(item).namespaced:
        return item
    return item | {"metadata": item["metadata"] | {"namespace": namespace}}


def awaited(entry: Entry, objects: Sequence[Object]) -> list[Reference]:
    """What has to be ready: the manifest's own workloads, and those that the entry names beside them."""
    default = entry.source.namespace
    own = [
        Reference(kind=item["kind"], name=item["metadata"]["name"], namespace=item["metadata"].get("namespace") or default)
        for item in workloads(objects)
    ]
    return list(dict.fromkeys([*own, *entry.ready]))
