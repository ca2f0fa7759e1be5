"""One step of a case as it is run: control, change, sentinel, candidate, stability, burst, afterwards."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from netproof.model.flow import Flow
from netproof.model.history import Decision, Expectation, History, Incident, Limits
from netproof.model.outcome import Outcome, Phase, Round
from netproof.probe.fleet import GLANCE, REFUSAL, ROUND, Plan
from netproof.verdict.cell import Grade
from netproof.verdict.control import uncontrolled
from netproof.verdict.course import Course, look, read
from netproof.verdict.settle import BURSTS, CONTROL_ROUNDS, DOUBTED, Step, next_step
from netproof.world.burst import burst
from netproof.world.pace import STABLE_EVERY, hold, hold_longer
from netproof.world.runner import Progress, Runner

CONTROL_LIMIT = 10.0  # seconds: a NodePort that was just made needs a moment until it connects
CHANCES = 32  # one stale endpoint of three is missed by this many with a probability of 2 in a million
GLANCES = 10  # in a row, at most
BURST_LASTS = 5.0  # seconds, of one that nobody asked for, on a busy machine
REFUSED_EVERY = 1.5  # seconds between two attempts on a flow that is to be refused
_NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Script:
    """What a step shall do: the flows' expectations, how to change the cluster, and what to look at when all rounds are over.

    `open_before`: every flow shall connect before the change (the world's mesh); one that doesn't is the environment's trouble.
    `prior`: control rounds of earlier steps of the case. `sentinel`: applied after the change and awaited; it returns its rounds.
    `by_chance`: a balancer picks who answers, so a round asks CHANCES times.
    """

    expected: Mapping[Flow, Expectation]
    change: Callable[[], None]
    afterwards: Callable[[], Sequence[Incident]]
    controls: Mapping[Flow, Flow]
    prior: tuple[Round, ...] = ()
    open_before: bool = False
    sentinel: Callable[[], tuple[Sequence[Round], Sequence[Incident]]] | None = None
    by_chance: bool = False
    limits: Limits = _NO_LIMITS


def perform(runner: Runner, script: Script, progress: Progress) -> History:
    """Run a step to its end. Nothing is changed where the control fails. Never raises for what the network does."""
    mark = len(runner.fleet.incidents)
    history = History(script.expected, math.nan, script.prior, script.controls, limits=script.limits)
    history = _control(runner, script, history)
    if uncontrolled(history):
        return _with_incidents(runner, replace(history, changed=runner.clock()), mark)
    script.change()
    history = replace(history, changed=runner.clock())
    if script.sentinel:
        rounds, incidents = script.sentinel()
        history = replace(history, rounds=(*history.rounds, *rounds), incidents=(*history.incidents, *incidents))
    return carry_on(runner, script, history, progress, mark=mark)


def carry_on(runner: Runner, script: Script, history: History, progress: Progress, *, mark: int) -> History:
    """Run a step from its change on to its end; `mark`: how many incidents the fleet had when the step began."""
    if not uncontrolled(history):
        history = _settle(runner, script, history, progress)
    return _with_incidents(runner, history, mark)


def _control(runner: Runner, script: Script, history: History) -> History:
    flows = _to_control(script)
    deadline = runner.clock() + CONTROL_LIMIT
    rounds = 0
    while flows and (rounds == 0 or _missing(script, history)) and (rounds < CONTROL_ROUNDS or runner.clock() < deadline):
        history = _add(history, runner.fleet.round(flows, Phase.CONTROL))
        rounds += 1
        if _missing(script, history):
            hold(runner, history.rounds[-1].began)
    closed = _closed(script, history)
    if closed:
        names = ", ".join(str(flow) for flow in closed[:4]) + (f" and {len(closed) - 4} more" if len(closed) > 4 else "")
        incident = Incident(runner.clock(), f"did not connect before anything was changed: {names}")
        history = replace(history, incidents=(*history.incidents, incident))
    return history


def _missing(script: Script, history: History) -> bool:
    return bool(uncontrolled(history) or _closed(script, history))


def _to_control(script: Script) -> list[Flow]:
    judged = (flow for flow, e in script.expected.items() if script.open_before or e.decision in (Decision.DENY, Decision.REFUSE))
    return list(dict.fromkeys(script.controls.get(flow, flow) for flow in judged))


def _closed(script: Script, history: History) -> list[Flow]:
    """The flows to be allowed that the control did not see connect, where all shall be open before."""
    if not script.open_before:
        return []
    seen = {p.flow for r in history.rounds for p in r.probes if any(a.outcome is Outcome.CONNECTED for a in p.attempts)}
    return [flow for flow, e in script.expected.items() if e.decision is Decision.ALLOW and flow not in seen]


def _settle(runner: Runner, script: Script, history: History, progress: Progress) -> History:
    flows = list(script.expected)
    known: Course | None = None
    while (step := next_step(history, known := read(history, known))) is not Step.DONE:
        progress(f"{step} of {len(flows)} flows", runner.clock() - history.changed, _longest(step, script.limits))
        if step is Step.AFTERWARDS:
            history = replace(history, checked=True, incidents=(*history.incidents, *script.afterwards()))
        elif step is Step.BURST:
            repeated = sum(round_.phase is Phase.BURST for round_ in history.rounds)
            made = burst(runner, script.expected, script.limits, _meant(script), progress, repeated=repeated)
            history = replace(history, rounds=(*history.rounds, *made))
        else:
            _pace(runner, script, history, step)
            history = _add(history, _look(runner, script, history, step.phase or Phase.CANDIDATE))
    return history


def _longest(step: Step, limits: Limits) -> float:
    """For how many seconds after the change a step of that kind may still be begun: undecided rounds and bursts are repeated."""
    candidate = limits.cap + max(limits.stable_least, DOUBTED * limits.cap)
    stability = candidate + 2 * limits.stable_most
    return {Step.CANDIDATE: candidate, Step.STABILITY: stability}.get(step, stability + BURSTS * BURST_LASTS)


def _look(runner: Runner, script: Script, history: History, phase: Phase) -> Round:
    """A candidate is a glance that saw something wrong; where it did not, and else, it is a round."""
    glance = _glance(runner, script, history) if phase is Phase.CANDIDATE else None
    if glance is None:
        return _round(runner, script, phase)
    findings = look(glance, history).findings
    seen = [findings[probe.flow] for probe in glance.probes]
    if any(finding.wrong and finding.decisive for finding in seen):
        return replace(glance, glanced=glance.began)
    made = _round(runner, script, phase)
    return replace(made, glanced=glance.began) if {finding.grade for finding in seen} <= {Grade.GOOD, Grade.OBSERVED} else made


def _glance(runner: Runner, script: Script, history: History) -> Round | None:
    """A round too short to show that all is right, but not that something connects which must not yet: then it is one of the candidates.

    A full round takes a whole time-out where something is denied, and would tell a quarter of a second of convergence as 1.2 s. From
    time to time one is made all the same, as a slow answer is missed by glances only, and at the cap, as that one counts.

    It looks at what shall be denied, and once some of that was seen open, at that alone: the others are for the round.
    """
    near_cap = runner.clock() + 2 * ROUND.lasts(0) > history.changed + script.limits.cap
    if script.by_chance or _manner(script) is not ROUND or _glances(history) >= GLANCES or near_cap:
        return None
    return runner.fleet.round(_still_open(script, history), Phase.CANDIDATE, plan=GLANCE, meant=_meant(script))


def _still_open(script: Script, history: History) -> list[Flow]:
    """The flows that a glance looks at."""
    if _glances(history):
        findings = look(history.rounds[-1], history).findings
        return [flow for flow, finding in findings.items() if finding.wrong]
    denied = [flow for flow, e in script.expected.items() if e.decision is Decision.DENY]
    return denied or list(script.expected)


def _glances(history: History) -> int:
    """How many candidates the history ends in that were as short as a glance."""
    return sum(1 for _ in itertools.takewhile(_is_glance, reversed(history.rounds)))


def _is_glance(round_: Round) -> bool:
    return round_.phase is Phase.CANDIDATE and round_.glanced == round_.began


def _pace(runner: Runner, script: Script, history: History, step: Step) -> None:
    """Hold the next round back, those on flows to be refused longer: of ICMP errors Linux sends a peer one a second (icmp_ratelimit)."""
    if not history.rounds:
        return
    began = history.rounds[-1].began
    if _manner(script) is REFUSAL:
        hold(runner, began, REFUSED_EVERY)
    elif step is Step.STABILITY:
        hold(runner, began, STABLE_EVERY)
    elif script.limits.budget is not None:  # somebody wants to know the time
        hold(runner, began)
    else:
        hold_longer(runner, began, history.changed)


def _round(runner: Runner, script: Script, phase: Phase) -> Round:
    """One round. Where one of several may answer, one answer says little of who else still would: each flow is then asked many times."""
    if not script.by_chance:
        return runner.fleet.round(list(script.expected), phase, plan=_manner(script), meant=_meant(script))
    asked = runner.fleet.burst(dict.fromkeys(script.expected, CHANCES), rate=runner.budget.rate, meant=_meant(script))
    return replace(asked, phase=phase)


def _meant(script: Script) -> dict[Flow, Collection[str]]:
    """Which agents may answer: none on flows to be refused, the responders where they are said, else any."""
    return {flow: e.responders for flow, e in script.expected.items() if e.responders or e.decision is Decision.REFUSE}


def _manner(script: Script) -> Plan:
    refused = any(e.decision is Decision.REFUSE for e in script.expected.values())
    return REFUSAL if refused else ROUND


def _add(history: History, round_: Round) -> History:
    return replace(history, rounds=(*history.rounds, round_))


def _with_incidents(runner: Runner, history: History, mark: int) -> History:
    return replace(history, incidents=(*history.incidents, *runner.fleet.incidents[mark:]))
