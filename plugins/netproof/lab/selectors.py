"""Label and field selectors as a query carries them: `app=web,tier in (a,b),!old`."""

from __future__ import annotations

import re
from collections.abc import Callable

from netproof.lab.kinds import Kind
from netproof.lab.refusal import Refused
from netproof.lab.seams import Object

Test = Callable[[Object], bool]

_LABEL = re.compile(
    r"(?P<key>[\w./-]+)\s*(?:(?P<word>in|notin)\s*\((?P<set>[^()]*)\)|(?P<sign>==|=|!=)\s*(?P<value>[\w.-]*))?|!\s*(?P<absent>[\w./-]+)"
)
_COMMAS = re.compile(r",(?![^(]*\))")
_FIELD = re.compile(r"(?P<path>[\w.]+)(?P<sign>==|=|!=)(?P<value>.*)")


def selector(kind: Kind, *, labels: str, fields: str) -> Test:
    """Whether an object is selected by both. Raises Refused (400) where they are malformed."""
    tests = [_label(part.strip()) for part in _COMMAS.split(labels) if part.strip()]
    tests += [_field(kind, part) for part in fields.split(",") if part]
    return lambda obj: all(test(obj) for test in tests)


def _label(text: str) -> Test:
    found = _LABEL.fullmatch(text)
    if not found:
        raise Refused(400, f"unable to parse requirement: {text!r}")
    wanted = _wanted(found)
    key = found["key"] or found["absent"]
    return lambda obj: wanted((obj["metadata"].get("labels") or {}).get(key))


def _wanted(found: re.Match[str]) -> Callable[[str | None], bool]:
    """As everywhere in Kubernetes, != and notin hold for objects that do not have the label at all."""
    if found["absent"]:
        return lambda value: value is None
    if found["word"]:
        values = {part.strip() for part in found["set"].split(",")}
        return (lambda value: value in values) if found["word"] == "in" else (lambda value: value not in values)
    if found["sign"]:
        return (lambda value: value != found["value"]) if found["sign"] == "!=" else (lambda value: value == found["value"])
    return lambda value: value is not None


def _field(kind: Kind, text: str) -> Test:
    found = _FIELD.fullmatch(text)
    if not found:
        raise Refused(400, f"invalid selector: {text!r}; can't understand {text!r}")
    path, equal = found["path"].split("."), found["sign"] != "!="
    if found["path"] not in ("metadata.name", "metadata.namespace", *kind.fields):
        raise Refused(400, f"field label not supported: {found['path']}")
    return lambda obj: (_at(obj, path) == found["value"]) is equal


def _at(obj: Object, path: list[str]) -> str:
    value: object = obj
    for word in path:
        value = value.get(word) if isinstance(value, dict) else None
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
