"""What the credentials may do: asked beforehand, so that a run is refused in one sentence instead of failing half-way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from netproof.kube.client import Api, Forbidden


@dataclass(frozen=True, slots=True)
class Right:
    """Permission for a verb on a resource; without a namespace on all of them."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        group = f".{self.group}" if self.group else ""
        part = f"/{self.subresource}" if self.subresource else ""
        place = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{group}{part}{place}"


def missing(api: Api, rights: Iterable[Right]) -> list[Right]:
    """Those of the rights that the credentials lack. None where even this question is not allowed: then nothing is known."""
    try:
        return [right for right in rights if not _allowed(api, right)]
    except Forbidden:
        return []


def _allowed(api: Api, right: Right) -> bool:
    review = api.create({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": _spec(right)})
    return bool(review["status"]["allowed"])


def _spec(right: Right) -> dict[str, Any]:
    wanted = {"verb": right.verb, "resource": right.resource, "group": right.group}
    wanted |= {"subresource": right.subresource} if right.subresource else {}
    wanted |= {"namespace": right.namespace} if right.namespace else {}
    return {"resourceAttributes": wanted}
