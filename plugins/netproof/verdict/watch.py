"""How the flows of a step followed a change, by overlapping attempts through it: measured, and judged by nothing but a user's budget.

Kubernetes promises no bound: "Every created NetworkPolicy will be handled by a network plugin eventually"
(https://kubernetes.io/docs/concepts/services-networking/network-policies/#pod-lifecycle).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netproof.model.flow import Flow
from netproof.model.history import Cell, Decision, Expectation, History, Judgement
from netproof.model.outcome import Attempt, Outcome, Phase
from netproof.model.timing import Timing
from netproof.model.verdict import Verdict
from netproof.verdict.cell import Grade, grade
from netproof.verdict.control import uncontrolled
from netproof.verdict.course import probes_of

EFFECTS = {Decision.DENY: "closes", Decision.ALLOW: "opens"}
STEADY = 0.6
"""Seconds for which a flow's attempts must have been right, one after the other, for its last wrong one to be called the last."""

_ANYBODY = Expectation(Decision.ALLOW)
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Reaction:
    """How one flow followed a change, in seconds from it: see `model.timing`. None where no attempt was right (again).

    `right_for`: what the right attempts span that no wrong one followed. Undecided attempts count for nothing.
    """

    first_right: float | None
    last_wrong: float
    right_from: float | None
    right_for: float

    @property
    def settled(self) -> bool:
        return self.right_for >= STEADY


def reaction(attempts: Sequence[Attempt], promised: Expectation, changed: float, late: float) -> Reaction:
    """What these attempts, begun no earlier than the change was asked for, say of a flow that shall be allowed or denied."""
    told = sorted((attempt.began, finding.wrong) for attempt in attempts if (finding := grade(attempt, promised, late)).grade in _DECIDED)
    wrong = [began for began, bad in told if bad]
    right = [began for began, bad in told if not bad]
    kept = [began for began in right if not wrong or began > wrong[-1]]
    return Reaction(
        first_right=max(0.0, right[0] - changed) if right else None,
        last_wrong=max(0.0, wrong[-1] - changed) if wrong else 0.0,
        right_from=max(0.0, kept[0] - changed) if kept else None,
        right_for=kept[-1] - kept[0] if kept else 0.0,
    )


_DECIDED = (Grade.GOOD, Grade.BAD, Grade.LEAK)


def is_watch(history: History) -> bool:
    """Whether the step was timed."""
    return any(round_.phase is Phase.WATCH for round_ in history.rounds)


def reactions(history: History) -> dict[Flow, Reaction]:
    """How each flow that the change was to open or close followed it."""
    limits = history.limits
    return {
        flow: reaction(_attempts(flow, history), promised, history.changed, limits.late)
        for flow, promised in history.expected.items()
        if promised.decision in EFFECTS
    }


def others(history: History) -> tuple[int, int]:
    """Of the flows that the change did not concern: attempts that say anything, and those that nobody answered."""
    flows = [flow for flow, promised in history.expected.items() if promised.decision is Decision.OBSERVE]
    graded = [grade(attempt, _ANYBODY, history.limits.late).grade for flow in flows for attempt in _attempts(flow, history)]
    lost = graded.count(Grade.BAD)
    return lost + graded.count(Grade.GOOD), lost


def judge_watch(history: History) -> Judgement:
    """Observed, or slow where a user's budget says so; inconclusive where there is no figure. `converged`: all flows were right by then."""
    found = reactions(history)
    gaps = list(_gaps(history, found))
    budget = history.limits.budget
    late = {flow: one.last_wrong for flow, one in found.items() if budget is not None and one.last_wrong > budget}
    verdict = Verdict.INCONCLUSIVE if gaps else Verdict.SLOW if late else Verdict.OBSERVED
    converged = max((one.right_from for one in found.values() if one.right_from is not None), default=0.0)
    return Judgement(
        verdict=verdict,
        reason="; ".join([*gaps, *_slow(history, late)]) or _well(history, converged),
        cells=tuple(_cell(flow, history, found.get(flow)) for flow in history.expected),
        converged=None if gaps else converged,
    )


def timings(change: str, since: str, histories: Sequence[History]) -> Iterator[Timing]:
    """What these repetitions of one change say, apart for what it opened and what it closed. Steps without a figure are left out."""
    whole = [history for history in histories if judge_watch(history).verdict is not Verdict.INCONCLUSIVE]
    lost = [others(history) for history in whole]
    for decision, effect in EFFECTS.items():
        found = [
            (one.first_right, one.last_wrong, one.right_from)
            for history in whole
            for flow, one in reactions(history).items()
            if history.expected[flow].decision is decision and one.first_right is not None and one.right_from is not None
        ]
        if found:
            firsts, lasts, froms = zip(*found, strict=True)
            tried, gone = (sum(numbers) for numbers in zip(*lost, strict=True))
            yield Timing(change, effect, since, len(whole), firsts, lasts, froms, tried, gone)


def _attempts(flow: Flow, history: History) -> list[Attempt]:
    rounds = [probes_of(round_) for round_ in history.rounds if round_.phase is Phase.WATCH]
    return [attempt for probes in rounds if flow in probes for attempt in probes[flow].attempts]


def _gaps(history: History, found: dict[Flow, Reaction]) -> Iterator[str]:
    yield from (incident.what for incident in history.incidents)
    if missing := uncontrolled(history):
        yield f"no control shows that it could connect: {_few([f'{flow} ({seen})' for flow, seen in missing.items()])}"
    if before := [str(flow) for flow in found if _open_before(flow, history)]:
        yield f"open before the change that was to open it: {_few(before)}"
    if unsettled := [f"{flow} ({_seen(one)})" for flow, one in found.items() if not one.settled]:
        yield f"no figure: not as expected within {history.limits.cap:g} s: {_few(unsettled)}"


def _open_before(flow: Flow, history: History) -> bool:
    promised = history.expected[flow]
    rounds = [probes_of(round_) for round_ in history.rounds if round_.phase is Phase.CONTROL]
    tried = [attempt for probes in rounds if flow in probes for attempt in probes[flow].attempts]
    return promised.decision is Decision.ALLOW and any(grade(a, promised, history.limits.late).grade is Grade.GOOD for a in tried)


def _slow(history: History, late: dict[Flow, float]) -> Iterator[str]:
    if late:
        names = _few([str(flow) for flow in late])
        yield f"still wrong {max(late.values()):.2f} s after the change, the budget is {history.limits.budget:g} s: {names}"


def _well(history: History, converged: float) -> str:
    tried, lost = others(history)
    return f"as expected from {converged:.2f} s on" + (f", {lost} of {tried} attempts on other flows were lost" if lost else "")


def _cell(flow: Flow, history: History, found: Reaction | None) -> Cell:
    attempts, promised = _attempts(flow, history), history.expected[flow]
    through = sum(attempt.outcome is Outcome.CONNECTED or attempt.received for attempt in attempts)
    verdict = Verdict.OBSERVED if found is None or found.settled else Verdict.INCONCLUSIVE
    seen = _seen(found) if found else f"answered {through} of {len(attempts)} times"
    return Cell(flow, promised, verdict, seen, len(attempts), through)


def _seen(found: Reaction) -> str:
    if found.right_from is None:
        return "wrong to the end" if found.first_right is not None or found.last_wrong else "nothing that says anything"
    return f"right from {found.right_from:.2f} s on, last wrong after {found.last_wrong:.2f} s"


def _few(texts: Sequence[str]) -> str:
    more = f", and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more
