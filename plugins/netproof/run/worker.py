"""The half of a run that works: it brings up what a case needs, runs it, confirms a failure in a fresh world, and tells the journal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from netproof import options
from netproof.cases import CASE, WORKER, Axes, axes_of
from netproof.cluster.state import ClusterState
from netproof.kube.wait import Late
from netproof.model.behaviour import Behaviour, Level
from netproof.model.event import CaseFinished, CaseStarted, Event, RunStarted, Waiting
from netproof.model.flow import Family
from netproof.model.verdict import Verdict
from netproof.problem import Problem
from netproof.report.journal import Journal
from netproof.run import collection, gate, ground
from netproof.run.assignment import Assignment
from netproof.run.attempt import Attempt, run_once
from netproof.run.findings import Findings
from netproof.run.header import header_of
from netproof.run.shrinking import Shrinking
from netproof.world import world as worlds
from netproof.world.case import Case
from netproof.world.drawn import DrawnSet, relevant
from netproof.world.language import CaseWorld, Expect
from netproof.world.runner import Runner
from netproof.world.verdicts import Misused, Unsupported, Verdicted
from netproof.world.world import World

SHRINKINGS = 3  # of generated sets, by a worker in a run: of one fault a few are enough
_TELL_EVERY = 2.0  # seconds between two words about one wait


@dataclass(slots=True)
class CaseAtWork:
    """A case as the fixtures see it, and where it stands on the axes."""

    axes: Axes
    behaviour: Behaviour
    case: Case
    world: CaseWorld
    expect: Expect
    began: float
    generated: DrawnSet | None = None
    result: Attempt | None = None

    @property
    def drawn(self) -> DrawnSet:
        """The generated set of policies of this case. Raises Misused where it is none."""
        if self.generated is None:
            raise Misused(f"{self.axes.id} is no drawn case: say @behaviour(…, drawn=True)")
        return self.generated

    @property
    def tags(self) -> tuple[str, ...]:
        """What a generated set was drawn from beside its seed and its number."""
        return (f"drawn with {', '.join(sorted(self.generated.features)) or 'no further features'}",) if self.generated else ()

    def apply(self, *objects: Any) -> None:
        """See `world.case.Case.apply`."""
        self.case.apply(*objects)

    def remove(self, *objects: Any) -> None:
        """See `world.case.Case.remove`."""
        self.case.remove(*objects)

    def relabel(self, what: str, values: Mapping[str, str | None]) -> None:
        """See `world.case.Case.relabel`."""
        self.case.relabel(what, values)

    def restart_agents(self) -> None:
        """See `world.case.Case.restart_agents`."""
        self.case.restart_agents()


class Worker:
    """Registered as a plugin in every process that runs cases."""

    def __init__(self, config: pytest.Config, assignment: Assignment, name: str) -> None:
        self.config = config
        self.assignment = assignment
        self.name = name
        self.settings = assignment.settings(config)
        self.journal = Journal(Path(assignment.folder), name)
        self._case = ""
        self._told: dict[str, float] = {}
        self._runner: Runner | None = None
        self._state: ClusterState | None = None
        self._world: World | None = None
        self._worlds = 0
        self._blemished = False  # whether a fail was judged in the world that is there
        self._findings: Findings | None = None
        self._done: list[str] = []
        self._shrinkings = 0

    @classmethod
    def join(cls, config: pytest.Config, assignment: Assignment | None = None) -> None:
        """Take part in a run: what xdist's controller assigned, or in its own process. Nothing happens in a run without a cluster."""
        assignment = assignment or Assignment.of(config)
        if assignment:
            name = getattr(config, "workerinput", {}).get("workerid", "main")
            config.pluginmanager.register(cls(config, assignment, name), WORKER)

    def selected(self, items: list[pytest.Item], left_out: list[pytest.Item]) -> None:
        """Told once of what was collected, and of the cases that wait for a run of their own."""
        proved, known, cases = collection.coverage(items)
        if self.name in ("main", "gw0"):
            header = {"selected": proved, "behaviours": known, "cases": cases, "left_out": collection.told(left_out)}
            self._tell(RunStarted(time.time(), header))

    # pytest's hooks

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        axes = axes_of(item)
        if axes is None:
            return
        self._case = axes.id
        self._tell(CaseStarted(time.time(), axes.id, item.nodeid, self.name))
        item.stash[CASE] = self._prepare(item, axes)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        work = pyfuncitem.stash.get(CASE, None)
        if work is None:
            return None
        try:
            with self._gate(pyfuncitem):
                work.result = self._judge(pyfuncitem, work)
        except Late as late:
            work.result = Attempt(Verdict.INCONCLUSIVE, f"the cluster was not to be had alone: {late}")
        self._finish(pyfuncitem, work)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        if axes_of(item) is not None:
            self._mark(report, item, call)
        return report

    def pytest_sessionfinish(self) -> None:
        if self._runner:
            self._runner.fleet.close()
        self.journal.close()

    # what a case needs

    def _prepare(self, item: pytest.Item, axes: Axes) -> CaseAtWork:
        behaviour = collection.behaviours()[axes.behaviour]
        began = time.monotonic()
        try:
            runner = self._means()
            self._require(item, axes, behaviour)
            world = self._fresh() if self._world is None else self._world
        except Unsupported as lacking:
            self._tell_finished(item, axes, Attempt(Verdict.UNSUPPORTED, lacking.reason), began)
            pytest.skip(lacking.reason)
        except Problem as problem:
            self._tell_finished(item, axes, Attempt(Verdict.ERROR, str(problem)), began)
            raise
        except (Verdicted, Exception) as error:
            attempt = Attempt(Verdict.INCONCLUSIVE, f"the world could not be made: {error or type(error).__name__}")
            self._tell_finished(item, axes, attempt, began)
            raise
        case = Case(runner, world, axes.id, runner.limits)
        view = CaseWorld(case, Family(axes.values["family"]))
        return CaseAtWork(axes, behaviour, case, view, Expect(case, view), began, self._generated(axes, view))

    def _generated(self, axes: Axes, view: CaseWorld) -> DrawnSet | None:
        lacking = self._state.unsupported if self._state else {}
        return DrawnSet(axes.values["draw"], relevant(lacking), view) if "draw" in axes.values else None

    def _means(self) -> Runner:
        if self._runner is None:
            state = ground.cluster(self.settings, self._progress)
            words = options.said(self.config)
            bounds = ground.limits(
                self.settings,
                cap=words.number("cap"),
                budget=words.number("budget"),
                burst=words.number("burst"),
                smoke=self.assignment.smoke,
            )
            self._state = state
            self._tell(RunStarted(time.time(), header_of(state)))
            self._runner = ground.runner(
                self.settings,
                state,
                token=self.assignment.token,
                worker=self.name,
                workers=self.assignment.workers,
                limits=bounds,
                progress=self._progress,
                families=self.assignment.families,
                repeat=ground.repeat(self.settings, words.number("repeat")),
            )
            self._findings = Findings.of(self.config, self.settings, state, Path(self.assignment.report))
        return self._runner

    def _require(self, item: pytest.Item, axes: Axes, behaviour: Behaviour) -> None:
        """Raise Unsupported, with the reason, for a feature that this cluster lacks or its implementation does not claim."""
        lacking = self._state.unsupported if self._state else {}
        if item.get_closest_marker("timing") and self.assignment.workers > 1:
            raise Unsupported("latencies are measured by one worker alone: run it without -n")
        family = axes.values["family"]
        if self._state and family not in self._state.families:
            raise Unsupported(f"this cluster has no {family} addresses")
        if behaviour.level is Level.VENDOR:
            raise Unsupported("a vendor's own behaviour, off unless asked for")
        for feature in (behaviour.feature, *axes.needs, *(["IPv6"] if family == Family.IPV6 else [])):
            if feature in lacking:
                raise Unsupported(f"{feature}: {lacking[feature]}")

    def _fresh(self) -> World:
        self._give_up_world()
        self._worlds += 1
        self._blemished = False
        self._world = worlds.make(self._means(), self._worlds)
        return self._world

    def _give_up_world(self) -> None:
        if self._world is not None:
            world, self._world = self._world, None
            world.discard()

    # a case

    def _gate(self, item: pytest.Item) -> AbstractContextManager[None]:
        """The cluster for this case: beside others, or alone where it restarts what they use."""
        folder = Path(self.assignment.folder)
        return gate.alone(folder, self._means()) if item.get_closest_marker("disruptive") else gate.shared(folder)

    def _judge(self, item: pytest.Function, work: CaseAtWork) -> Attempt:
        first = self._first(item, work)
        if first.verdict is not Verdict.FAIL and first.put_back:
            return first
        if not first.wants_confirmation:
            self._give_up_world()
            return first
        self._progress("a fail is confirmed in a fresh world", 0.0, work.case.limits.cap)
        try:
            work.case.again(self._fresh())
        except Exception as error:
            return first.unconfirmed(error)
        again = run_once(item, work.case, before=[])
        self._blemished = again.verdict is Verdict.FAIL
        if not again.put_back:
            self._give_up_world()
        return self._shrunk(first.confirmed_by(again), work)

    def _first(self, item: pytest.Function, work: CaseAtWork) -> Attempt:
        """A run in the world at hand; once more in a fresh one, where evidence is missing which a fail before it may have spoiled."""
        found = run_once(item, work.case, before=self._done)
        if found.verdict is not Verdict.INCONCLUSIVE or not self._blemished:
            return found
        try:
            work.case.again(self._fresh())
        except Exception as error:
            return found.unconfirmed(error)
        return run_once(item, work.case, before=[])

    def _shrunk(self, attempt: Attempt, work: CaseAtWork) -> Attempt:
        """A generated set that failed, with the smallest that still does. What the tries did is gone with their worlds."""
        failed = [step for step in attempt.steps if step.judgement.verdict is Verdict.FAIL]
        if work.generated is None or attempt.verdict is not Verdict.FAIL or not failed:
            return attempt
        if self._shrinkings >= SHRINKINGS:
            said = f"this worker has done so with {SHRINKINGS} other sets; repeat this one alone"
            return replace(attempt, counterexample=said)
        self._shrinkings += 1
        self._give_up_world()
        case = Case(work.case.runner, work.case.world, work.axes.id, work.case.limits)
        drawn = replace(work.generated, world=CaseWorld(case, work.world.family))
        found = Shrinking(drawn, self._fresh).shrink(failed[-1])
        self._give_up_world()
        return replace(attempt, counterexample=found)

    def _finish(self, item: pytest.Function, work: CaseAtWork) -> None:
        attempt = work.result
        if attempt is None or self._findings is None:
            return
        self._done.append(work.axes.id)
        attempt = work.result = self._findings.weigh(work.axes.id, replace(attempt, tags=(*attempt.tags, *work.tags)))
        evidence = self._findings.keep(work.axes.id, work.behaviour, attempt, work.case)
        attempt = work.result = self._findings.describe(work.axes.id, work.behaviour, attempt, evidence)
        self._tell_finished(item, work.axes, attempt, work.began, evidence=evidence)
        for event in self._findings.further(work.axes.id, attempt, item.nodeid, self.name, evidence):
            self._tell(event)
        raised = attempt.error or attempt.exception
        if raised:
            raise raised

    def _tell_finished(self, item: pytest.Item, axes: Axes, attempt: Attempt, began: float, *, evidence: str = "") -> None:
        self._tell(
            CaseFinished(
                at=time.time(),
                case=axes.id,
                behaviour=axes.behaviour,
                suite=Path(item.nodeid.partition("::")[0]).parent.name,
                node_id=item.nodeid,
                worker=self.name,
                verdict=attempt.verdict,
                reason=attempt.reason,
                seconds=time.monotonic() - began,
                evidence=evidence,
                coverage=self._coverage(),
                **attempt.told(),
            )
        )

    def _coverage(self) -> str:
        return "same node only" if self._runner and len(self._runner.nodes) == 1 else ""

    def _mark(self, report: Any, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Put the verdict on pytest's report: JSON values, as xdist carries no others."""
        work = item.stash.get(CASE, None)
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, Problem):
            report.netproof = {"verdict": str(Verdict.ERROR), "problem": str(error), "code": error.code}
            report.longrepr = item.session.shouldstop = str(error)  # a worker of xdist may have many more cases before it
            if not self._first_to_tell():
                report.outcome, report.longrepr = "skipped", (str(item.path), 0, "the run was stopped")
        elif report.when == "call" and work and work.result:
            report.netproof = {"verdict": str(work.result.verdict)}
            self._dress(report, work.result)
        elif report.when == "setup" and report.failed:
            report.longrepr = f"{type(error).__name__}: {error}" if not isinstance(error, AssertionError) else report.longrepr

    def _first_to_tell(self) -> bool:
        """One sentence is enough: what one worker has told of a problem the others need not repeat."""
        try:
            (Path(self.assignment.folder) / "problem.told").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _dress(self, report: Any, attempt: Attempt) -> None:
        if attempt.verdict is Verdict.DEVIATES:
            report.outcome, report.wasxfail = "skipped", attempt.reason
        elif attempt.verdict is Verdict.UNSUPPORTED:
            report.outcome, report.longrepr = "skipped", (str(report.fspath), 0, attempt.reason)
        elif report.failed and attempt.text:
            report.longrepr = attempt.text

    # telling

    def _progress(self, what: str, waited: float, limit: float) -> None:
        now = time.monotonic()
        if waited >= _TELL_EVERY and now - self._told.get(what, 0.0) >= _TELL_EVERY:
            self._told[what] = now
            self._tell(Waiting(time.time(), self._case, what, round(waited, 1), limit))

    def _tell(self, event: Event) -> None:
        self.journal(event)
