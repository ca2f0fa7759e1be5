"""From a generated set that failed to the smallest one that still does: which tries are made, how many, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from netproof.drawing import Shrunk, Way, smallest
from netproof.drawing.reduce import rules, size
from netproof.drawing.stage import Policies
from netproof.model.flow import Flow
from netproof.model.history import Cell, History, Judgement
from netproof.model.verdict import Verdict
from netproof.report.counterexample import Counterexample
from netproof.report.text import count
from netproof.run.attempt import INFRASTRUCTURE
from netproof.verdict.course import look, settle_rounds
from netproof.world.case import Step
from netproof.world.drawn import DrawnSet
from netproof.world.trial import Spoilt, Trial
from netproof.world.world import World

TRIES = 60
SECONDS = 120.0  # for all tries of a set
WORLDS = 4  # that the tries of one set may use up
WATCHED = 6  # wrong flows of which one is chosen
_LEAST_PATIENCE, _LEAST_SHARE = 1.0, 0.1  # seconds; of the cap
_FACTOR = 3.0  # times what the rest of the set took to become right
_ATTEMPTS = 100  # on a flow that leaks now and then
_ENOUGH = (1, 1)  # policies and rules


class _NotShrunk(Exception):  # noqa: N818 (a sentence for people)
    pass


@dataclass(slots=True)
class Shrinking:
    """One set at work, in a case of its own. `fresh` gives up the world that is there and makes a new one."""

    drawn: DrawnSet
    fresh: Callable[[], World]
    _trial: Trial = field(init=False)
    _worlds: int = 0
    _tries: int = 0
    _began: float = 0.0

    def shrink(self, failed: Step) -> Counterexample | str:
        """The smallest set that still fails, or a sentence on why there is none. Raises nothing for what the cluster does."""
        try:
            return self._shrink(failed)
        except _NotShrunk as why:
            return str(why)
        except INFRASTRUCTURE as trouble:
            return f"the tries were broken off ({type(trouble).__name__}: {trouble})"

    def _shrink(self, failed: Step) -> Counterexample:
        self._began = self._now()
        cells = failing(failed.judgement)[:WATCHED]
        if not cells:
            raise _NotShrunk("no single flow is wrong, as what was lost was lost over many")
        self._trial = Trial(self.drawn, patience(failed.history), _ATTEMPTS if all(map(_leaks_at_times, cells)) else 0)
        self._renew()
        policies = self.drawn.drawing.policies
        wrong = self._wrong(policies, [Way(cell.flow.source, cell.flow.destination, cell.flow.port) for cell in cells])
        if not wrong:
            raise _NotShrunk(f"of {len(cells)} wrong flows none stayed wrong when they were looked at alone")
        found = self._search(policies, wrong[0])
        return self._told(found, wrong[0], self._judged(found.policies, wrong[0]))

    def _search(self, policies: Policies, way: Way) -> Shrunk:
        """First among sets that promise the flow the same; where more than one rule is left, among all that promise anything."""
        decision = self._ruling(policies, way)
        found = self._smallest(policies, way, promising=lambda fewer: self._ruling(fewer, way) == decision)
        if found.whole and any(has > enough for has, enough in zip(size(found.policies), _ENOUGH, strict=False)):
            found = self._smallest(found.policies, way, promising=lambda fewer: bool(self._ruling(fewer, way)))
        return found

    def _smallest(self, policies: Policies, way: Way, *, promising: Callable[[Policies], bool]) -> Shrunk:
        def shows(fewer: Policies) -> bool:
            return bool(self._wrong(fewer, [way]))

        return smallest(policies, promising=promising, shows=shows, may_go_on=self._may_go_on)

    def _ruling(self, policies: Policies, way: Way) -> str:
        """What is promised of the flow; empty where nothing is."""
        ruling = self.drawn.stage.rulings(policies, [way])[way]
        return ruling.decision if self.drawn.stage.promised(ruling) else ""

    def _wrong(self, policies: Policies, ways: Sequence[Way]) -> tuple[Way, ...]:
        """A try; once more in a new world where the old one no longer says anything."""
        self._tries += 1
        what = f"shrinking, try {self._tries} of at most {TRIES}: {counted(policies)}"
        self.drawn.world.case.runner.progress(what, self._spent(), SECONDS)
        while True:
            try:
                return self._trial.wrong(policies, ways)
            except Spoilt as why:
                self._renew(str(why))

    def _judged(self, policies: Policies, way: Way) -> Judgement:
        """What is told has failed by the whole rule, in a world in which nothing was before."""
        self._renew()
        judgement = self._trial.judged(policies, way)
        if judgement is None:
            found = f"{self._tries} tries led to {counted(policies)}, which did not fail when it was judged by the whole rule"
            raise _NotShrunk(found)
        return judgement

    def _told(self, found: Shrunk, way: Way, judgement: Judgement) -> Counterexample:
        flow = self.drawn.flow(way)
        return Counterexample(
            policies=tuple(self.drawn.shown(found.policies)),
            cell=next(cell for cell in judgement.cells if cell.flow == flow),
            labels=self.drawn.stage.labels(found.policies, way),
            tries=self._tries,
            seconds=self._spent(),
            whole=found.whole,
        )

    def _renew(self, why: str = "") -> None:
        if self._worlds >= WORLDS:
            raise _NotShrunk(f"the tries used up {WORLDS} worlds ({why})")
        self._worlds += 1
        self.drawn.world.case.again(self.fresh())

    def _may_go_on(self) -> bool:
        return self._tries < TRIES and self._spent() < SECONDS

    def _spent(self) -> float:
        return self._now() - self._began

    def _now(self) -> float:
        return self.drawn.world.case.runner.clock()


def counted(policies: Policies) -> str:
    """`1 policy with 2 rules`."""
    return f"{count(len(policies), 'policy', 'policies')} with {count(rules(policies), 'rule')}"


def failing(judgement: Judgement) -> list[Cell]:
    """The flows for which a step failed, the leaks first: what connects is seen at once."""
    found = [cell for cell in judgement.cells if cell.verdict is Verdict.FAIL]
    return sorted(found, key=lambda cell: not cell.leak)


def _leaks_at_times(cell: Cell) -> bool:
    return cell.leak and cell.connected < cell.attempts


def patience(history: History) -> float:
    """How long a try must show a flow wrong: some times what all other flows took to become right, within bounds that the cap sets."""
    sightings = [look(round_, history) for round_ in settle_rounds(history)]
    wrong = [(s.round.began, {flow for flow, finding in s.findings.items() if finding.wrong}) for s in sightings]
    last = wrong[-1][1] if wrong else set[Flow]()
    others = [began for began, flows in wrong if not flows <= last]
    rest = next((began for began, _ in wrong if not others or began > others[-1]), history.changed)
    cap = history.limits.cap
    return min(cap, max(_LEAST_PATIENCE, _LEAST_SHARE * cap, _FACTOR * (rest - history.changed)))
