"""The pace of rounds: back to back, rounds of open flows would starve the nodes and fill their connection tables."""

from __future__ import annotations

from threading import Event

from netproof.world.runner import Runner

ROUND_EVERY = 0.2  # seconds from the begin of a round to that of the next, at least
STABLE_EVERY = 0.5  # the same where all was right, and shall stay so
PATIENCE = 0.25  # of the time waited so far: what took ten seconds is not told more exactly by a look five times a second
REST = 2.0  # seconds between two rounds, at most, however long was waited


def hold(runner: Runner, began: float, every: float = ROUND_EVERY) -> None:
    """Wait until the next round may begin, after one that began then."""
    Event().wait(max(0.0, began + every - runner.clock()))


def hold_longer(runner: Runner, began: float, since: float) -> None:
    """The same, the longer the more time what is waited for has taken since then."""
    hold(runner, began, min(REST, max(ROUND_EVERY, PATIENCE * (began - since))))
