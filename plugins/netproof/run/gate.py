"""Who may use the cluster: the cases of a run share it, a disruptive one has it to itself.

Within a run by two locked files in its folder, between runs by a Lease on the cluster.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netproof.kube import lease
from netproof.world.runner import Runner

_LEASE = ("kube-system", "netproof-disruption")


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """The cluster beside others of the run; waits while one has it, or waits for it, alone."""
    with (folder / "gate.queue").open("w") as queue, (folder / "gate").open("w") as gate:
        fcntl.flock(queue, fcntl.LOCK_SH)  # held by who waits to be alone, so that those who share do not starve it
        fcntl.flock(gate, fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield


@contextmanager
def alone(folder: Path, runner: Runner) -> Iterator[None]:
    """The cluster for one: no other case of the run is at work, and no disruptive one of another run. Raises Late."""
    with (folder / "gate.queue").open("w") as queue, (folder / "gate").open("w") as gate:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(gate, fcntl.LOCK_EX)
        holder = f"{runner.run}-{runner.worker}"
        with lease.hold(runner.api, *_LEASE, holder=holder, run=runner.run, progress=runner.progress):
            yield
