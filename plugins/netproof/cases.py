"""What the writer of a case imports: `behaviour` and the protocols. The fixtures live in `suites/conftest.py`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from netproof.model.flow import SCTP, TCP, UDP, Family, Port, Protocol
from netproof.model.history import Decision

AXES = ("draw", "protocol", "family", "via", "direction", "order")  # their order in an id

CASE: pytest.StashKey[Any] = pytest.StashKey()  # on an item: the case at work, whose parts the fixtures hand out
WORKER = "netproof-worker"  # the names under which the halves of a run are registered
CONTROLLER = "netproof-controller"


@dataclass(frozen=True, slots=True)
class Axes:
    """Where a case stands on each axis; an axis that does not apply is absent."""

    behaviour: str
    values: Mapping[str, str]
    needs: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """`NPI-02a/tcp/ipv4/pod-ip`: the behaviour, then the axes that apply; `NPG-01/s1-17/ipv4/pod-ip` is of a drawn case."""
        return "/".join([self.behaviour, *(self.values[axis].lower() for axis in AXES if axis in self.values)])


@dataclass(frozen=True, slots=True)
class Marked:
    """What `@behaviour` says of a test function."""

    id: str
    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    drawn: bool = False

    def cases(self, families: Iterable[Family], draws: Sequence[str] = ()) -> Iterator[Axes]:
        """One for each combination of the axes, in their fixed order; of a drawn case one for each of `draws`."""
        axes = {**self.axes, "family": self.axes.get("family", tuple(families))} | ({"draw": draws} if self.drawn else {})
        names = [axis for axis in AXES if axis in axes]
        for values in itertools.product(*(axes[name] for name in names)):
            yield Axes(self.id, dict(zip(names, map(str, values), strict=True)), self.needs)


def behaviour(id_: str, *, needs: Sequence[str] = (), drawn: bool = False, **axes: Sequence[str]) -> pytest.MarkDecorator:
    """Say which behaviour of `suites/behaviours.toml` a test function proves, and on which axes it runs.

    `protocol=[TCP, UDP]`, `via=["pod-ip"]`, `direction=["ingress", "egress"]`; the family is always an axis, and is the run's where a
    case does not name its own. `needs` names features beyond the behaviour's own. A `drawn` case runs once for each set of policies
    that --netproof-policies asks for.
    """
    given = [axis for axis in AXES if axis != "draw"]
    unknown = sorted(set(axes) - set(given))
    if unknown:
        raise pytest.UsageError(f"@behaviour({id_!r}): unknown axes {', '.join(unknown)}; the axes are {', '.join(given)}")
    return pytest.mark.behaviour(Marked(id_, axes, tuple(needs), drawn))


def axes_of(item: Any) -> Axes | None:
    """Where an item stands on the axes; None where it is no case."""
    callspec = getattr(item, "callspec", None)
    value = callspec.params.get("case") if callspec else None
    return value if isinstance(value, Axes) else None


def marked(item_or_definition: Any) -> Marked | None:
    """The `@behaviour` of a test function, None where it has none."""
    return _said(item_or_definition.get_closest_marker("behaviour"))


def is_drawn(function: Any) -> bool:
    """Whether a function, before pytest has made an item of it, is a drawn case."""
    said = map(_said, getattr(function, "pytestmark", None) or ())
    return any(mark.drawn for mark in said if mark)


def _said(mark: Any) -> Marked | None:
    return mark.args[0] if mark and mark.args and isinstance(mark.args[0], Marked) else None


__all__ = ["SCTP", "TCP", "UDP", "Decision", "Family", "Port", "Protocol", "behaviour"]
