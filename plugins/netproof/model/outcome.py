"""What was seen: attempts, probes and rounds. Times are seconds of one monotonic clock."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from netproof.model.flow import Flow


class Outcome(enum.StrEnum):
    """How one socket ended."""

    CONNECTED = "connected"  # an agent (or, for a question, a DNS server) answered: `Attempt.responder` says who, or what
    SILENT = "silent"  # the connection was accepted, but nothing that speaks our protocol answered
    TIMED_OUT = "timed-out"
    REFUSED = "refused"
    RESET = "reset"
    UNREACHABLE = "unreachable"
    BROKEN = "broken"  # the agent or the stream to it failed, no socket was judged


class Phase(enum.StrEnum):
    """Which step of the verdict rule a round belongs to."""

    CONTROL = "control"
    FIRST = "first"  # what new pods saw from their first instruction on, and who dialled them from then on
    WATCH = "watch"  # overlapping attempts through a change, which is timed and not judged
    SENTINEL = "sentinel"
    CANDIDATE = "candidate"
    STABILITY = "stability"
    BURST = "burst"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One socket.

    `began` is on the runner's clock, `took` is measured on the agent's own; `responder` is the agent's name (`x/a`), a foreign
    identity, or the canonical answer of a DNS question (`NOERROR A 10.96.0.10`); `source` is the address that the responder saw;
    `received`: the nonce stands in the destination's log, whatever came back; `starved`: the loop of either end lagged
    so much meanwhile that silence proves nothing (in a burst: for as long as silence takes, also where it connected at once).
    """

    began: float
    took: float
    outcome: Outcome
    responder: str = ""
    source: str = ""
    received: bool = False
    starved: bool = False
    detail: str = ""
    source_port: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """The attempts on one flow in one round, in the order of their start."""

    flow: Flow
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """One probe on every flow of a case. No attempt overlaps a change, but in phase WATCH.

    `glanced`: when the glance began that this is, or that saw nothing wrong just before it; None where there was none.
    """

    phase: Phase
    began: float
    ended: float
    probes: tuple[Probe, ...]
    glanced: float | None = None
