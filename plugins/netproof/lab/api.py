"""The lab's API server: as much of Kubernetes' API as Netproof and kubectl use, over one store.

GET     documents of discovery, objects, lists (also as tables), watches, logs, exec and port-forward (websockets)
POST    create, ask for rights (all are granted)
PUT, PATCH, DELETE
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import yaml
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from netproof.lab.kinds import Target, document, target
from netproof.lab.refusal import Refused, not_found
from netproof.lab.seams import Object, Runtime
from netproof.lab.selectors import selector
from netproof.lab.store import Store
from netproof.lab.streams import Streams
from netproof.lab.tables import table
from netproof.lab.watch import View, watch
from netproof.lab.writes import APPLY, Ask, Writer

_BODY = 3 * 1024 * 1024  # bytes that an object may have
_OPEN = ("/version", "/healthz", "/livez", "/readyz")  # answered without credentials
_TYPES = ("application/json", "application/yaml", "application/octet-stream", APPLY)  # the second last: no type was said


def make_app(store: Store, runtime: Runtime, token: str) -> web.Application:
    """The application to be served over TLS, on whatever socket; who shows the token may do everything."""
    app = web.Application(middlewares=[_guard(token)], client_max_size=_BODY)
    app.router.add_route("*", "/{path:.*}", _Api(store, runtime).answer)
    return app


def _guard(token: str) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if request.path.rstrip("/") not in _OPEN and not hmac.compare_digest(shown.encode(), token.encode()):
                raise Refused(401, "Unauthorized")
            return await handler(request)
        except Refused as exc:
            return _json(exc.status, exc.code)

    return guard


class _Api:
    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store = store
        self._writer = Writer(store)
        self._streams = Streams(store, runtime)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        if request.method == "GET" and (found := document(path)):
            return _json(found)
        place = target(path)
        if place is None:
            raise Refused(404, "the server could not find the requested resource")
        if place.part not in ("", "status"):
            return await self._part(request, place)
        verb = _verb(request, place)
        if verb not in place.kind.verbs:
            raise Refused(405, "the server does not allow this method on the requested resource")
        handler: Callable[[web.Request, Target], Awaitable[web.StreamResponse]] = getattr(self, f"_{verb}")
        return await handler(request, place)

    async def _part(self, request: web.Request, place: Target) -> web.StreamResponse:
        match request.method, place.part:
            case "GET", "log":
                return self._streams.log(request, place)
            case "GET" | "POST", "exec":
                return await self._streams.execute(request, place)
            case "GET" | "POST", "portforward":
                return await self._streams.forward(request, place)
        raise Refused(405, "the server does not allow this method on the requested resource")

    async def _get(self, request: web.Request, place: Target) -> web.StreamResponse:
        obj = self._store.get(place.kind.name, place.name, place.namespace)
        if obj is None:
            raise not_found(place.kind, place.name)
        return _json(self._shown(request, place, [obj]) if _as_table(request) else obj)

    async def _list(self, request: web.Request, place: Target) -> web.StreamResponse:
        objects = self._view(request, place).objects(self._store)
        return _json(self._shown(request, place, objects) if _as_table(request) else self._listed(place, objects))

    async def _watch(self, request: web.Request, place: Target) -> web.StreamResponse:
        return await watch(request, self._store, self._view(request, place))

    async def _create(self, request: web.Request, place: Target) -> web.StreamResponse:
        body = await _body(request)
        if place.kind.name == "SelfSubjectAccessReview":
            return _json(_options(body) | {"status": {"allowed": True, "reason": "everything is allowed in the lab"}}, 201)
        return _json(self._writer.create(place, body, _ask(request)), 201)

    async def _update(self, request: web.Request, place: Target) -> web.StreamResponse:
        return _json(self._writer.replace(place, await _body(request), _ask(request)))

    async def _patch(self, request: web.Request, place: Target) -> web.StreamResponse:
        body = await _body(request, patch=True)
        fresh = self._store.get(place.kind.name, place.name, place.namespace) is None
        return _json(self._writer.patch(place, body, request.content_type, _ask(request)), 201 if fresh else 200)

    async def _delete(self, request: web.Request, place: Target) -> web.StreamResponse:
        return _json(self._writer.delete(place, await _deletion(request), _ask(request)))

    async def _deletecollection(self, request: web.Request, place: Target) -> web.StreamResponse:
        options, objects = await _deletion(request), self._view(request, place).objects(self._store)
        for obj in objects:
            one = Target(place.kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
            self._writer.delete(one, options, _ask(request))
        return _json(self._listed(place, objects))

    def _view(self, request: web.Request, place: Target) -> View:
        query = request.query
        test = selector(place.kind, labels=query.get("labelSelector", ""), fields=_fields(query.get("fieldSelector", ""), place))
        shown: Callable[[Object], Object] = lambda obj: self._shown(request, place, [obj]) if _as_table(request) else obj  # noqa: E731
        return View(place.kind, place.namespace, test, shown)

    def _shown(self, request: web.Request, place: Target, objects: list[Object]) -> Object:
        return table(objects, place.kind, version=self._store.version, include=request.query.get("includeObject", "Metadata"))

    def _listed(self, place: Target, objects: list[Object]) -> Object:
        items = [{field: value for field, value in obj.items() if field not in ("kind", "apiVersion")} for obj in objects]
        metadata = {"resourceVersion": str(self._store.version)}
        return {"kind": f"{place.kind.name}List", "apiVersion": place.kind.api_version, "metadata": metadata, "items": items}


def _verb(request: web.Request, place: Target) -> str:
    if request.method == "GET":
        if request.query.get("watch") in ("true", "1"):
            return "watch"
        return "get" if place.name else "list"
    if request.method == "DELETE":
        return "delete" if place.name else "deletecollection"
    named = {"PUT": "update", "PATCH": "patch"} if place.name else {"POST": "create"}
    return named.get(request.method, "")


def _fields(said: str, place: Target) -> str:
    """A watch of one object is a watch of the collection that selects its name."""
    return ",".join(filter(None, (said, f"metadata.name={place.name}" if place.name else "")))


def _as_table(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def _ask(request: web.Request) -> Ask:
    query = request.query
    agent = request.headers.get("User-Agent", "unknown").partition("/")[0]
    return Ask(dry=query.get("dryRun") == "All", manager=query.get("fieldManager", agent))


async def _body(request: web.Request, *, patch: bool = False) -> object:
    """What the client sends. Raises Refused for what is neither JSON nor YAML."""
    said = request.content_type
    if not patch and said not in _TYPES:
        accepted = "application/json, application/yaml"
        raise Refused(415, f"the body of the request was in an unknown format - accepted media types include: {accepted}")
    data = await request.read()
    try:
        return yaml.safe_load(data) if said in ("application/yaml", APPLY) and not data.startswith(b"{") else json.loads(data or b"null")
    except (ValueError, yaml.YAMLError) as exc:
        raise Refused(400, f"the body of the request is neither JSON nor YAML: {exc}") from exc


async def _deletion(request: web.Request) -> Mapping[str, Any]:
    """The options of a deletion, from the body or the query."""
    options = _options(await _body(request))
    if seconds := request.query.get("gracePeriodSeconds", ""):
        options = {"gracePeriodSeconds": int(seconds)} | options
    return options


def _options(body: object) -> Object:
    return body if isinstance(body, dict) else {}


def _json(obj: Object, code: int = 200) -> web.Response:
    return web.Response(body=json.dumps(obj).encode(), status=code, content_type="application/json")
