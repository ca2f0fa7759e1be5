"""A change that is timed: overlapping attempts on every flow before, while and after it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from netproof.model.flow import Flow
from netproof.model.history import Expectation, History, Limits
from netproof.model.outcome import Attempt, Phase, Probe, Round
from netproof.model.timing import Timing
from netproof.probe.fleet import Watched
from netproof.verdict.watch import EFFECTS, reaction, timings
from netproof.world.runner import Runner

EVERY = 0.03  # seconds between two attempts on a flow
ANSWER = "the API's answer"
INSTRUCTION = "the pod's first instruction"


@dataclass(slots=True)
class Stopwatch:
    """What a case has timed so far: the repetitions of each change."""

    _laps: dict[tuple[str, str], list[History]] = field(default_factory=dict)

    def add(self, change: str, since: str, history: History) -> None:
        """One more repetition."""
        self._laps.setdefault((change, since), []).append(history)

    def timings(self) -> tuple[Timing, ...]:
        """What they come to."""
        return tuple(timing for (change, since), laps in self._laps.items() for timing in timings(change, since, laps))

    def clear(self) -> None:
        """Forget all of it."""
        self._laps.clear()


def time_change(runner: Runner, expected: Mapping[Flow, Expectation], change: Callable[[], None], limits: Limits) -> History:
    """Make a change and look on until every flow has followed it and stays so, or the cap is over. Raises what the change raises.

    The attempts from before are a round of phase CONTROL, those begun since it was called one of phase WATCH.
    """
    mark, called = len(runner.fleet.incidents), runner.clock()

    def make() -> None:
        nonlocal called
        called = runner.clock()
        change()

    def settled(seen: Mapping[Flow, list[Attempt]]) -> bool:
        judged = {flow: promised for flow, promised in expected.items() if promised.decision in EFFECTS}
        return all(reaction(_since(called, seen[flow]), e, called, limits.late).settled for flow, e in judged.items())

    watched = runner.fleet.watch(list(expected), make, settle=settled, limit=limits.cap, every=EVERY)
    runner.budget.spend(sum(map(len, watched.attempts.values())))
    incidents = tuple(runner.fleet.incidents[mark:])
    return History(expected, watched.changed, _rounds(watched), incidents=incidents, limits=limits, checked=True)


def _since(called: float, attempts: list[Attempt]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.began >= called]


def _rounds(watched: Watched[None]) -> tuple[Round, Round]:
    before = {flow: tuple(a for a in attempts if a.began < watched.called) for flow, attempts in watched.attempts.items()}
    after = {flow: tuple(a for a in attempts if a.began >= watched.called) for flow, attempts in watched.attempts.items()}
    return _round(Phase.CONTROL, before, watched.called), _round(Phase.WATCH, after, watched.changed)


def _round(phase: Phase, seen: Mapping[Flow, tuple[Attempt, ...]], otherwise: float) -> Round:
    attempts = [attempt for found in seen.values() for attempt in found]
    began = min((attempt.began for attempt in attempts), default=otherwise)
    ended = max((attempt.began + attempt.took for attempt in attempts), default=otherwise)
    return Round(phase, began, ended, tuple(Probe(flow, found) for flow, found in seen.items()))
