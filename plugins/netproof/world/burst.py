"""The burst of a step: many attempts on each flow, as many as the connection tables bear; a soak waits for them until it is whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from threading import Event

from netproof.model.flow import Flow
from netproof.model.history import Decision, Expectation, Limits
from netproof.model.outcome import Round
from netproof.verdict.cell import Grade, grade
from netproof.world.runner import Runner

MOST_AT_ONCE = 1_000  # attempts on one flow in a part: an agent keeps 16,384 nonces of a flow, and a leak shall end a long burst early
# Attempts of a burst that nobody asked for: of some hundreds of flows each is tried a few times, and all of them often.
MOST_UNASKED = 1_000
LOOK_AGAIN = 1.0  # seconds between two looks at whether the tables have room

Progress = Callable[[str, float, float], None]  # what, waited, at most


def burst(
    runner: Runner,
    expected: Mapping[Flow, Expectation],
    limits: Limits,
    meant: Mapping[Flow, Collection[str]],
    progress: Progress,
    *,
    repeated: int = 0,
) -> Iterator[Round]:
    """The rounds of the burst, one or more, all of phase BURST; `repeated`: how often it was tried before.

    A large burst that nobody asked for is made smaller, and what the tables have no room for is left out, but for one look at each flow;
    with `limits.whole` neither is done, and room is waited for. A leak ends it.
    """
    left = _wanted(expected, limits)
    total, made, began = sum(left.values()), 0, runner.clock()
    while True:
        part = _part(runner, left, whole=limits.whole)
        if part:
            seen = runner.fleet.burst(part, rate=_rate(runner, sum(part.values()), repeated), meant=meant)
            yield seen
            runner.budget.spend(sum(part.values()))
            left = {flow: rest for flow, count in left.items() if (rest := count - part.get(flow, 0)) > 0}
            made += sum(part.values())
            if _leaks(seen, expected, limits.late):
                return
        if not left or not limits.whole:
            return
        what = f"burst of {total:,} attempts, {made:,} made" + ("" if part else ", waiting for room in the connection tables")
        progress(what, runner.clock() - began, runner.budget.lasts(total))
        Event().wait(0.0 if part else LOOK_AGAIN)


def _rate(runner: Runner, attempts: int, repeated: int) -> float:
    """Attempts a second. A repeat is slower and lasts for seconds, so that one pause of a busy machine does not meet all of it."""
    return min(runner.budget.rate / (1 + repeated), attempts / repeated) if repeated else runner.budget.rate


def _leaks(seen: Round, expected: Mapping[Flow, Expectation], late: float) -> bool:
    tried = ((attempt, expected[probe.flow]) for probe in seen.probes for attempt in set(probe.attempts))
    return any(grade(attempt, promised, late).grade is Grade.LEAK for attempt, promised in tried)


def _part(runner: Runner, left: Mapping[Flow, int], *, whole: bool) -> dict[Flow, int]:
    wanted = {flow: min(count, MOST_AT_ONCE) for flow, count in left.items()}
    share = runner.budget.share(sum(wanted.values()))
    return {} if whole and share <= 0 else {flow: max(1, int(count * share)) for flow, count in wanted.items()}


def _wanted(expected: Mapping[Flow, Expectation], limits: Limits) -> dict[Flow, int]:
    wanted = {flow: count for flow, e in expected.items() if (count := _size(e, limits))}
    total = sum(wanted.values())
    if limits.whole or total <= MOST_UNASKED:
        return wanted
    return {flow: max(1, count * MOST_UNASKED // total) for flow, count in wanted.items()}


def _size(expectation: Expectation, limits: Limits) -> int:
    sizes = {Decision.DENY: limits.burst_denied, Decision.ALLOW: limits.burst_allowed}
    return sizes.get(expectation.decision, 0)
