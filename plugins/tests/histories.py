"""Histories as short texts: one letter is what one flow saw in one round, or one attempt of a burst.

story({OPEN: allow("x/b"), SHUT: DENY}, {OPEN: "....", SHUT: "..XXXX"}, burst={OPEN: "." * 20, SHUT: "X" * 100})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from netproof.model.flow import TCP, Flow
from netproof.model.history import Decision, Expectation, History, Limits
from netproof.model.outcome import Attempt, Outcome, Phase, Probe, Round
from netproof.verdict.settle import Step, next_step

OPEN = Flow("x/a", "x/b", "10.0.0.2", TCP(8080))
SHUT = Flow("y/a", "x/b", "10.0.0.2", TCP(8080))
TWIN = Flow("y/a", "x/c", "10.0.0.3", TCP(8080))

DENY = Expectation(Decision.DENY)
REFUSE = Expectation(Decision.REFUSE)
OBSERVE = Expectation(Decision.OBSERVE)

DEFAULT = Limits()
NO_BURST = Limits(burst_denied=0, burst_allowed=0)
CAP_10 = Limits(cap=10.0, burst_denied=0, burst_allowed=0)

CHANGED = 100.0
EVERY = 1.0  # a round begins every second

_LETTERS = {
    ".": Attempt(0, 0.01, Outcome.CONNECTED, "x/b", "10.0.1.1"),
    "w": Attempt(0, 0.01, Outcome.CONNECTED, "z/c", "10.0.1.1"),  # by the wrong one
    "l": Attempt(0, 0.70, Outcome.CONNECTED, "x/b", "10.0.1.1", received=True),  # late
    "S": Attempt(0, 0.01, Outcome.CONNECTED, "x/b", "10.0.1.1", starved=True),
    "n": Attempt(0, 0.90, Outcome.TIMED_OUT, received=True),  # one-way
    "X": Attempt(0, 0.90, Outcome.TIMED_OUT),
    "R": Attempt(0, 0.01, Outcome.REFUSED),
    "r": Attempt(0, 0.01, Outcome.RESET),
    "u": Attempt(0, 0.01, Outcome.UNREACHABLE),
    "o": Attempt(0, 0.90, Outcome.SILENT, detail="HTTP/1.1 503"),
    "s": Attempt(0, 0.90, Outcome.TIMED_OUT, starved=True),
    "b": Attempt(0, 0.00, Outcome.BROKEN, detail="stream closed"),
}


def allow(*responders: str, source: str = "") -> Expectation:
    """Allowed, answered by one of these, who must see that source."""
    return Expectation(Decision.ALLOW, frozenset(responders), source)


def attempt(letter: str, began: float = 0.0) -> Attempt:
    """What a letter stands for."""
    return replace(_LETTERS[letter], began=began)


def probe(flow: Flow, letters: str, began: float = 0.0) -> Probe:
    """One probe with an attempt for each letter, a quarter of a second apart."""
    return Probe(flow, tuple(attempt(letter, began + 0.25 * i) for i, letter in enumerate(letters)))


def round_(phase: Phase, began: float, letters: Mapping[Flow, str]) -> Round:
    """A round that ends 0.9 s after its begin."""
    return Round(phase, began, began + 0.9, tuple(probe(flow, seen, began) for flow, seen in letters.items()))


def controlled(expected: Mapping[Flow, Expectation], *, limits: Limits = DEFAULT, controls: Mapping[Flow, Flow] | None = None) -> History:
    """A history after a change, before which every flow and every named control connected; no rounds yet."""
    flows = [*expected, *(controls or {}).values()]
    before = round_(Phase.CONTROL, CHANGED - 2, dict.fromkeys(flows, "."))
    return History(expected, CHANGED, (before,), controls or {}, limits=limits)


def then(history: History, seen: Mapping[Flow, str]) -> History:
    """The history with one more round for each letter, of the phases that a runner would give them; a blank is a flow not probed."""
    for i in range(max(map(len, seen.values()), default=0)):
        last = [r for r in history.rounds if r.phase is not Phase.CONTROL]
        began = last[-1].began + EVERY if last else history.changed
        letters = {flow: texts[i] for flow, texts in seen.items() if texts[i] != " "}
        phase = Phase.CANDIDATE if next_step(history) is Step.CANDIDATE else Phase.STABILITY
        history = replace(history, rounds=(*history.rounds, round_(phase, began, letters)))
    return history


def bursting(history: History, seen: Mapping[Flow, str]) -> History:
    """The history with one more round, of phase BURST: all letters of a flow are its attempts in it."""
    began = history.rounds[-1].ended + 0.1
    return replace(history, rounds=(*history.rounds, round_(Phase.BURST, began, seen)))


def born(history: History, *seen: Mapping[Flow, str]) -> History:
    """The history with a round of phase FIRST for each of these, before all others: a new pod's containers, one after the other."""
    rounds = tuple(round_(Phase.FIRST, CHANGED + 10 * i, letters) for i, letters in enumerate(seen))
    return replace(history, rounds=(*rounds, *history.rounds))


def watched(
    expected: Mapping[Flow, Expectation], before: Mapping[Flow, str], after: Mapping[Flow, str], *, limits: Limits = DEFAULT
) -> History:
    """A step that was timed: attempts four a second, before the change and from then on."""
    rounds = (round_(Phase.CONTROL, CHANGED - 1, before), round_(Phase.WATCH, CHANGED, after))
    return History(expected, CHANGED, rounds, limits=limits, checked=True)


def story(
    expected: Mapping[Flow, Expectation],
    seen: Mapping[Flow, str],
    *,
    burst: Mapping[Flow, str] | None = None,
    limits: Limits = DEFAULT,
    controls: Mapping[Flow, Flow] | None = None,
) -> History:
    """A step from the control to its end: rounds, then the burst where one is given, then what stands afterwards."""
    history = then(controlled(expected, limits=limits, controls=controls), seen)
    return replace(bursting(history, burst) if burst is not None else history, checked=True)
