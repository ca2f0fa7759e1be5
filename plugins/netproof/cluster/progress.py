"""How long waits are told of, and how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float, float], None]
"""Told what is waited for, how long already and until when at most (seconds). Called as often as somebody looks; must not raise."""


def silent(_what: str, _waited: float, _limit: float) -> None:
    """Tells nobody."""


class Stopwatch:
    """Seconds by stage, in the order of their ends."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 1)

    def total(self) -> dict[str, float]:
        """All stages, and the whole time since this was made. Stages may overlap."""
        return {**self.seconds, "total": round(time.monotonic() - self.began, 1)}
