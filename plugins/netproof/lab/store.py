"""All objects of the lab, with versions: what is, what changed since, and a wait for the next change."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from netproof.lab.facts import stamp
from netproof.lab.refusal import Refused
from netproof.lab.seams import Object, Snapshot

HISTORY = 4096  # changes that are remembered for watches
Key = tuple[str, str]  # namespace ("" where the kind has none), name


@dataclass(frozen=True, slots=True)
class Change:
    """One write: the object before it, and after it; one that is `gone` has the version of its end."""

    version: int
    before: Object | None
    obj: Object
    gone: bool


class Store:
    """Objects by kind, namespace and name. It belongs to one event loop.

    What goes in is copied; what comes out is the stored object itself, which nobody may change: copy it first. The store checks nothing
    but names; defaults and validation are the API's.
    """

    def __init__(self) -> None:
        self.version = 1
        self._kinds: dict[str, dict[Key, Object]] = {}
        self._told: dict[str, tuple[Object, ...]] = {}  # what a snapshot has of a kind, until it changes
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._news = asyncio.Event()
        self._ends: dict[str, asyncio.Event] = {}  # of objects whose end is waited for, by uid

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object, None where there is none."""
        return self._kinds.get(kind, {}).get((namespace, name))

    def list(self, kind: str, namespace: str = "") -> tuple[Object, ...]:
        """The objects of a kind, in a namespace or in all, by namespace and name."""
        return tuple(obj for (place, _), obj in self._kinds.get(kind, {}).items() if namespace in ("", place))

    def snapshot(self) -> Snapshot:
        """All objects as they are now; later changes do not show in it. A kind that is as it was is the same tuple as before."""
        for kind in self._kinds.keys() - self._told.keys():
            self._told[kind] = tuple(self._kinds[kind].values())
        return dict(self._told)

    def create(self, obj: Object) -> Object:
        """Store a new object under a uid of its own. Raises KeyError where its name is taken."""
        made = copy.deepcopy(obj)
        made["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": stamp()}
        objects, place = self._place(made)
        if place in objects:
            raise KeyError(f"{made['kind']} {'/'.join(place)}")
        return self._write(None, made)

    def update(self, obj: Object) -> Object:
        """Put this in the place of the object of its name, which keeps its uid and birth, unless they are equal. Raises KeyError."""
        objects, place = self._place(obj)
        before = objects[place]
        kept = {field: before["metadata"][field] for field in ("uid", "creationTimestamp", "resourceVersion")}
        meant = obj | {"metadata": obj["metadata"] | kept}
        return before if meant == before else self._write(before, copy.deepcopy(meant))

    def remove(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Take an object out at once; what it was, None where it was gone."""
        before = self.get(kind, name, namespace)
        if before is not None:
            self._write(before, before | {"metadata": {**before["metadata"]}}, gone=True)
        return before

    def since(self, version: int) -> Sequence[Change]:
        """The changes after a version, oldest first. Raises Refused (410) where some of them are forgotten."""
        if version < self.version - len(self._history):
            raise Refused(410, f"too old resource version: {version} ({self.version - len(self._history)})", reason="Expired")
        return [change for change in self._history if change.version > version]

    async def follow(self, version: int) -> AsyncIterator[Change]:
        """Every change after a version, without an end. Raises Refused (410)."""
        while True:
            for change in self.since(version):
                version = change.version
                yield change
            await self.newer(version)

    async def newer(self, version: int) -> int:
        """The store's version, once it is above this one."""
        while self.version <= version:
            await self._news.wait()
        return self.version

    async def gone(self, obj: Object) -> None:
        """Return when the object is no longer there; another one of its name does not count."""
        metadata = obj["metadata"]
        now = self.get(obj["kind"], metadata["name"], metadata.get("namespace", ""))
        if now and now["metadata"]["uid"] == metadata["uid"]:
            await self._ends.setdefault(metadata["uid"], asyncio.Event()).wait()

    def _place(self, obj: Object) -> tuple[dict[Key, Object], Key]:
        metadata = obj["metadata"]
        return self._kinds.setdefault(obj["kind"], {}), (metadata.get("namespace", ""), metadata["name"])

    def _write(self, before: Object | None, obj: Object, *, gone: bool = False) -> Object:
        objects, place = self._place(obj)
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        if gone:
            del objects[place]
            if end := self._ends.pop(obj["metadata"]["uid"], None):
                end.set()
        else:  # kept in order: DNS takes a snapshot for every question
            self._kinds[obj["kind"]] = dict(sorted({**objects, place: obj}.items()))
        self._told.pop(obj["kind"], None)
        self._history.append(Change(self.version, before, obj, gone))
        self._news.set()
        self._news = asyncio.Event()
        return obj
