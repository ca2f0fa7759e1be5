"""Label selectors.

Quotations are of the field's own text, or of its page where they are marked:

- LabelSelector: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/label-selector/
- labels: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netproof.oracle.fields import Field


@dataclass(frozen=True, slots=True)
class Requirement:
    """An element of matchExpressions."""

    key: str
    operator: str
    values: frozenset[str]

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels meets it. An empty value is a value."""
        if self.operator == "In":
            return self.key in labels and labels[self.key] in self.values
        if self.operator == "NotIn":  # labels: "... and all resources with no labels with the `tier` key"
            return self.key not in labels or labels[self.key] not in self.values
        return (self.key in labels) == (self.operator == "Exists")  # labels: "no values are checked"

    def __str__(self) -> str:
        """As kubectl writes it."""
        if self.operator in ("Exists", "DoesNotExist"):
            return self.key if self.operator == "Exists" else f"!{self.key}"
        if self.operator == "In" and len(self.values) == 1:
            return f"{self.key}={next(iter(self.values))}"
        return f"{self.key} {self.operator.lower()} ({','.join(sorted(self.values))})"


Selector = tuple[Requirement, ...]


def selector(field: Field) -> Selector:
    """LabelSelector: "The result of matchLabels and matchExpressions are ANDed. An empty label selector matches all objects."."""
    field.only("matchLabels", "matchExpressions")
    # "A single {key,value} in the matchLabels map is equivalent to an element of matchExpressions, whose key field is "key",
    # the operator is "In", and the values array contains only "value"."
    equal = [Requirement(key, "In", frozenset({value.text()})) for key, value in field.at("matchLabels").entries()]
    return (*equal, *(_requirement(entry) for entry in field.at("matchExpressions").items()))


def _requirement(field: Field) -> Requirement:
    field.only("key", "operator", "values")
    values = frozenset(value.text() for value in field.at("values").items())
    operator = field.at("operator")
    if operator.value in ("In", "NotIn"):
        if not values:  # "If the operator is In or NotIn, the values array must be non-empty."
            raise field.at("values").wrong(f"at least one value with {operator.value}")
    elif operator.value in ("Exists", "DoesNotExist"):
        if values:  # "If the operator is Exists or DoesNotExist, the values array must be empty."
            raise field.at("values").wrong(f"no value with {operator.value}")
    else:
        raise operator.wrong("In, NotIn, Exists or DoesNotExist")
    return Requirement(field.at("key").text(), operator.text(), values)


def matches(wanted: Selector, labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is selected: "The requirements are ANDed."."""
    return all(requirement.holds(labels) for requirement in wanted)


def words(wanted: Selector) -> str:
    """The selector as kubectl writes it; empty for one that matches everything."""
    return ",".join(map(str, wanted))
