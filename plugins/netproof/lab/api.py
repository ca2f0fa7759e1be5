"""The lab's API server: as much of Kubernetes' API as Netproof, and kubectl's get, exec and delete, make use of, over one store."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web

from netproof.lab.facts import among, is_part
from netproof.lab.kinds import DOCUMENTS, Kind, Target, target
from netproof.lab.refusal import Refused
from netproof.lab.seams import Object, Runtime
from netproof.lab.store import Store
from netproof.lab.streams import Streams
from netproof.lab.writes import Writer

_LIMIT = 1800.0  # seconds after which a watch that names no limit ends
_VERBS = {("GET", True): "get", ("GET", False): "list", ("POST", False): "create", ("PATCH", True): "patch", ("DELETE", True): "delete"}

# selectors as a query carries them: `app=web,tier in (a,b),!old`
_LABEL = re.compile(r"(!(?=\s*[\w./-]+$))?\s*([\w./-]+)\s*(?:(==?|!=)\s*([\w.-]*)|\s(in|notin)\s*\(([^()]*)\))?")
_OPERATORS = {"": "Exists", "!": "DoesNotExist", "=": "In", "==": "In", "in": "In", "!=": "NotIn", "notin": "NotIn"}


def make_app(store: Store, runtime: Runtime, token: str) -> web.Application:
    """The application to be served over TLS, on whatever socket; who shows the token may do everything."""
    app = web.Application(client_max_size=3 * 1024 * 1024)  # bytes of an object
    app.router.add_route("*", "/{path:.*}", _Api(store, runtime, token).answer)
    return app


class _Api:
    def __init__(self, store: Store, runtime: Runtime, token: str) -> None:
        self._store, self._writer, self._streams = store, Writer(store), Streams(store, runtime)
        self._credentials = f"Bearer {token}".encode()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request, request.path.rstrip("/"))
        except Refused as exc:
            return web.json_response(exc.status, status=exc.code)

    async def _answer(self, request: web.Request, path: str) -> web.StreamResponse:
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), self._credentials):
            raise Refused(401, "Unauthorized")
        if document := DOCUMENTS.get(path):
            return web.json_response(document)
        place = target(path)
        if place.part:
            return await self._streams.answer(request, place.part, self._writer.existing(place))
        verb = _VERBS.get((request.method, bool(place.name)), "")
        if verb not in place.kind.verbs:
            raise Refused(405, "the server does not allow this method on the requested resource")
        if verb == "list":
            return await self._list(request, place)
        return await self._single(request, place, verb)

    async def _single(self, request: web.Request, place: Target, verb: str) -> web.StreamResponse:
        writer, how, dry = self._writer, request.content_type, request.query.get("dryRun") == "All"
        answers: dict[str, Callable[[Any], Object]] = {
            "get": lambda _: writer.existing(place),
            "create": lambda body: writer.create(place, body, dry=dry),
            "patch": lambda body: writer.patch(place, body, how),
            "delete": lambda options: writer.delete(place, options or {}),
        }
        try:
            body = json.loads(await request.read() or b"null")
            return web.json_response(answers[verb](body), status=201 if verb == "create" else 200)
        except (TypeError, AttributeError, KeyError, ValueError) as exc:  # no JSON, or a field holds another type than its kind says
            raise Refused(400, f"the body of the request cannot be handled as a {place.kind.name}: {exc!r}") from exc

    async def _list(self, request: web.Request, place: Target) -> web.StreamResponse:
        kind, chosen = place.kind, _selector(request.query, place)
        objects = [obj for obj in self._store.list(kind.name) if chosen(obj)]
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request, kind, chosen, objects)
        metadata = {"resourceVersion": str(self._store.version)}
        return web.json_response({"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": objects})

    async def _watch(self, request: web.Request, kind: Kind, chosen: Callable[[Object], bool], objects: list[Object]) -> web.StreamResponse:
        """What is there, unless the client knows it, then every change, until the client has left or its time is over."""
        query, response = request.query, web.StreamResponse(headers={"Content-Type": "application/json"})
        known = query.get("resourceVersion", "0") not in ("", "0") and "sendInitialEvents" not in query
        version = int(query["resourceVersion"]) if known else self._store.version
        self._store.since(version)  # refused before it begins where it is too late
        await response.prepare(request)
        with suppress(TimeoutError, ConnectionError, Refused):
            for obj in () if known else objects:
                await _tell(response, "ADDED", obj)
            if "sendInitialEvents" in query:
                ends = {"resourceVersion": str(version), "annotations": {"k8s.io/initial-events-end": "true"}}
                await _tell(response, "BOOKMARK", {"kind": kind.name, "apiVersion": kind.api_version, "metadata": ends})
            async with asyncio.timeout(float(query.get("timeoutSeconds", _LIMIT))):
                async for change in self._store.follow(version):
                    was, now = change.before is not None and chosen(change.before), not change.gone and chosen(change.obj)
                    if was or now:
                        await _tell(response, "DELETED" if not now else "MODIFIED" if was else "ADDED", change.obj)
        return response


async def _tell(response: web.StreamResponse, event: str, obj: Object) -> None:
    await response.write(json.dumps({"type": event, "object": obj}).encode() + b"\n")


def _selector(query: Mapping[str, str], place: Target) -> Callable[[Object], bool]:
    """Whether an object is selected by a path, and by both selectors of a query. Raises Refused (400) where they are malformed."""
    labels = [_label(text.strip()) for text in re.split(r",(?![^(]*\))", query.get("labelSelector", "")) if text.strip()]
    fields = query.get("fieldSelector", "")
    name = fields.removeprefix("metadata.name=")
    if fields and name == fields:
        raise Refused(400, f"field label not supported, but for metadata.name: {fields}")
    wanted = {"kind": place.kind.name} | ({"namespace": place.namespace} if place.namespace else {}) | ({"name": name} if name else {})
    return lambda obj: is_part(wanted, {"kind": obj["kind"]} | obj["metadata"]) and among(obj["metadata"].get("labels") or {}, labels)


def _label(text: str) -> Object:
    if not (found := _LABEL.fullmatch(text)):
        raise Refused(400, f"unable to parse requirement: {text!r}")
    absent, key, sign, value, word, values = found.groups("")
    return {"key": key, "operator": _OPERATORS[sign or word or absent], "values": re.split(r"\s*,\s*", values.strip() or value)}
