"""Deviations: known failures of an implementation as data, reasoned, linked and dated, and reported when they stop being true."""

from __future__ import annotations

import datetime
import fnmatch
import operator
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from netproof.model.verdict import Verdict

_TEXTS = ("implementation", "versions", "reason", "link")
_REQUIRED = {"ids", "implementation", "reason", "link", "since"}
_KEYS = _REQUIRED | {"versions", "until", "not-drawn"}
_PASSED = (Verdict.PASS, Verdict.OBSERVED, Verdict.SLOW)

_COMPARE = {">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt}
_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)\s*")
_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)")


class DeviationError(ValueError):
    """A deviation that cannot be read; the text is a sentence that names file, entry and key."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """`ids` are globs over case ids (`*` matches `/` too); `versions` is like `>=1.16,<1.21`, empty for all; `until` is its last day.

    `not_drawn`: ingredients that generated sets of policies go without, as they would fail for the same reason.
    """

    ids: tuple[str, ...]
    implementation: str
    versions: str
    reason: str
    link: str
    since: datetime.date
    until: datetime.date | None = None
    not_drawn: tuple[str, ...] = ()

    def matches(self, case: str) -> bool:
        """Whether it speaks of that case."""
        return any(fnmatch.fnmatchcase(case, glob) for glob in self.ids)


def parse(table: Mapping[str, Any], file: str) -> tuple[Deviation, ...]:
    """The entries `[[deviation]]` of a parsed TOML file, `file` being its name for people. Raises DeviationError."""
    entries = table.get("deviation", [])
    if set(table) - {"deviation"} or not isinstance(entries, list):
        raise DeviationError(f"{file}: only entries [[deviation]] are expected, not {', '.join(sorted(table))}")
    return tuple(_deviation(entry, f"{file}: deviation {number}") for number, entry in enumerate(entries, 1))


def _deviation(entry: Any, where: str) -> Deviation:
    if not isinstance(entry, Mapping):
        raise DeviationError(f"{where} is not a table")
    if unknown := sorted(set(entry) - _KEYS):
        raise DeviationError(f"{where}: unknown key {unknown[0]}, known are {', '.join(sorted(_KEYS))}")
    if missing := sorted(_REQUIRED - set(entry)):
        raise DeviationError(f"{where}: key {missing[0]} is missing")
    implementation, versions, reason, link = (_text(entry, key, where) for key in _TEXTS)
    if not link.startswith("https://"):
        raise DeviationError(f"{where}: link must start with https://, not {link!r}")
    _clauses(versions, where)
    ids = _texts(entry["ids"], f"{where}: ids must be a list of case ids or globs")
    wanted = f"{where}: not-drawn must be a list of ingredients of generated sets"
    not_drawn = _texts(entry["not-drawn"], wanted) if "not-drawn" in entry else ()
    return Deviation(ids, implementation, versions, reason, link, *_dates(entry, where), not_drawn)


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str) or (key in _REQUIRED and not value.strip()):
        raise DeviationError(f"{where}: {key} must be a text, not {value!r}")
    return value


def _texts(value: Any, wanted: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text for text in value):
        raise DeviationError(f"{wanted}, not {value!r}")
    return tuple(value)


def _dates(entry: Mapping[str, Any], where: str) -> tuple[datetime.date, datetime.date | None]:
    for key in ("since", "until"):
        if key in entry and type(entry[key]) is not datetime.date:
            raise DeviationError(f"{where}: {key} must be a date like 2026-01-31, not {entry[key]!r}")
    if "until" in entry and entry["until"] < entry["since"]:
        raise DeviationError(f"{where}: until is before since")
    return entry["since"], entry.get("until")


def _clauses(spec: str, where: str = "versions") -> list[tuple[str, tuple[int, ...]]]:
    matches = [(clause, _CLAUSE.fullmatch(clause)) for clause in spec.split(",")] if spec.strip() else []
    for clause, match in matches:
        if not match:
            raise DeviationError(f"{where}: versions must be like >=1.16,<1.21, not {clause.strip()!r}")
    return [(match[1], _numbers(match[2])) for _, match in matches if match]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def version_matches(spec: str, version: str) -> bool:
    """Whether a version is within a spec. What follows the numbers (`-rc.1`, `+k3s1`) is ignored; no numbers match only the empty spec."""
    clauses = _clauses(spec)
    match = _VERSION.match(version)
    return not clauses or (match is not None and all(_compare(_numbers(match[1]), sign, bound) for sign, bound in clauses))


def _compare(numbers: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    pairs = list(zip_longest(numbers, bound, fillvalue=0))  # 1.16 is 1.16.0
    return bool(_COMPARE[sign]([a for a, _ in pairs], [b for _, b in pairs]))


def in_force(deviations: Iterable[Deviation], implementation: str, version: str, today: datetime.date) -> tuple[Deviation, ...]:
    """Those of this implementation and version whose last day is not over."""
    return tuple(
        deviation
        for deviation in deviations
        if deviation.implementation == implementation
        and version_matches(deviation.versions, version)
        and (deviation.until is None or today <= deviation.until)
    )


def find(deviations: Iterable[Deviation], case: str) -> Deviation | None:
    """The first that speaks of a case: its link and reason go into the report."""
    return next((deviation for deviation in deviations if deviation.matches(case)), None)


def apply(deviations: Iterable[Deviation], case: str, verdict: Verdict) -> Verdict:
    """DEVIATES for a fail that a deviation foresees; every other verdict stays, inconclusive and flaky ones too: they show no failure."""
    return Verdict.DEVIATES if verdict is Verdict.FAIL and find(deviations, case) else verdict


def stale(deviations: Iterable[Deviation], verdicts: Mapping[str, Verdict], not_run: Collection[str] = ()) -> tuple[Deviation, ...]:
    """Those that are no longer true: cases they speak of ran, and every one of them passed.

    `verdicts` are by case id. Unsupported cases count as not run; a case in `not_run` (deselected) might still fail: its deviation stays.
    """
    return tuple(deviation for deviation in deviations if _is_stale(deviation, verdicts, not_run))


def _is_stale(deviation: Deviation, verdicts: Mapping[str, Verdict], not_run: Collection[str]) -> bool:
    ran = [verdict for case, verdict in verdicts.items() if deviation.matches(case) and verdict is not Verdict.UNSUPPORTED]
    return bool(ran) and all(verdict in _PASSED for verdict in ran) and not any(deviation.matches(case) for case in not_run)
