"""Who may use the cluster: the cases of a run share it; one that restarts what all use has it without them for as long as that takes.

Within a run by two locked files in its folder, between runs by a Lease on the cluster. Cases that want to restart the same at the same time
do so together: the others wait once.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from netproof.kube import lease
from netproof.world.runner import Runner


class Gate:
    """A lane's way onto the cluster. One thread may use it."""

    def __init__(self, folder: Path) -> None:
        self._queue = folder / "gate.queue"  # held by all who want to be alone, passed by who comes to share: so these starve nobody
        self._gate = folder / "gate"
        self._held: IO[str] | None = None

    @property
    def is_shared(self) -> bool:
        """Whether the thread is within `shared`."""
        return self._held is not None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """The cluster beside others of the run; waits while one has it, or waits for it, alone."""
        with self._queue.open("w") as queue, self._gate.open("w") as gate:
            fcntl.flock(queue, fcntl.LOCK_EX)
            fcntl.flock(gate, fcntl.LOCK_SH)
            fcntl.flock(queue, fcntl.LOCK_UN)
            self._held = gate
            try:
                yield
            finally:
                self._held = None

    @contextmanager
    def alone(self, runner: Runner) -> Iterator[Callable[[], None]]:
        """The cluster for one: no other case of the run is at work, no other run disrupts it. Within `shared`, which goes on afterwards.

        What it yields lets in the next that wants to be alone, and nobody else, before the block ends. Raises Late where another run
        keeps the Lease.
        """
        gate = self._held
        if gate is None:
            raise RuntimeError("only who shares the cluster can have it alone")
        with self._queue.open("w") as queue:
            fcntl.flock(gate, fcntl.LOCK_UN)  # two that want to be alone would wait for each other
            fcntl.flock(queue, fcntl.LOCK_SH)
            fcntl.flock(gate, fcntl.LOCK_EX)
            try:
                with lease.hold(runner.api, *lease.DISRUPTION, holder=runner.run, run=runner.run, progress=runner.progress):
                    yield lambda: fcntl.flock(gate, fcntl.LOCK_UN)
            finally:
                fcntl.flock(gate, fcntl.LOCK_SH)
