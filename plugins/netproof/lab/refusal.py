"""What the API answers when it says no: Status objects, and the causes that an invalid object's names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus

from netproof.lab.seams import Object

Cause = dict[str, str]
_FAILURE = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}


class Refused(Exception):  # noqa: N818
    """An answer other than 2xx; where no reason is given, HTTP's own words for the code are it."""

    def __init__(self, code: int, message: str, *, reason: str = "", causes: Iterable[Cause] = ()) -> None:
        super().__init__(message)
        self.code = code
        said = {"message": message, "reason": reason or HTTPStatus(code).phrase.replace(" ", ""), "code": code}
        self.status: Object = _FAILURE | said | {"details": {"causes": list(causes)}}


def required(at: str, why: str = "") -> Cause:
    return _cause("Required", at, f"Required value: {why}" if why else "Required value")


def invalid(at: str, value: object, why: str) -> Cause:
    return _cause("Invalid", at, f"Invalid value: {json.dumps(value)}: {why}")


def unsupported(at: str, value: object, choices: Iterable[str]) -> Cause:
    return _cause("NotSupported", at, f"Unsupported value: {json.dumps(value)}: supported values: {json.dumps(choices)[1:-1]}")


def forbidden(at: str, why: str) -> Cause:
    return _cause("Forbidden", at, f"Forbidden: {why}")


def duplicate(at: str, value: object) -> Cause:
    return _cause("Duplicate", at, f"Duplicate value: {json.dumps(value)}")


def _cause(sort: str, at: str, message: str) -> Cause:
    return {"reason": f"FieldValue{sort}", "field": at, "message": message}
