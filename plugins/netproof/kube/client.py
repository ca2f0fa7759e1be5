"""The API server of one cluster: plain dicts, every call with retries and a deadline."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from netproof.kube.errors import ApiError, ApiUnavailable, Conflict, Forbidden, Invalid, NotFound, is_silence
from netproof.kube.objects import Resource, UnknownKind, known, place, root
from netproof.kube.retry import Again, persist
from netproof.kube.transport import Transport, Unanswered
from netproof.problem import Problem

if TYPE_CHECKING:
    from websocket import WebSocket

    from netproof.kube.login import Login
    from netproof.kube.wire import Wire

__all__ = ["Api", "ApiError", "ApiUnavailable", "Conflict", "Forbidden", "Invalid", "NotFound", "connect"]

T = TypeVar("T")
Json = dict[str, Any]
Objects = list[Json]

_RUN = "netproof.dev/run"
_PAGE = "500"  # objects that a list brings at once
_HELLO = 5.0  # seconds in which an address that nobody answers at is given up
_RENEW = 30.0  # seconds between two readings of the credentials
_PULSE = 2.0  # seconds for an answer of a server that is alive
_PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}


def connect(kubeconfig: Path | None, context: str | None, *, patience: float = 60.0) -> Api:
    """The API of a context, once its server has answered. Raises `Problem`, one sentence, where it can't be had.

    Every call is repeated for `patience` seconds while the server is away, so that a restart of it in mid-run breaks nothing.
    """
    api = Api(kubeconfig, context, patience=patience)
    where = f"the API server of context {api.context!r}, {api.server},"
    try:
        api.greet()
    except ApiUnavailable as exc:
        raise Problem(f"{where} does not answer: {_cause(exc)}; is the cluster running, and can this machine reach it?") from exc
    except Forbidden as exc:
        if exc.status == 401:  # with 403 the server knows who asks, and has only this one question denied
            raise Problem(f"{where} does not accept the credentials of this context (HTTP 401): renew them") from exc
    except ApiError as exc:
        raise Problem(f"{where} does not answer like a Kubernetes API server: {exc}") from exc
    return api


def _cause(error: ApiUnavailable) -> str:
    return str(error).partition(": ")[2]


class Api:
    """The API server of a context. Threads may share it."""

    def __init__(self, kubeconfig: Path | None, context: str | None, *, patience: float) -> None:
        from netproof.kube.login import login

        self._login: Callable[[str | None], Login] = lambda chosen: login(kubeconfig, chosen)
        self._transport = Transport(self._login(context))
        self._lock = threading.Lock()
        self._renewed = time.monotonic()
        self._kinds: dict[tuple[str, str], Resource] = {}
        self._ended = False
        self.patience = patience
        self.context = self._transport.login.context
        self.server = str(self._transport.login.server)

    def get(self, path: str, **query: str) -> Json:
        """An object, or whatever else the path stands for."""
        return self._ask("GET", _target(path, query))

    def text(self, path: str, **query: str) -> str:
        """What is no JSON: logs."""
        return self._call("GET", _target(path, query)).decode(errors="replace")

    def list(self, path: str, *, labels: str = "", fields: str = "") -> Objects:
        """All objects of a collection, each with its apiVersion and kind."""
        query = {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        try:
            return self._pages(path, query | {"limit": _PAGE})
        except ApiError as exc:
            if exc.status != 410:
                raise
            return self._pages(path, query)  # it changed so much meanwhile that the server can't continue: all at once

    def create(self, obj: Mapping[str, Any], *, dry_run: bool = False) -> Json:
        """Makes an object. Raises `Conflict` where its name is taken, unless by our own attempt before, whose answer was lost."""
        resource, (name, namespace) = self.resource(obj), place(obj)
        target = _target(resource.path(namespace=namespace), {"dryRun": "All"} if dry_run else {})
        tries = 0

        def attempt(transport: Transport, timeout: float) -> Json:
            nonlocal tries
            tries += 1
            try:
                return _json(transport.request("POST", target, body=_bytes(obj), kind="application/json", timeout=timeout))
            except Conflict as exc:
                if exc.reason != "AlreadyExists":
                    raise Again(exc) from exc  # a quota was being counted
                if tries == 1:
                    raise
                return _ours(transport, resource.path(name, namespace), obj, exc, timeout)
            except Forbidden as exc:
                if _premature(exc):
                    raise Again(exc) from exc
                raise

        return self._persist(attempt, f"POST {target}")

    def apply(self, obj: Mapping[str, Any]) -> Json:
        """Makes an object or brings it to this state: server-side apply, as `kubectl apply --server-side --force-conflicts` does."""
        target = _target(self.path_of(obj), {"fieldManager": "netproof", "force": "true"})
        return self._ask("PATCH", target, obj, "application/apply-patch+yaml")

    def patch(self, path: str, body: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, kind: str = "merge") -> Json:
        """Changes an object. The kinds: merge, strategic, json (a list of operations)."""
        return self._ask("PATCH", path, body, _PATCHES[kind])

    def delete(self, path: str, *, uid: str = "", grace: int | None = None, propagation: str = "") -> bool:
        """Deletes an object; with a uid only the one that has it. False where it was gone, or where another one has its name now."""
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions"}
        options |= {"preconditions": {"uid": uid}} if uid else {}
        options |= {"gracePeriodSeconds": grace} if grace is not None else {}
        options |= {"propagationPolicy": propagation} if propagation else {}
        tries = 0

        def attempt(transport: Transport, timeout: float) -> bool:
            nonlocal tries
            tries += 1
            try:
                transport.request("DELETE", path, body=_bytes(options), kind="application/json", timeout=timeout)
            except NotFound:
                return tries > 1  # then an attempt before this one did it
            except Conflict as exc:
                return _deleted_anyhow(exc)
            return True

        return self._persist(attempt, f"DELETE {path}", ending=True)

    def alive(self) -> bool:
        """Whether the server answers within two seconds, right now. Never raises."""
        try:
            self._call("GET", "/version", patience=_PULSE)
        except ApiError as exc:
            return exc.status < 500
        except Exception:
            return False
        return True

    def end(self) -> None:
        """From now on every call but a deletion raises ApiUnavailable, and sends nothing: what is held (a Lease) is still given back."""
        self._ended = True

    def version(self) -> Json:
        """What `kubectl version` says of the server: `gitVersion` and so on."""
        return self.get("/version")

    def greet(self) -> None:
        """The first contact: what refuses is given up soon, what hangs (a paused server, a slow link) after the whole patience."""
        try:
            self._ask("GET", "/version", patience=min(_HELLO, self.patience))
        except ApiUnavailable as exc:
            if not is_silence(exc.__cause__) or self.patience <= _HELLO:
                raise
            self._ask("GET", "/version", patience=self.patience - _HELLO)

    def resource(self, obj: Mapping[str, Any]) -> Resource:
        """How the object's kind is served; what is not known here is asked once."""
        found = known(obj) or self._kinds.get((obj["apiVersion"], obj["kind"]))
        return found or self._discover(obj["apiVersion"], obj["kind"])

    def path_of(self, obj: Mapping[str, Any]) -> str:
        """The object's path."""
        return self.resource(obj).path(*place(obj))

    def upgrade(self, target: str, protocols: Sequence[str], *, repeat: bool) -> tuple[WebSocket, Wire]:
        """A websocket; with `repeat` asked for again even where the first request may have had its effect."""

        def attempt(transport: Transport, timeout: float) -> tuple[WebSocket, Wire]:
            try:
                return transport.upgrade(target, protocols, timeout=timeout, limit=self.patience)
            except Unanswered as exc:
                if repeat:
                    raise Again(exc.cause) from exc
                raise ApiUnavailable(f"GET {target}: the connection was made, but no answer came: {exc.cause}") from exc

        return self._persist(attempt, f"GET {target}")

    def _pages(self, path: str, query: Mapping[str, str]) -> Objects:
        items: Objects = []
        more = ""
        while True:
            page = self.get(path, **query, **({"continue": more} if more else {}))
            kind = {"apiVersion": page.get("apiVersion"), "kind": str(page.get("kind")).removesuffix("List")}
            items += [kind | item for item in page.get("items") or []]
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return items

    def _discover(self, api_version: str, kind: str) -> Resource:
        try:
            served = self.get(root(api_version)).get("resources") or []
        except NotFound:
            served = []
        for entry in served:
            if "/" not in entry["name"]:
                self._kinds[api_version, entry["kind"]] = Resource(api_version, entry["name"], entry["namespaced"])
        if (api_version, kind) not in self._kinds:
            raise UnknownKind(f"this cluster does not serve the kind {kind!r} of {api_version!r}")
        return self._kinds[api_version, kind]

    def _ask(self, method: str, target: str, body: object = None, kind: str = "", *, patience: float | None = None) -> Json:
        return _json(self._call(method, target, body, kind, patience=patience))

    def _call(self, method: str, target: str, body: object = None, kind: str = "", *, patience: float | None = None) -> bytes:
        data = None if body is None else _bytes(body)

        def attempt(transport: Transport, timeout: float) -> bytes:
            return transport.request(method, target, body=data, kind=kind, timeout=timeout)

        return self._persist(attempt, f"{method} {target}", patience)

    def _persist(self, attempt: Callable[[Transport, float], T], what: str, patience: float | None = None, *, ending: bool = False) -> T:
        settled = False

        def once(timeout: float) -> T:
            nonlocal settled
            if self._ended and not ending:
                raise ApiUnavailable(f"{what}: the run is over")
            transport = self._transport
            try:
                return attempt(transport, timeout)
            except Forbidden as exc:
                if exc.status == 401 and self._renew(transport):
                    raise Again(exc) from exc
                if _by_role(exc) and not settled:
                    settled = _ready(transport, timeout)
                    raise Again(exc) from exc
                raise

        return persist(once, what=what, patience=self.patience if patience is None else patience)

    def _renew(self, used: Transport) -> bool:
        """Reads the kubeconfig again, for a token or certificate that was replaced: whether there may be new credentials since `used`."""
        with self._lock:
            if self._transport is not used:
                return True
            if time.monotonic() - self._renewed < _RENEW:
                return False
            self._renewed = time.monotonic()
            try:
                login = self._login(self.context)
            except Problem:
                return False
            if str(login.server) != self.server:
                return False  # another cluster by now: not ours
            self._transport = Transport(login)
            return True


def _target(path: str, query: Mapping[str, str]) -> str:
    return f"{path}{'&' if '?' in path else '?'}{urlencode(query)}" if query else path


def _bytes(body: object) -> bytes:
    return json.dumps(body).encode()


def _json(data: bytes) -> Json:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ApiError(200, "NoJson", f"expected a JSON object, got {data[:100].decode(errors='replace')!r}")
    return value


def _by_role(error: ApiError) -> bool:
    """Whether the roles deny it, rather than a quota or a webhook."""
    return 'User "' in error.message and " cannot " in error.message


def _ready(transport: Transport, timeout: float) -> bool:
    """Whether the server has started up: one that has not yet read the roles denies everything (seen on kind after a restart)."""
    try:
        transport.request("GET", "/readyz", body=None, kind="", timeout=timeout)
    except Again:
        return False
    except ApiError:
        pass  # it does not tell: then its denial is final as well
    return True


def _premature(error: ApiError) -> bool:
    """Whether a namespace is so new that its service account is not there yet."""
    return "serviceaccount" in error.message and "not found" in error.message


def _ours(transport: Transport, path: str, obj: Mapping[str, Any], conflict: Conflict, timeout: float) -> Json:
    """The object that an earlier attempt made although its answer was lost; else the conflict."""
    try:
        there = _json(transport.request("GET", path, body=None, kind="", timeout=timeout))
    except NotFound as exc:
        raise Again(conflict) from exc
    run = _labels(obj).get(_RUN)
    if not run or _labels(there).get(_RUN) != run or there["metadata"].get("deletionTimestamp"):
        raise conflict
    return there


def _labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def _deleted_anyhow(error: Conflict) -> bool:
    """What a conflict at a deletion means: another object has the name by now, or the deletion is under way already."""
    if "precondition" in error.message and "UID" in error.message:  # two wordings, for pods and for the rest
        return False
    if "ensuring all content is removed" in error.message:
        return True
    raise error
