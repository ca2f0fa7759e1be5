"""The pace of rounds: back to back, rounds of open flows would starve the nodes and fill their connection tables."""

from __future__ import annotations

from threading import Event

from netproof.world.runner import Runner

ROUND_EVERY = 0.2  # seconds from the begin of a round to that of the next, at least


def hold(runner: Runner, began: float, every: float = ROUND_EVERY) -> None:
    """Wait until the next round may begin, after one that began then."""
    Event().wait(max(0.0, began + every - runner.clock()))
