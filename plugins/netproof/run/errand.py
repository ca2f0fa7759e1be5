"""Cases under way: those that a process has begun, and those that it will be told to run next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import pytest

from netproof.run.attempt import Attempt
from netproof.run.lane import Lane
from netproof.run.work import CaseAtWork

FURTHER = 8  # items behind the next one that are looked at: a long case lasts as long as so many short ones


@dataclass(frozen=True, slots=True)
class Errand:
    """A case that was begun: `prepared` when it has its world; `judged`, once it was told to run, when it is done."""

    item: pytest.Item
    lane: Lane
    prepared: Future[CaseAtWork]
    judged: Future[Attempt] | None = None

    @property
    def busy(self) -> bool:
        """Whether its lane is at work on it, or waits for word from it."""
        return self.judged is None or not self.judged.done()

    def run(self, called: Callable[[CaseAtWork], Callable[[], object]]) -> Errand:
        """Have it run, by calling what `called` makes of it."""

        def judge() -> Attempt:
            work = self.prepared.result()
            return self.lane.judge(work, called(work))

        return replace(self, judged=self.lane.do(judge))


def behind(item: pytest.Item) -> Sequence[pytest.Item]:
    """The items that this process will run after that one, `FURTHER` at most.

    Where idle workers may take over what waits, not more than they leave, which is half. Certain it is not: they may do so again.
    """
    session = item.session
    if hasattr(session.config, "workerinput"):
        numbers = _waiting(session.config)
        return [session.items[number] for number in numbers[: min(FURTHER, max(0, len(numbers) - 1) // 2)]]
    place = session.items.index(item) + 1
    return session.items[place : place + FURTHER]


def _waiting(config: pytest.Config) -> list[int]:
    """The numbers of the items that xdist has told this worker to run, of which pytest knows one; none where an xdist keeps them elsewhere.

    https://github.com/pytest-dev/pytest-xdist/blob/v3.8.0/src/xdist/remote.py
    """
    queues = (getattr(plugin, "torun", None) for plugin in config.pluginmanager.get_plugins())
    queue: Any = next((queue for queue in queues if hasattr(queue, "lock")), None)
    if queue is None:
        return []
    with queue.lock() as waiting:
        return [number for number in waiting if isinstance(number, int)]
