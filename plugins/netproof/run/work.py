"""A case as the fixtures of the suites see it, and what they make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from netproof import files
from netproof.cases import Axes
from netproof.model.behaviour import Behaviour
from netproof.run.attempt import Attempt
from netproof.world.case import Case
from netproof.world.drawn import DrawnSet
from netproof.world.language import CaseWorld, Expect
from netproof.world.verdicts import Misused

_KNOWN = ("_pytest.", "xdist.", "netproof.")  # whose hooks of setting up skip nothing but what a mark says
_UNCERTAIN = ("skip", "skipif", "xfail")  # marks with which only pytest knows whether an item is run


@dataclass(slots=True)
class CaseAtWork:
    """A case as the fixtures see it, and where it stands on the axes. `began` and `ended` are times of the monotonic clock."""

    axes: Axes
    behaviour: Behaviour
    case: Case
    world: CaseWorld
    expect: Expect
    began: float
    generated: DrawnSet | None = None
    result: Attempt | None = None
    ended: float | None = None

    @property
    def drawn(self) -> DrawnSet:
        """The generated set of policies of this case. Raises Misused where it is none."""
        if self.generated is None:
            raise Misused(f"{self.axes.id} is no drawn case: say @behaviour(…, drawn=True)")
        return self.generated

    @property
    def tags(self) -> tuple[str, ...]:
        """What a generated set was drawn from beside its seed and its number."""
        return (f"drawn with {', '.join(sorted(self.generated.features)) or 'no further features'}",) if self.generated else ()

    def apply(self, *objects: Any) -> None:
        """See `world.case.Case.apply`."""
        self.case.apply(*objects)

    def remove(self, *objects: Any) -> None:
        """See `world.case.Case.remove`."""
        self.case.remove(*objects)

    def relabel(self, what: str, values: Mapping[str, str | None]) -> None:
        """See `world.case.Case.relabel`."""
        self.case.relabel(what, values)

    def restart_agents(self) -> None:
        """See `world.case.Case.restart_agents`."""
        self.case.restart_agents()


def foreseen(item: pytest.Function) -> Callable[[CaseAtWork], Callable[[], object]] | None:
    """How to call an item's function before pytest has set it up; None where only pytest can.

    That can be where its fixtures are those of `suites/conftest.py`, which are made of nothing but the case, and where no mark and no
    hook of somebody else's bears on whether it is run.
    """
    fixtures = _fixtures(item)
    hooks = [hook.function.__module__ for hook in item.ihook.pytest_runtest_setup.get_hookimpls()]
    strange = not all(module.startswith(_KNOWN) for module in hooks)
    if fixtures is None or strange or any(item.get_closest_marker(mark) for mark in _UNCERTAIN):
        return None

    def called(work: CaseAtWork) -> Callable[[], object]:
        return lambda: item.obj(**{name: _made(name, fixtures, work) for name in item._fixtureinfo.argnames})

    return called


def _fixtures(item: pytest.Function) -> dict[str, Any] | None:
    """The functions of its fixtures by name; None where one is somebody else's."""
    known = item._fixtureinfo.name2fixturedefs
    names = [name for name in item.fixturenames if name != "request"]
    found = {name: known[name][-1].func for name in names if name in known}
    ours = str(files.suites() / "conftest.py")
    codes = [getattr(function, "__code__", None) for function in found.values()]
    return found if len(found) == len(names) and all(code and code.co_filename == ours for code in codes) else None


def _made(name: str, fixtures: Mapping[str, Any], work: CaseAtWork) -> object:
    if name == "case":
        return work
    code = fixtures[name].__code__
    return fixtures[name](**{other: _made(other, fixtures, work) for other in code.co_varnames[: code.co_argcount]})
