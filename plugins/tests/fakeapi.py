"""A Kubernetes API server of a few lines for tests: it stores objects, misbehaves on request, and speaks the channel protocol.

api.script("GET /version", Status(503), Hang(0.5), Drop())     # the next three answers; then it behaves again
api.stream = lambda ws: ws.send(b"\\0hello")                    # what a port-forward or exec does
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

Json = dict[str, Any]


@dataclass(frozen=True)
class Status:
    """An answer; without a message it is the HTTP status alone."""

    code: int
    message: str = ""
    reason: str = ""
    retry_after: str = ""
    body: str = ""


@dataclass(frozen=True)
class Hang:
    """No answer for so long, then the usual one."""

    seconds: float


@dataclass(frozen=True)
class Drop:
    """The connection ends instead of an answer; with `done` after the request had its effect."""

    done: bool = False


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class WebSocket:
    """The server's side of a websocket, down to the bytes."""

    def __init__(self, connection: socket.socket, asked: Request) -> None:
        self.asked = asked
        self._connection = connection
        self._read = connection.makefile("rb")

    def send(self, data: bytes, opcode: int = 2) -> None:
        self._connection.sendall(frame(data, opcode))

    def raw(self, data: bytes) -> None:
        self._connection.sendall(data)

    def dribble(self, data: bytes, pause: float) -> None:
        """A frame byte by byte."""
        for byte in frame(data):
            self._connection.sendall(bytes([byte]))
            time.sleep(pause)

    def receive(self) -> bytes:
        """The payload of the next frame; b"" at the end."""
        head = self._read.read(2)
        if len(head) < 2:
            return b""
        size = head[1] & 127
        size = (
            struct.unpack("!H", self._read.read(2))[0]
            if size == 126
            else struct.unpack("!Q", self._read.read(8))[0]
            if size == 127
            else size
        )
        mask = self._read.read(4)
        return bytes(byte ^ mask[place % 4] for place, byte in enumerate(self._read.read(size)))

    def reset(self) -> None:
        """The abrupt end."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._read.close()
        self._connection.close()


def frame(data: bytes, opcode: int = 2) -> bytes:
    size = (
        bytes([len(data)])
        if len(data) < 126
        else b"\x7e" + struct.pack("!H", len(data))
        if len(data) < 65536
        else b"\x7f" + struct.pack("!Q", len(data))
    )
    return bytes([0x80 | opcode]) + size + data


@dataclass
class FakeApi:
    """Start it with `serve()`."""

    url: str = ""
    objects: dict[str, Json] = field(default_factory=dict)  # by path
    asked: list[Request] = field(default_factory=list)
    scripts: dict[str, list[Status | Hang | Drop]] = field(default_factory=dict)
    stream: Callable[[WebSocket], None] = lambda ws: None
    token: str = ""  # asked for if set
    clients: list[str] = field(default_factory=list)  # names in the client certificates seen
    page: int = 0  # objects that a list holds at most, whatever the client says

    def script(self, call: str, *answers: Status | Hang | Drop) -> None:
        """The next answers to a call (`POST /api/v1/pods`)."""
        self.scripts.setdefault(call, []).extend(answers)

    def calls(self, method: str) -> list[Request]:
        return [request for request in self.asked if request.method == method]

    @contextlib.contextmanager
    def serve(self, tls: ssl.SSLContext | None = None) -> Iterator[FakeApi]:
        server = _Server(("127.0.0.1", 0), _Handler)
        server.api, server.tls = self, tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, request: Request) -> tuple[int, Json]:
        """What an API server that is well would say."""
        if request.path == "/version":
            return 200, {"major": "1", "minor": "37", "gitVersion": "v1.37.2"}
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, status(401, "Unauthorized", "Unauthorized")
        return getattr(self, f"_{request.method.lower()}")(request)  # type: ignore[no-any-return]

    def _get(self, request: Request) -> tuple[int, Json]:
        if request.path in self.objects:
            return 200, self.objects[request.path]
        items = [item for path, item in sorted(self.objects.items()) if path.rpartition("/")[0] == request.path]
        if not items:
            return 404, status(404, "NotFound", f"{request.path} not found")
        start, size = int(request.query.get("continue", 0)), self.page or len(items)
        more = {"continue": str(start + size)} if start + size < len(items) else {}
        return 200, {"kind": f"{items[0]['kind']}List", "apiVersion": "v1", "metadata": more, "items": items[start : start + size]}

    def _post(self, request: Request) -> tuple[int, Json]:
        name = (request.body.get("metadata") or {}).get("name") or uuid.uuid4().hex
        path = f"{request.path}/{name}"
        if path in self.objects:
            return 409, status(409, "AlreadyExists", f"{name} already exists")
        made = {**request.body, "metadata": {**(request.body.get("metadata") or {}), "uid": uuid.uuid4().hex}}
        if "dryRun" not in request.query:
            self.objects[path] = made
        return 201, made

    def _patch(self, request: Request) -> tuple[int, Json]:
        self.objects[request.path] = {**self.objects.get(request.path, {}), "patched": request.body}
        return 200, self.objects[request.path]

    def _delete(self, request: Request) -> tuple[int, Json]:
        there = self.objects.get(request.path)
        if there is None:
            return 404, status(404, "NotFound", "not found")
        wanted = (request.body.get("preconditions") or {}).get("uid")
        if wanted and wanted != there["metadata"]["uid"]:
            uids = f"UID in precondition: {wanted}, UID in object meta: {there['metadata']['uid']}"
            return 409, status(409, "Conflict", f"Precondition failed: {uids}")
        del self.objects[request.path]
        return 200, status(200, "", "")


def status(code: int, reason: str, message: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: FakeApi
    tls: ssl.SSLContext | None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True)
            certificate = request.getpeercert() or {}
            self.api.clients += [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        with contextlib.closing(request):
            super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: broken connections are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def handle_any(self) -> None:
        request = self._request()
        api = self.server.api
        api.asked.append(request)
        script = api.scripts.get(f"{request.method} {request.path}")
        turn = script.pop(0) if script else None
        if isinstance(turn, Drop):
            if turn.done:
                api.answer(request)
            self.close_connection = True
        elif isinstance(turn, Status):
            self._status(turn)
        else:
            if isinstance(turn, Hang):
                time.sleep(turn.seconds)
            self._usual(request)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return Request(
            self.command, parts.path, dict(parse_qsl(parts.query)), dict(self.headers.items()), json.loads(text) if text else None
        )

    def _usual(self, request: Request) -> None:
        if self.headers.get("Upgrade") == "websocket":
            self._upgrade(request)
        elif request.path.endswith("/log"):
            self._send(200, b"a line\n")
        else:
            code, body = self.server.api.answer(request)
            self._send(code, json.dumps(body).encode())

    def _status(self, turn: Status) -> None:
        body = turn.body or (json.dumps(status(turn.code, turn.reason, turn.message)) if turn.message else "")
        self._send(turn.code, body.encode(), {"Retry-After": turn.retry_after} if turn.retry_after else {})

    def _send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _upgrade(self, request: Request) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", self.headers["Sec-WebSocket-Protocol"].split(",")[0])
        self.end_headers()
        self.close_connection = True
        self.server.api.stream(WebSocket(self.connection, request))


def kubeconfig(
    file: Path, server: str, *, current: str = "fake", cluster: Json | None = None, user: Json | None = None, sections: Json | None = None
) -> Path:
    """A kubeconfig with one context, `fake`; `sections` replaces whole ones."""
    document = {
        "current-context": current,
        "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "c", "user": "u"}}],
    } | (sections or {})
    file.write_text(yaml.safe_dump(document))
    return file


class _Tunnel(StreamRequestHandler):
    """An HTTP proxy that knows CONNECT."""

    server: Proxy

    def handle(self) -> None:
        line = self.rfile.readline().decode()
        headers = list(iter(lambda: self.rfile.readline().strip(), b""))
        self.server.seen.append((line.split()[1], sorted(header.decode() for header in headers)))
        host, _, port = line.split()[1].rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(far, self.connection), daemon=True)
            back.start()
            _copy(self.connection, far)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Proxy(ThreadingTCPServer):
    """`with Proxy().serve() as proxy`: tunnels, and remembers to where."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.seen: list[tuple[str, list[str]]] = []
        self.port = self.server_address[1]

    @contextlib.contextmanager
    def serve(self) -> Iterator[Proxy]:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()


@dataclass(frozen=True)
class Certificates:
    """An authority and what it signed: for the server (127.0.0.1 and kube.test) and for a client (netproof-test)."""

    folder: Path

    def server(self) -> ssl.SSLContext:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        tls.load_verify_locations(self.folder / "ca.pem")
        tls.verify_mode = ssl.CERT_OPTIONAL
        return tls

    def data(self, name: str) -> str:
        """A file as kubeconfigs carry it."""
        return base64.b64encode((self.folder / name).read_bytes()).decode()

    @staticmethod
    def make(folder: Path) -> Certificates:
        _openssl(folder, "ca", "netproof-ca", "basicConstraints=critical,CA:TRUE")
        for name, subject, extension in (
            ("server", "kube", "subjectAltName=IP:127.0.0.1,DNS:kube.test"),
            ("client", "netproof-test", "extendedKeyUsage=clientAuth"),
        ):
            _openssl(folder, name, subject, extension, "-CA", "ca.pem", "-CAkey", "ca.key")
        return Certificates(folder)


def _openssl(folder: Path, name: str, subject: str, extension: str, *more: str) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
    command = ["openssl", "req", "-x509", "-days", "2", "-subj", f"/CN={subject}", "-addext", extension, *key, *more]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
