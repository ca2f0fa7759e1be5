"""HTTP requests and websockets to one API server, over the same TLS settings, proxy and credentials."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection, port_by_scheme
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout, make_headers

from netproof import __version__
from netproof.kube.errors import ApiError, ApiUnavailable, answer, is_certificate, plain
from netproof.kube.retry import AWAY, Again
from netproof.kube.wire import Wire

if TYPE_CHECKING:
    from websocket import WebSocket

    from netproof.kube.login import Login

_AGENT = f"netproof/{__version__}"
_POOL = 8  # connections kept: threads of one process that call at once
_KEEP_ALIVE = [  # streams idle: this keeps them in the tables of what lies between, and finds a vanished far end within a minute
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", 0)), 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class _Unverified(HTTPSConnection):
    """The kubeconfig says insecure-skip-tls-verify: its author knows, and needs no warning at every request."""

    is_verified = property(lambda self: True, lambda self, value: None)


class _UnverifiedPool(HTTPSConnectionPool):
    ConnectionCls = _Unverified


class Transport:
    """The connections of one login."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._base = login.server
        self._options: dict[str, Any] = {"socket_options": [*HTTPConnection.default_socket_options, *_KEEP_ALIVE]}
        if login.tls:
            self._options |= {"ssl_context": login.tls, "server_hostname": login.tls_name}
        self._pool = self._manager()

    def request(self, method: str, target: str, *, body: bytes | None, kind: str, timeout: float) -> bytes:
        """The body of a 2xx answer. Raises `ApiError`, or `Again` where another attempt may do better."""
        headers = self._headers() | {"Accept": "application/json, */*"} | ({"Content-Type": kind} if body is not None else {})
        try:
            response = self._pool.request(
                method, f"{self._base}{target}", body=body, headers=headers, timeout=Timeout(total=timeout), retries=False, redirect=False
            )
        except (HTTPError, OSError) as exc:
            raise self._failed(exc) from exc
        if 200 <= response.status < 300:
            return response.data
        raise _judged(answer(response.status, response.data), response.headers, passing=(500, *AWAY))

    def upgrade(self, target: str, protocols: Sequence[str], *, timeout: float, limit: float) -> tuple[WebSocket, Wire]:
        """An open websocket and what it runs on; a write to it may take `limit` seconds.

        Raises `ApiError` with the server's real status, `Again`, or `Unanswered` where the request was sent.
        """
        from websocket import WebSocket, WebSocketBadStatusException, WebSocketException

        headers = [f"{name}: {value}" for name, value in self._headers().items()]
        try:
            wire = Wire(self._dial(timeout), limit=timeout)
        except (HTTPError, OSError) as exc:
            raise self._failed(exc) from exc
        channel = WebSocket(skip_utf8_validation=True)
        url = f"{self._base}{target}".replace("http", "ws", 1)
        try:
            channel.connect(  # type: ignore[no-untyped-call]
                url, socket=wire, header=headers, subprotocols=list(protocols), suppress_origin=True, redirect_limit=0
            )
        except WebSocketBadStatusException as exc:
            raise _judged(answer(exc.status_code, exc.resp_body or b""), exc.resp_headers or {}, passing=AWAY) from exc
        except (WebSocketException, OSError) as exc:
            raise Unanswered(exc) from exc
        finally:
            if not channel.connected:
                wire.close()
        wire.limit = limit
        return channel, wire

    def _headers(self) -> dict[str, str]:
        return {"User-Agent": _AGENT} | self.login.headers()

    def _manager(self) -> urllib3.PoolManager:
        proxy = self.login.proxy
        if proxy:
            pool: urllib3.PoolManager = urllib3.ProxyManager(proxy.url, proxy_headers=self._proxy_headers(), maxsize=_POOL, **self._options)
        else:
            pool = urllib3.PoolManager(maxsize=_POOL, **self._options)
        secure = HTTPSConnectionPool if self.login.configuration.verify_ssl else _UnverifiedPool
        pool.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": secure}
        return pool

    def _proxy_headers(self) -> dict[str, str]:
        proxy = self.login.proxy
        return dict(make_headers(proxy_basic_auth=proxy.auth)) if proxy and proxy.auth else {}

    def _dial(self, timeout: float) -> socket.socket:
        """A connection to the server, through the proxy if there is one, with TLS done."""
        secure = self._base.scheme == "https"
        through = self.login.proxy or self._base
        kind = HTTPSConnection if secure else HTTPConnection
        port = through.port or port_by_scheme[str(through.scheme)]
        connection = kind(str(through.host), port, timeout=timeout, **self._options)
        if self.login.proxy:
            port = self._base.port or port_by_scheme[str(self._base.scheme)]
            connection.set_tunnel(str(self._base.host), port, headers=self._proxy_headers(), scheme="http")
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        assert connection.sock is not None
        return connection.sock

    def _failed(self, error: Exception) -> Exception:
        if is_certificate(error):
            return ApiUnavailable(f"{self._base}: {plain(error)}")
        return Again(error)


class Unanswered(Exception):  # noqa: N818
    """A websocket was asked for, and what was asked for may have begun, but no answer came."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


def _judged(error: ApiError, headers: Mapping[str, str], *, passing: tuple[int, ...]) -> Exception:
    """The error itself, or `Again` where the status, or its cause, is one that passes."""
    dialing = error.status == 500 and "error dialing backend" in error.message  # the API server could not reach the kubelet
    if error.status not in passing and not dialing:
        return error
    after = headers.get("Retry-After") or headers.get("retry-after") or ""
    return Again(error, float(after) if after.isdigit() else 0.0)
