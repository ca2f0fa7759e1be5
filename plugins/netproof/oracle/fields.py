"""Objects as the API holds them, read field by field, so that an error can name the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class PolicyError(ValueError):
    """An object that the API server would refuse. The text names it and the field, says what was seen and what is expected."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value and where it stands. A field that is absent, or null, has the value None: JSON's null is Go's nil, the field left out."""

    thing: str  # "NetworkPolicy x/deny"
    path: str  # "spec.ingress[0].from[1]"
    value: object

    def wrong(self, expected: str) -> PolicyError:
        """The error to raise."""
        seen = "missing" if self.value is None else repr(self.value)
        return PolicyError(f"{self.thing}: {self.path} is {seen}; expected {expected}")

    @property
    def given(self) -> bool:
        """Whether the field is there at all. An empty object or list is."""
        return self.value is not None

    def at(self, key: str) -> Field:
        """A field of this object."""
        return self._child(key, self._object().get(key))

    def only(self, *known: str) -> Field:
        """This object, whose fields are among these: one that is misspelt would be dropped, and its rule mean everybody."""
        for key in self._object():
            if key not in known:
                raise self._child(key, self._object()[key]).wrong(f"no such field, but one of {', '.join(known)}")
        return self

    def items(self) -> list[Field]:
        """The entries of this list; none where the field is absent."""
        if not self.given:
            return []
        if not isinstance(self.value, list | tuple):
            raise self.wrong("a list")
        return [Field(self.thing, f"{self.path}[{i}]", value) for i, value in enumerate(self.value)]

    def entries(self) -> list[tuple[str, Field]]:
        """Keys and values of this map; none where the field is absent."""
        return [(key, self._child(key, value)) for key, value in self._object().items()]

    def text(self) -> str:
        """The text that this is; an empty one is a text too."""
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def number(self) -> int:
        """The whole number that this is."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.wrong("a whole number")
        return self.value

    def _object(self) -> Mapping[str, object]:
        if not self.given:
            return {}
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return self.value

    def _child(self, key: str, value: object) -> Field:
        return Field(self.thing, f"{self.path}.{key}".lstrip("."), value)
