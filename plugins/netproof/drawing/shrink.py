"""The search for the smallest set that still shows what a larger one showed. Who asks says what showing is, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netproof.drawing.reduce import reductions
from netproof.drawing.stage import Policies


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What is left of a set. `whole`: every smaller set was tried; else the search was broken off."""

    policies: Policies
    tries: int
    whole: bool


def smallest(
    policies: Policies, *, promising: Callable[[Policies], bool], shows: Callable[[Policies], bool], may_go_on: Callable[[], bool]
) -> Shrunk:
    """Leave out part after part, the largest first, as long as the rest shows it.

    `promising` is asked first and costs nothing: a set that cannot show it is passed over. `shows` is a try; before each `may_go_on`
    is asked. A set that is left cannot be made smaller by any one part, which is all that is promised: a smaller one of another
    kind may exist.
    """
    tries, refuted = 0, list[Policies]()

    def step(kept: Policies) -> Policies | None:
        nonlocal tries
        for smaller in reductions(kept):
            if smaller in refuted or not promising(smaller):
                continue
            if not may_go_on():
                raise _BrokenOff
            tries += 1
            if shows(smaller):
                return smaller
            refuted.append(smaller)
        return None

    try:
        while (found := step(policies)) is not None:
            policies = found
    except _BrokenOff:
        return Shrunk(policies, tries, whole=False)
    return Shrunk(policies, tries, whole=True)


class _BrokenOff(Exception):  # noqa: N818 (nothing is wrong)
    pass
