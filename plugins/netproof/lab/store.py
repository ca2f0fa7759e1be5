"""All objects of the lab, with versions: what is, what changed since, and a wait for the next change."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from netproof.lab.seams import Object, Snapshot

HISTORY = 4096  # changes that are remembered for watches


class Exists(Exception):  # noqa: N818
    """The name is taken by an object of that kind."""


class Missing(Exception):  # noqa: N818
    """There is no such object."""


class Expired(Exception):  # noqa: N818
    """Changes are asked for that are no longer remembered."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write. `obj` is the object after it (of a deletion: the last state, with the version of its end), `before` what it was."""

    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    obj: Object
    before: Object | None


Key = tuple[str, str]  # namespace ("" where the kind has none), name


class Store:
    """Objects by kind, namespace and name. It belongs to one event loop.

    What goes in is copied; what comes out is the stored object itself, which nobody may change: copy it first. The store checks nothing
    but names; defaults and validation are the API's.
    """

    def __init__(self) -> None:
        self.version = 1
        self._kinds: dict[str, dict[Key, Object]] = {}
        self._lists: dict[str, tuple[Object, ...]] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._news = asyncio.Event()

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object, None where there is none."""
        return self._kinds.get(kind, {}).get((namespace, name))

    def list(self, kind: str, namespace: str = "") -> tuple[Object, ...]:
        """The objects of a kind, in a namespace or in all, by namespace and name."""
        if kind not in self._lists:
            objects = self._kinds.get(kind, {})
            self._lists[kind] = tuple(objects[key] for key in sorted(objects))
        found = self._lists[kind]
        return tuple(obj for obj in found if obj["metadata"].get("namespace") == namespace) if namespace else found

    def snapshot(self) -> Snapshot:
        """All objects as they are now; later changes do not show in it."""
        return {kind: self.list(kind) for kind in self._kinds}

    def create(self, obj: Object) -> Object:
        """Store a new object under a uid of its own. Raises Exists."""
        kind, key = _place(obj)
        objects = self._kinds.setdefault(kind, {})
        if key in objects:
            raise Exists(f"{kind} {'/'.join(key).lstrip('/')}")
        made = copy.deepcopy(obj)
        made["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        self._write("ADDED", made, None)
        return made

    def update(self, obj: Object) -> Object:
        """Put this in the place of the object of its name, which keeps its uid and birth; nothing happens where they are equal.

        A new spec is a new generation. Raises Missing.
        """
        kind, key = _place(obj)
        before = self._kinds.get(kind, {}).get(key)
        if before is None:
            raise Missing(f"{kind} {'/'.join(key).lstrip('/')}")
        kept = {field: before["metadata"][field] for field in ("uid", "creationTimestamp", "generation", "resourceVersion")}
        if obj | {"metadata": obj["metadata"] | kept} == before:
            return before
        made = copy.deepcopy(obj)
        made["metadata"] |= kept
        if made.get("spec") != before.get("spec"):
            made["metadata"]["generation"] += 1
        self._write("MODIFIED", made, before)
        return made

    def remove(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Take an object out at once; what it was, None where it was gone."""
        before = self._kinds.get(kind, {}).get((namespace, name))
        if before is not None:
            self._write("DELETED", before | {"metadata": dict(before["metadata"])}, before)
        return before

    def since(self, version: int) -> Sequence[Change]:
        """The changes after a version, oldest first. Raises Expired where some of them are forgotten."""
        missing = self.version - version
        if missing > len(self._history):
            raise Expired(f"too old resource version: {version} ({self.version - len(self._history)})")
        return [self._history[place] for place in range(len(self._history) - max(0, missing), len(self._history))]

    async def newer(self, version: int) -> int:
        """The store's version, once it is above this one."""
        while self.version <= version:
            await self._news.wait()
        return self.version

    def _write(self, type_: Literal["ADDED", "MODIFIED", "DELETED"], obj: Object, before: Object | None) -> None:
        kind, key = _place(obj)
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        if type_ == "DELETED":
            del self._kinds[kind][key]
        else:
            self._kinds[kind][key] = obj
        self._lists.pop(kind, None)
        self._history.append(Change(self.version, type_, obj, before))
        self._news.set()
        self._news = asyncio.Event()


def now() -> str:
    """The time as objects carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _place(obj: Object) -> tuple[str, Key]:
    metadata = obj["metadata"]
    return obj["kind"], (metadata.get("namespace", ""), metadata["name"])
