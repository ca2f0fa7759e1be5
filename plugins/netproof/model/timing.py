"""How fast a network follows a change: the samples that a case took of one kind of change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """What one kind of change took, in seconds from `since`, one sample a flow and repetition; all three in the same order.

    `effect`: whether the change `opens` or `closes` these flows. `first_right` is the begin of the first attempt that was as it must be
    from then on, `last_wrong` that of the last one that was not (0: none), so the length of the leak of a flow that is closed;
    `right_from` is the first right one after it. `others` are attempts on flows that the change does not concern; nobody answered
    `others_lost` of them.
    """

    change: str
    effect: str
    since: str
    repetitions: int
    first_right: tuple[float, ...]
    last_wrong: tuple[float, ...]
    right_from: tuple[float, ...]
    others: int = 0
    others_lost: int = 0

    def __str__(self) -> str:
        """`policy created closes flows in 0.24 s (p50), 0.55 s (max)`."""
        figures = percentiles(self.right_from)
        return f"{self.change} {self.effect} flows in {figures['p50']:.2f} s (p50), {figures['max']:.2f} s (max)"


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """p50, p90 and max, each of them a sample that was measured (nearest rank)."""
    ordered = sorted(samples)
    return {f"p{share}": ordered[math.ceil(share / 100 * len(ordered)) - 1] for share in (50, 90)} | {"max": ordered[-1]}
