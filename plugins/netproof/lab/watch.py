"""A watch: what is there, then every change, as one JSON line each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from netproof.lab.kinds import Kind
from netproof.lab.refusal import Refused
from netproof.lab.seams import Object
from netproof.lab.selectors import Test
from netproof.lab.store import Change, Expired, Store

_LIMIT = 1800.0  # seconds after which a watch that names no limit ends


@dataclass(frozen=True, slots=True)
class View:
    """What of the store a client sees, and how an object is written for it."""

    kind: Kind
    namespace: str
    test: Test
    shown: Callable[[Object], Object]

    def objects(self, store: Store) -> list[Object]:
        return [obj for obj in store.list(self.kind.name, self.namespace) if self.test(obj)]

    def event(self, change: Change) -> tuple[str, Object] | None:
        """What a change is to this view: an object that ceases to be selected is deleted as far as the watcher goes."""
        obj = change.obj
        if obj["kind"] != self.kind.name or (self.namespace and obj["metadata"]["namespace"] != self.namespace):
            return None
        was = change.before is not None and self.test(change.before)
        seen = change.type != "DELETED" and self.test(obj)
        if was or seen:
            return ("MODIFIED" if was else "ADDED") if seen else "DELETED", obj
        return None


async def watch(request: web.Request, store: Store, view: View) -> web.StreamResponse:
    """Answer with events until the client leaves or its `timeoutSeconds` are over."""
    query = request.query
    version, initial = _start(query.get("resourceVersion", ""), store, view, listed="sendInitialEvents" in query)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for obj in initial:
        await _send(response, "ADDED", view.shown(obj))
    if query.get("sendInitialEvents") == "true":
        await _send(response, "BOOKMARK", _bookmark(view.kind, version))
    try:
        async with asyncio.timeout(float(query.get("timeoutSeconds") or _LIMIT)):
            await _follow(request, response, store, view, version)
    except (TimeoutError, ConnectionError):  # its time is over, or the client is gone
        pass
    return response


def _start(said: str, store: Store, view: View, *, listed: bool) -> tuple[int, list[Object]]:
    """The version from which changes count, and the objects that are told of before."""
    if listed or said in ("", "0"):
        return store.version, view.objects(store)
    if not said.isdigit():
        raise Refused(400, f"Invalid value: {said!r}: resourceVersion: must be a number")
    return int(said), []


async def _follow(request: web.Request, response: web.StreamResponse, store: Store, view: View, version: int) -> None:
    while request.transport is not None and not request.transport.is_closing():
        try:
            changes = store.since(version)
        except Expired as exc:
            await _send(response, "ERROR", Refused(410, str(exc)).status)
            return
        for change in changes:
            version = change.version
            if event := view.event(change):
                await _send(response, event[0], view.shown(event[1]))
        await store.newer(version)


async def _send(response: web.StreamResponse, type_: str, obj: Object) -> None:
    await response.write(json.dumps({"type": type_, "object": obj}).encode() + b"\n")


def _bookmark(kind: Kind, version: int) -> Object:
    """The event that says that all there was has been told."""
    metadata = {"resourceVersion": str(version), "annotations": {"k8s.io/initial-events-end": "true"}}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}
