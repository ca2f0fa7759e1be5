"""What can go wrong with an API server.

ApiError          an answer other than 2xx: the server is there and says no
    NotFound      404
    Conflict      409
    Forbidden     401, 403
    Invalid       400, 422
ApiUnavailable    no usable answer within the patience
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Iterator
from http.client import RemoteDisconnected
from typing import Any

from urllib3 import exceptions as http


class ApiError(Exception):
    """An answer of the API server other than 2xx."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} (HTTP {self.status} {self.reason})"


class NotFound(ApiError):  # noqa: N818
    """There is no such object, or no such kind of object."""


class Conflict(ApiError):  # noqa: N818
    """The object is there already, or has changed in the meantime."""


class Forbidden(ApiError):  # noqa: N818
    """The credentials are not accepted (401) or not sufficient (403)."""


class Invalid(ApiError):  # noqa: N818
    """The request makes no sense to the server."""


class ApiUnavailable(Exception):  # noqa: N818
    """No answer within the patience; the text says what was tried last, and for how long."""


_KINDS: dict[int, type[ApiError]] = {400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 422: Invalid}


def answer(status: int, body: bytes) -> ApiError:
    """The error that an HTTP answer stands for; the API server's own words where it sent some."""
    said = _status_object(body)
    text = said.get("message") or " ".join(body[:300].decode(errors="replace").split()) or "no explanation"
    return _KINDS.get(status, ApiError)(status, str(said.get("reason") or ""), str(text))


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def plain(error: BaseException) -> str:
    """A failed connection in a few words for people, instead of a client library's nested exceptions."""
    for cause in _causes(error):
        if words := _words(cause):
            return words
    return " ".join(str(error).split()) or type(error).__name__


def is_certificate(error: BaseException) -> bool:
    """Whether the server's certificate was not accepted: trying again is of no use."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def is_silence(error: BaseException | None) -> bool:
    """Whether the time ran out, rather than something being refused."""
    return isinstance(error, http.TimeoutError) and not isinstance(error, http.NewConnectionError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    queue, seen = [error], set[int]()
    while queue:
        cause = queue.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            inner = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
            queue += [item for item in inner if isinstance(item, BaseException)]


def _words(cause: BaseException) -> str:
    match cause:
        case ApiError():
            return str(cause)
        case http.NewConnectionError():
            return ""  # a kind of ConnectTimeoutError, although it has other causes
        case http.ConnectTimeoutError():
            return "no connection within the time-out"
        case http.ReadTimeoutError() | TimeoutError():
            return "no answer within the time-out"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {cause.verify_message}"
        case socket.gaierror():
            return f"its name cannot be resolved: {cause.strerror}"
        case RemoteDisconnected() | http.IncompleteRead():
            return "it closed the connection instead of answering"
        case ssl.SSLError() if cause.reason:
            return f"TLS failed: {cause.reason.replace('_', ' ').lower()}"
        case OSError() if cause.errno:
            return os.strerror(cause.errno).lower()
    return ""
