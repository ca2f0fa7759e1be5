"""What the API answers when it says no: Status objects, and the collector of what is wrong with an object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from netproof.lab.kinds import Kind
from netproof.lab.seams import Object

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    500: "InternalError",
}


class Refused(Exception):  # noqa: N818
    """An answer other than 2xx."""

    def __init__(self, code: int, message: str, *, reason: str = "", details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or _REASONS[code],
            "code": code,
        }
        if details:
            self.status["details"] = dict(details)


def not_found(kind: Kind, name: str) -> Refused:
    return Refused(404, f'{kind.qualified} "{name}" not found', details=_about(kind, name))


def exists(kind: Kind, name: str) -> Refused:
    return Refused(409, f'{kind.qualified} "{name}" already exists', reason="AlreadyExists", details=_about(kind, name))


def conflict(kind: Kind, name: str, why: str) -> Refused:
    return Refused(409, f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}', details=_about(kind, name))


def terminating(kind: Kind, name: str, namespace: str) -> Refused:
    """A namespace that is being deleted takes nothing new."""
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    return Refused(403, f'{kind.qualified} "{name}" is forbidden: {why}', details=_about(kind, name) | {"causes": [cause]})


def _about(kind: Kind, name: str) -> Object:
    return {"name": name, "kind": kind.plural} | ({"group": kind.group} if kind.group else {})


@dataclass(slots=True)
class Problems:
    """What is wrong with an object, in the API server's words."""

    causes: list[dict[str, str]] = field(default_factory=list)

    def required(self, at: str, detail: str = "") -> None:
        self._add("FieldValueRequired", at, "Required value", detail)

    def invalid(self, at: str, value: object, detail: str) -> None:
        self._add("FieldValueInvalid", at, f"Invalid value: {_shown(value)}", detail)

    def unsupported(self, at: str, value: object, choices: tuple[str, ...]) -> None:
        listed = ", ".join(f'"{choice}"' for choice in choices)
        self._add("FieldValueNotSupported", at, f"Unsupported value: {_shown(value)}", f"supported values: {listed}")

    def forbidden(self, at: str, detail: str) -> None:
        self._add("FieldValueForbidden", at, "Forbidden", detail)

    def duplicate(self, at: str, value: object) -> None:
        self._add("FieldValueDuplicate", at, f"Duplicate value: {_shown(value)}")

    def raise_for(self, kind: Kind, name: str) -> None:
        """Raise the refusal that names them all, if there are any."""
        if not self.causes:
            return
        said = [f"{cause['field']}: {cause['message']}" for cause in self.causes]
        full = f"{kind.name}.{kind.group}" if kind.group else kind.name
        text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
        details = _about(kind, name) | {"kind": kind.name, "causes": self.causes}
        raise Refused(422, f'{full} "{name}" is invalid: {text}', details=details)

    def _add(self, reason: str, at: str, message: str, detail: str = "") -> None:
        self.causes.append({"reason": reason, "message": f"{message}: {detail}" if detail else message, "field": at})


def _shown(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
