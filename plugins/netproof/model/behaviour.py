"""A behaviour: one assertion of the Kubernetes network, with the sentence and the source that promise it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Level(enum.StrEnum):
    """How binding a behaviour is. MUST and SHOULD fail; MAY is observed; VENDOR is off unless asked; MEASURE is a figure or a gate."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"
    VENDOR = "VENDOR"
    MEASURE = "MEASURE"


class BehaviourError(ValueError):
    """A catalogue entry that cannot be used; the text names the id and the key."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`id` is stable for years. `feature` must be claimed by the implementation, or the case is unsupported; empty: core.

    `on_request`: there are cases of it only where somebody asks for them, and else it is not counted as left out.
    """

    id: str
    sentence: str
    url: str
    level: Level
    feature: str = ""
    removed: str = ""  # a tombstone: when and why the id was withdrawn
    on_request: bool = False


def catalogue(table: Mapping[str, Any]) -> dict[str, Behaviour]:
    """The behaviours of a parsed `behaviours.toml` by id. Raises BehaviourError."""
    return {id_: _behaviour(id_, entry) for id_, entry in table.items()}


def _behaviour(id_: str, entry: Mapping[str, Any]) -> Behaviour:
    unknown = set(entry) - {"sentence", "url", "level", "feature", "removed", "on_request"}
    missing = {"sentence", "url", "level"} - set(entry) if "removed" not in entry else set()
    if unknown or missing:
        raise BehaviourError(f"behaviour {id_}: unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")
    level = entry.get("level", "MAY")
    if level not in set(Level):  # before Python 3.12 an enum does not say whether a text is among its values
        raise BehaviourError(f"behaviour {id_}: level {level!r} is none of {', '.join(Level)}")
    words = {key: entry.get(key, "") for key in ("sentence", "url", "feature", "removed")}
    return Behaviour(id=id_, level=Level(level), on_request=bool(entry.get("on_request")), **words)
