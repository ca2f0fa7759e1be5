"""The half of a run that works: it brings up what a case needs, runs it, confirms a failure in a fresh world, and tells the journal."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netproof import options
from netproof.cases import CASE, WORKER, Axes, axes_of
from netproof.cluster.state import ClusterState
from netproof.lab.system import die_with_parent
from netproof.model.behaviour import Behaviour, Level
from netproof.model.event import CaseDropped, CaseFinished, Event, RunStarted, Waiting
from netproof.model.flow import Family
from netproof.model.verdict import Verdict
from netproof.problem import Problem
from netproof.report.journal import Journal
from netproof.run import collection, ground
from netproof.run.assignment import Assignment
from netproof.run.attempt import INFRASTRUCTURE, Attempt
from netproof.run.errand import Errand, behind
from netproof.run.findings import Findings, long
from netproof.run.header import header_of
from netproof.run.lane import TELL_EVERY, Ground, Lane
from netproof.run.work import CaseAtWork, foreseen
from netproof.world.runner import Progress, Runner
from netproof.world.verdicts import Unsupported, Verdicted

_WHOLE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)  # how a session ends that nobody broke off


def _keeps_alone(item: pytest.Item) -> bool:
    """Whether no other case of the worker is to run beside it.

    One that disrupts the cluster has all others wait; where it comes first, these would also have it wait for the pods of their worlds.
    """
    return any(item.get_closest_marker(mark) for mark in ("timing", "disruptive"))


class Worker:
    """Registered as a plugin in every process that runs cases."""

    def __init__(self, config: pytest.Config, assignment: Assignment, name: str) -> None:
        self.config = config
        self.assignment = assignment
        self.name = name
        self.settings = assignment.settings(config)
        self.journal = Journal(Path(assignment.folder), name)
        self._ground: Ground | None = None
        self._findings: Findings | None = None
        self._lanes: list[Lane] = []
        self._next: pytest.Item | None = None
        self._ahead: list[Errand] = []  # of items to come
        self._errand: Errand | None = None  # of the present one
        self._cases = 0  # of the run
        self._long = long(config, self.settings.cni)
        self._finished = ""  # the item whose end was told last
        self._told = 0.0  # when a word was said of the cluster

    @classmethod
    def join(cls, config: pytest.Config, assignment: Assignment | None = None) -> None:
        """Take part in a run: what xdist's controller assigned, or in its own process. Nothing happens in a run without a cluster."""
        told = Assignment.of(config)
        if told and sys.platform == "linux":
            die_with_parent()  # of itself a worker goes on for 15 seconds, and longer where a case is under way
        assignment = assignment or told
        if assignment:
            name = getattr(config, "workerinput", {}).get("workerid", "main")
            config.pluginmanager.register(cls(config, assignment, name), WORKER)

    def selected(self, items: list[pytest.Item], left_out: list[pytest.Item]) -> None:
        """Told once of what was collected, and of the cases that wait for a run of their own."""
        proved, known, cases = collection.coverage(items)
        self._cases = cases
        if self.name in ("main", "gw0"):
            header = {"selected": proved, "behaviours": known, "cases": cases, "left_out": collection.told(left_out)}
            self._tell(RunStarted(time.time(), header))

    def is_long(self, item: pytest.Item) -> bool:
        """Whether a case is foreseen to fail, which takes until the cap."""
        axes = axes_of(item)
        return axes is not None and any(deviation.matches(axes.id) for deviation in self._long)

    # pytest's hooks

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, nextitem: pytest.Item | None) -> None:
        self._next = nextitem

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """After pytest's own, tried first, which skips what is marked so, and before fixtures: of plain hooks the last one comes first."""
        axes = axes_of(item)
        if axes is None:
            return
        began = time.monotonic()
        self._errand = next((errand for errand in self._ahead if errand.item is item), None)
        self._ahead = [errand for errand in self._ahead if errand is not self._errand]
        try:
            self._errand = self._errand or self._begin(item, axes)
            self._look_ahead()
            item.stash[CASE] = self._errand.prepared.result()
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

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        work, errand = pyfuncitem.stash.get(CASE, None), self._errand
        if work is None or errand is None:
            return None
        if errand.judged is None:
            given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
            self._errand = errand = errand.run(lambda _: lambda: pyfuncitem.obj(**given))
        work.result = self._result(errand)
        self._finish(pyfuncitem, work)
        return True

    def pytest_runtest_teardown(self) -> None:
        """A case whose fixtures could not be set up was prepared in vain."""
        if self._errand and self._errand.judged is None:
            self._errand.lane.do(self._errand.lane.leave)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        if axes_of(item) is not None:
            self._mark(report, item, call)
        return report

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus in _WHOLE or session.shouldstop or session.shouldfail:  # it was not its turn any more, or another worker took it over
            for errand in self._ahead:
                axes = axes_of(errand.item)
                self._tell(CaseDropped(time.time(), axes.id if axes else "", self.name))
        for lane in self._lanes:
            lane.end()
        self.journal.close()

    # what a case needs

    def _begin(self, item: pytest.Item, axes: Axes) -> Errand:
        """Have a lane prepare it that has nothing to do. Raises Unsupported, and Problem where the cluster can't be had."""
        ground = self._standing()
        behaviour = collection.behaviours()[axes.behaviour]
        self._require(item, axes, behaviour, ground.state)
        lane = self._free_lane(ground)
        return Errand(item, lane, lane.do(lambda: lane.prepare(item, axes, behaviour)))

    def _result(self, errand: Errand) -> Attempt:
        """What the present case comes to; until then, each lane that is done with another takes the next one."""
        assert errand.judged is not None
        while not errand.judged.done():
            self._look_ahead()
            wait([other.judged for other in (errand, *self._ahead) if other.judged and other.busy], return_when=FIRST_COMPLETED)
        return errand.judged.result()

    def _look_ahead(self) -> None:
        """Let the next cases run beside the present one, which waits most of the time, where nothing speaks against it."""
        if self._lane_count() == 1 or self._errand is None or self._next is None or _keeps_alone(self._errand.item):
            return
        begun = [errand.item for errand in self._ahead]
        for item in (self._next, *behind(self._next)):
            if item in begun:
                continue
            called = self._foreseen(item)
            if called is None or not self._has_free_lane():
                return
            self._begin_ahead(item, called)

    def _foreseen(self, item: pytest.Item) -> Callable[[CaseAtWork], Callable[[], object]] | None:
        """How to call a case before it is its turn; None where it has to wait for that."""
        if not isinstance(item, pytest.Function) or axes_of(item) is None or item.get_closest_marker("timing"):
            return None
        return foreseen(item)

    def _begin_ahead(self, item: pytest.Item, called: Callable[[CaseAtWork], Callable[[], object]]) -> None:
        present, axes = self._errand, axes_of(item)
        assert present is not None
        assert axes is not None
        if present.judged is None and (own := self._foreseen(present.item)):
            self._errand = present.run(own)
        with contextlib.suppress(Unsupported, Problem, *INFRASTRUCTURE):  # that will be told when it is its turn
            self._ahead.append(self._begin(item, axes).run(called))

    def _has_free_lane(self) -> bool:
        return len(self._busy_lanes()) < self._lane_count()

    def _busy_lanes(self) -> list[Lane]:
        under_way = [self._errand, *self._ahead] if self._errand else self._ahead
        return [errand.lane for errand in under_way if errand.busy]

    def _free_lane(self, ground: Ground) -> Lane:
        busy = self._busy_lanes() if self._lane_count() > 1 else []
        free = next((lane for lane in self._lanes if lane not in busy), None)
        if free is None:
            free = Lane(ground, threaded=self._lane_count() > 1)
            self._lanes.append(free)
        return free

    def _lane_count(self) -> int:
        option = self.config.option
        watched = option.usepdb or option.trace or option.setupshow or option.setupplan or option.setuponly or option.capture == "no"
        return 1 if watched else ground.lanes(self.settings, self.assignment.workers, self._cases)

    def _standing(self) -> Ground:
        if self._ground is None:
            state = ground.cluster(self.settings, self._progress)
            self._tell(RunStarted(time.time(), header_of(state)))
            self._findings = Findings.of(self.config, self.settings, state, Path(self.assignment.report))
            folder = Path(self.assignment.folder)
            means = functools.partial(self._means, state)
            self._ground = Ground(state, self.name, folder, means, itertools.count(1), self._tell, self._findings)
        return self._ground

    def _means(self, state: ClusterState, progress: Progress) -> Runner:
        words = options.said(self.config)
        bounds = ground.limits(
            self.settings,
            cap=words.number("cap"),
            budget=words.number("budget"),
            burst=words.number("burst"),
            smoke=self.assignment.smoke,
        )
        return ground.runner(
            self.settings,
            state,
            token=self.assignment.token,
            worker=self.name,
            workers=self.assignment.workers * self._lane_count(),
            limits=bounds,
            progress=progress,
            families=self.assignment.families,
            repeat=ground.repeat(self.settings, words.number("repeat")),
        )

    def _require(self, item: pytest.Item, axes: Axes, behaviour: Behaviour, state: ClusterState) -> None:
        """Raise Unsupported, with the reason, for a feature that this cluster lacks or its implementation does not claim."""
        if item.get_closest_marker("timing") and self.assignment.workers > 1:
            raise Unsupported("latencies are measured by one worker alone: run it without -n")
        family = axes.values["family"]
        if family not in state.families:
            raise Unsupported(f"this cluster has no {family} addresses")
        if behaviour.level is Level.VENDOR:
            raise Unsupported("a vendor's own behaviour, off unless asked for")
        for feature in (behaviour.feature, *axes.needs, *(["IPv6"] if family == Family.IPV6 else [])):
            if feature in state.unsupported:
                raise Unsupported(f"{feature}: {state.unsupported[feature]}")

    # a case

    def _finish(self, item: pytest.Function, work: CaseAtWork) -> None:
        attempt = work.result
        if attempt is None or self._findings is None:
            return
        attempt = work.result = self._findings.weigh(work.axes.id, replace(attempt, tags=(*attempt.tags, *work.tags)))
        since = time.monotonic() - work.began
        evidence = self._findings.keep(work.axes.id, work.behaviour, attempt, work.case, since=since)
        attempt = work.result = self._findings.describe(work.axes.id, work.behaviour, attempt, evidence)
        self._tell_finished(item, work.axes, attempt, work.began, ended=work.ended, evidence=evidence)
        for event in self._findings.further(work.axes.id, attempt, item.nodeid, self.name, evidence):
            self._tell(event)
        raised = attempt.error or attempt.exception
        if raised:
            raise raised

    def _tell_finished(
        self, item: pytest.Item, axes: Axes, attempt: Attempt, began: float, *, ended: float | None = None, evidence: str = ""
    ) -> None:
        self._finished = item.nodeid
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
                seconds=(ended or time.monotonic()) - began,
                evidence=evidence,
                coverage=self._coverage(),
                **attempt.told(),
            )
        )

    def _coverage(self) -> str:
        return "same node only" if any(lane.nodes == 1 for lane in self._lanes) else ""

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
        elif report.when == "setup" and report.skipped and self._finished != item.nodeid:
            axes, (_, _, reason) = axes_of(item), report.longrepr
            assert axes is not None
            self._tell_finished(item, axes, Attempt(Verdict.UNSUPPORTED, f"left out: {reason.removeprefix('Skipped: ')}"), time.monotonic())
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
        """What is said of the cluster, which no case has begun to wait for."""
        now = time.monotonic()
        if waited >= TELL_EVERY and now - self._told >= TELL_EVERY:
            self._told = now
            self._tell(Waiting(time.time(), "", what, round(waited, 1), limit))

    def _tell(self, event: Event) -> None:
        self.journal(event)
