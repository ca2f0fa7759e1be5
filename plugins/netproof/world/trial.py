"""Sets of policies tried one after another on a few flows: quick looks, which suggest; a verdict is another matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netproof.drawing import Way
from netproof.drawing.stage import Object, Policies
from netproof.model.flow import Flow
from netproof.model.history import Decision, Expectation, Judgement
from netproof.model.outcome import Outcome, Phase, Round
from netproof.verdict.cell import Finding, Grade, evaluate, grade
from netproof.verdict.course import probes_of
from netproof.world.case import Case
from netproof.world.drawn import DrawnSet
from netproof.world.language import ruled_as
from netproof.world.pace import hold
from netproof.world.runner import Runner
from netproof.world.step import CONTROL_LIMIT
from netproof.world.verdicts import Failed, Verdicted

_PATIENCE_WITH_DOUBT = 3.0  # times the patience that a flow may stay undecided


class Spoilt(Exception):  # noqa: N818 (nobody's error)
    """The world says nothing any more: what was open stays closed, though nothing of ours is there."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Tries in the world that the drawn set's case is in; each leaves it as it found it.

    `patience`: seconds that a flow must have been wrong for; `attempts` on a flow that is denied as it should be, to see whether it leaks.
    """

    drawn: DrawnSet
    patience: float
    attempts: int = 0

    @property
    def case(self) -> Case:
        """The case that tries are made with."""
        return self.drawn.world.case

    def wrong(self, policies: Policies, ways: Sequence[Way]) -> tuple[Way, ...]:
        """Those of the flows that stayed other than promised under the set. Raises Spoilt, and what the API raises."""
        flows = {self.drawn.flow(way): way for way in ways}
        try:
            expected = self._prepare(self.drawn.placed(policies), list(flows))
            self._open(list(flows))
            self.case.carry_out()
            return tuple(flows[flow] for flow in _look(self.case.runner, expected, self))
        finally:
            self.case.restore()

    def judged(self, policies: Policies, way: Way) -> Judgement | None:
        """The verdict on one flow under the set by all steps of the rule, burst included: the judgement if it is a fail, else None."""
        flow = self.drawn.flow(way)
        try:
            expected = self._prepare(self.drawn.placed(policies), [flow])
            self.case.settle(expected, alone=True)
        except Failed as failed:
            return failed.judgement
        except Verdicted:
            return None
        finally:
            self.case.restore()
        return None

    def _prepare(self, policies: Sequence[Object], flows: Sequence[Flow]) -> dict[Flow, Expectation]:
        self.case.again(self.case.world)
        self.case.apply(*policies)
        ruled = self.case.foretold(flows)
        return {flow: ruled_as(flow, ruled[flow], pod_blocks=self.drawn.pod_blocks) for flow in flows}

    def _open(self, flows: Sequence[Flow]) -> None:
        """Wait until all of them connect: what was tried before is gone then, as far as they can tell."""
        runner = self.case.runner
        deadline = runner.clock() + max(self.case.limits.cap, CONTROL_LIMIT)
        while True:
            round_ = runner.fleet.round(flows, Phase.CONTROL)
            closed = [p.flow for p in round_.probes if not any(a.outcome is Outcome.CONNECTED for a in p.attempts)]
            if not closed:
                return
            if runner.clock() > deadline:
                raise Spoilt(f"{closed[0]} did not connect with no policy there")
            hold(runner, round_.began)


def _look(runner: Runner, expected: Mapping[Flow, Expectation], trial: Trial) -> list[Flow]:
    """The flows that were not as expected when the patience was over; a denied one that is closed needs no more looks."""
    left, wrong = dict(expected), list[Flow]()
    changed = runner.clock()
    while left:
        round_ = runner.fleet.round(list(left), Phase.CANDIDATE)
        for flow, finding in _findings(round_, left, trial.case.limits.late).items():
            since = round_.ended - changed
            if finding.wrong and since >= trial.patience:
                wrong.append(flow)
            if _decided(finding, left[flow], since, trial.patience):
                del left[flow]
        hold(runner, round_.began)
    return wrong + [flow for flow in _leaking(runner, expected, trial) if flow not in wrong]


def _decided(finding: Finding, expected: Expectation, since: float, patience: float) -> bool:
    if finding.grade is Grade.UNDECIDED:
        return since >= patience * _PATIENCE_WITH_DOUBT
    return since >= patience or (finding.grade is Grade.GOOD and expected.decision is Decision.DENY)


def _findings(round_: Round, expected: Mapping[Flow, Expectation], late: float) -> dict[Flow, Finding]:
    return {flow: evaluate(probe, expected[flow], late) for flow, probe in probes_of(round_).items()}


def _leaking(runner: Runner, expected: Mapping[Flow, Expectation], trial: Trial) -> list[Flow]:
    """The denied flows of which one of many attempts got through."""
    counts = {flow: trial.attempts for flow, e in expected.items() if e.decision is Decision.DENY and trial.attempts}
    if not counts:
        return []
    probes = probes_of(runner.fleet.burst(counts, rate=runner.budget.rate))
    late = trial.case.limits.late
    return [flow for flow, probe in probes.items() if any(grade(a, expected[flow], late).grade is Grade.LEAK for a in set(probe.attempts))]
