"""Label selectors by chance: every form and operator, on labels that the world has and on some that it has not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from netproof.drawing.dice import Dice
from netproof.oracle.decide import NAME_LABEL

Object = dict[str, Any]

_REQUIREMENTS = {1: 65.0, 2: 29.0, 3: 6.0}
_OPERATORS = {"In": 30.0, "NotIn": 34.0, "Exists": 18.0, "DoesNotExist": 18.0}
_MISSING_KEY, _MISSING_VALUE = "missing", "nobody"


@dataclass(frozen=True, slots=True)
class Words:
    """The keys that a selector can speak of, each with the values that somebody has."""

    values: Mapping[str, tuple[str, ...]]

    @staticmethod
    def of(labels: Iterable[Mapping[str, str]]) -> Words:
        """Those of these objects, sorted."""
        found: dict[str, set[str]] = {}
        for one in labels:
            for key, value in one.items():
                found.setdefault(key, set()).add(value)
        return Words({key: tuple(sorted(values)) for key, values in sorted(found.items())})


def namespace_words(namespaces: Mapping[str, Mapping[str, str]]) -> Words:
    """Those of the namespaces, the name that the API server puts on each of them among them."""
    return Words.of({**labels, NAME_LABEL: name} for name, labels in namespaces.items())


def selector(dice: Dice, words: Words, *, empty: float) -> Object:
    """A selector; that share of them selects everything."""
    if dice.chance(empty):
        return dice.one_of(({}, {}, {"matchLabels": {}}, {"matchExpressions": []}))
    labels: dict[str, str] = {}
    expressions: list[Object] = []
    for _ in range(dice.weighted(_REQUIREMENTS)):
        key = _key(dice, words)
        if dice.chance(0.4) and key not in labels:
            labels[key] = _value(dice, words, key)
        else:
            expressions.append(_expression(dice, words, key))
    return ({"matchLabels": labels} if labels else {}) | ({"matchExpressions": expressions} if expressions else {})


def _expression(dice: Dice, words: Words, key: str) -> Object:
    operator = dice.weighted(_OPERATORS)
    if operator in ("Exists", "DoesNotExist"):
        return {"key": key, "operator": operator}
    values = dict.fromkeys(_value(dice, words, key) for _ in range(dice.weighted({1: 50.0, 2: 40.0, 3: 10.0})))
    return {"key": key, "operator": operator, "values": list(values)}


def _key(dice: Dice, words: Words) -> str:
    return _MISSING_KEY if dice.chance(0.03) else dice.one_of(tuple(words.values))


def _value(dice: Dice, words: Words, key: str) -> str:
    return _MISSING_VALUE if key not in words.values or dice.chance(0.06) else dice.one_of(words.values[key])
