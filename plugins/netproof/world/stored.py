"""NetworkPolicies as objects of the API: made, read, edited, listed, watched and deleted, for cases on what the API server promises."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netproof.kube.client import Api, Forbidden, Invalid, NotFound
from netproof.kube.objects import path
from netproof.world.case import Case
from netproof.world.verdicts import Failed, Unsupported

Object = dict[str, Any]
WATCHED = 2  # seconds that a watch lasts; what it is to tell has happened before it begins


@dataclass(frozen=True, slots=True)
class Stored:
    """The NetworkPolicies of one namespace of the world. What a case makes here is deleted after it."""

    case: Case
    letter: str

    def create(self, policy: Object, **labels: str) -> Object:
        """Make a policy with these labels beside the run's; what the API made of it."""
        made = self._api.create(self._placed(policy, labels))
        self.case.applied[self._path(policy["metadata"]["name"])] = made
        return made

    def read(self, name: str) -> Object | None:
        """The policy, None where there is none."""
        try:
            return self._api.get(self._path(name))
        except NotFound:
            return None

    def edit(self, name: str, spec: Mapping[str, Any]) -> Object:
        """Put another spec in the place of a policy's."""
        return self._api.patch(self._path(name), [{"op": "replace", "path": "/spec", "value": spec}], kind="json")

    def delete(self, name: str) -> None:
        """Delete a policy."""
        gone = self.case.applied.pop(self._path(name))
        self._api.delete(self._path(name), uid=gone["metadata"]["uid"])

    def names(self, **labels: str) -> list[str]:
        """The names of the policies that have these labels."""
        return sorted(obj["metadata"]["name"] for obj in self._api.list(self._path(), labels=_selector(labels)))

    def version(self) -> str:
        """The version of the collection as it is now, for `changes`."""
        return str(self._api.get(self._path(), limit="1")["metadata"]["resourceVersion"])

    def changes(self, since: str, **labels: str) -> list[tuple[str, str]]:
        """What a watch on the policies with these labels tells since a version: `ADDED`, `MODIFIED` or `DELETED`, and the name.

        Raises Unsupported where the credentials do not suffice for a watch.
        """
        query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(WATCHED), "labelSelector": _selector(labels)}
        try:
            told = self._api.text(self._path(), **query)
        except Forbidden as error:
            raise Unsupported(f"no right to watch networkpolicies: {error.message}") from error
        events = [json.loads(line) for line in told.splitlines()]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events if event["type"] != "BOOKMARK"]

    def require_refused(self, policy: Object, field: str, *, but: Object) -> None:
        """Raise Failed unless the API server refuses the policy and names the field, while it would take `but`. Nothing is stored."""
        self._api.create(self._placed(but, {}), dry_run=True)
        try:
            self._api.create(self._placed(policy, {}), dry_run=True)
        except Invalid as refusal:
            if field not in refusal.message:
                raise Failed(f"the API server refuses the policy, but not for {field}: {refusal.message}") from refusal
            return
        raise Failed(f"the API server takes a policy that it must refuse for {field}")

    @property
    def _api(self) -> Api:
        return self.case.runner.api

    def _path(self, name: str = "") -> str:
        return path("NetworkPolicy", name, self.case.world.namespaces[self.letter])

    def _placed(self, policy: Object, labels: Mapping[str, str]) -> Object:
        metadata = {"namespace": self.case.world.namespaces[self.letter], "labels": {**self.case.world.recipe.labels, **labels}}
        return policy | {"metadata": policy["metadata"] | metadata}


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())
