"""Where a case runs: in the world at hand, one case after the other. A second lane lets the next case run while the present one waits."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from netproof.cases import Axes
from netproof.cluster.state import ClusterState
from netproof.model.behaviour import Behaviour
from netproof.model.event import CaseStarted, Event, Waiting
from netproof.model.flow import Family
from netproof.model.verdict import Verdict
from netproof.run.attempt import Attempt, run_once
from netproof.run.findings import Findings
from netproof.run.gate import Gate
from netproof.run.shrinking import Shrinking
from netproof.run.work import CaseAtWork
from netproof.world import world as worlds
from netproof.world.case import Case
from netproof.world.drawn import DrawnSet, relevant
from netproof.world.language import CaseWorld, Expect
from netproof.world.runner import Progress, Runner
from netproof.world.world import World

SHRINKINGS = 3  # of generated sets, by a lane in a run: of one fault a few are enough
TELL_EVERY = 2.0  # seconds between two words about one wait
_END_LIMIT = 5.0  # seconds for what is under way when a run is broken off: its next word to the cluster is refused

T = TypeVar("T")


class Ended(Exception):  # noqa: N818
    """The run is over, and nobody waits for this case any more."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all lanes of a worker stand on. `means` makes a runner, `numbers` are those of the worker's worlds."""

    state: ClusterState
    worker: str
    folder: Path  # of the run
    means: Callable[[Progress], Runner]
    numbers: Iterator[int]
    tell: Callable[[Event], None]
    findings: Findings


@dataclass(slots=True, eq=False)
class Lane:
    """Its own runner, and the world at hand. What it is told to do it does in turn, in a thread of its own if it is `threaded`.

    Raises what `ground.means` raises. It connects where it is made: to read the environment is for the thread that may write it.
    """

    ground: Ground
    threaded: bool
    _gate: Gate = field(init=False)
    _runner: Runner = field(init=False)
    _shares: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # of a case that is prepared to disrupt what others share
    _tasks: queue.SimpleQueue[Callable[[], None]] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _ended: bool = False
    _case: str = ""
    _told: dict[str, float] = field(default_factory=dict)
    _world: World | None = None
    _blemished: bool = False  # whether a fail was judged in the world that is there
    _done: list[str] = field(default_factory=list)
    _shrinkings: int = 0

    def __post_init__(self) -> None:
        self._gate = Gate(self.ground.folder)
        runner = self.ground.means(self._progress)
        self._runner = replace(runner, alone=lambda: self._gate.alone(runner))

    def do(self, task: Callable[[], T]) -> Future[T]:
        """Have it done after all that was asked for before."""
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(task())
            except BaseException as error:  # for whoever asks for the result: pytest's outcomes and Ctrl-C among them
                future.set_exception(error)

        if not self.threaded:
            work()
            return future
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="netproof-lane", daemon=True)
            self._thread.start()
        self._tasks.put(work)
        return future

    def _run(self) -> None:
        while True:
            self._tasks.get()()

    def end(self) -> None:
        """End with the run: whatever is under way is broken off, and changes nothing of the cluster from now on.

        Its world stays until all workers are done: while those of others went, two last cases took 22 s in place of 6 (measured, Cilium).
        """
        self._ended = True
        self._runner.api.end()
        self._runner.fleet.close()
        if self._thread:
            done = threading.Event()
            self._tasks.put(done.set)
            done.wait(_END_LIMIT)

    @property
    def nodes(self) -> int:
        """On how many nodes it may place pods."""
        return len(self._runner.nodes)

    # a case

    def prepare(self, item: pytest.Item, axes: Axes, behaviour: Behaviour) -> CaseAtWork:
        """The case with a world to run in. Raises whatever keeps it from having one."""
        self._refuse_when_ended()
        self._case = axes.id
        self.ground.tell(CaseStarted(time.time(), axes.id, item.nodeid, self.ground.worker))
        began = time.monotonic()
        self.leave()
        if self._world and self._wants_time(item) and not self._world.is_settled:
            self._give_up_world()
        disrupts = item.get_closest_marker("disruptive") is not None
        if self._world is None or disrupts:
            with contextlib.ExitStack() as shares:
                shares.enter_context(self._gate.shared())  # pods can't be made while the network's agents are away
                if self._world is None:
                    self._fresh()
                if disrupts:  # the others that restart the same wait for it, and do so together
                    self._shares = shares.pop_all()
        world = self._world
        assert world is not None
        case = Case(self._runner, world, axes.id, self._runner.limits)
        view = CaseWorld(case, Family(axes.values["family"]))
        return CaseAtWork(axes, behaviour, case, view, Expect(case, view), began, self._drawn(axes, view))

    def _wants_time(self, item: pytest.Item) -> bool:
        """Whether it counts how long the case takes, which so must not wait for what one before it left."""
        return self._runner.limits.budget is not None or item.get_closest_marker("timing") is not None

    def _drawn(self, axes: Axes, view: CaseWorld) -> DrawnSet | None:
        lacking = [*self.ground.state.unsupported, *self.ground.findings.not_drawn]
        return DrawnSet(axes.values["draw"], relevant(lacking), view) if "draw" in axes.values else None

    def judge(self, work: CaseAtWork, run: Callable[[], object]) -> Attempt:
        """Run it to its verdict, beside others; a fail is confirmed in a fresh world."""
        self._refuse_when_ended()
        try:
            with self._shares.pop_all() if self._gate.is_shared else self._gate.shared():
                return self._judged(work, run)
        finally:
            self._done.append(work.axes.id)
            work.ended = time.monotonic()

    def leave(self) -> None:
        """Let go of the cluster, where a case that was prepared to disrupt it is never judged."""
        self._shares.close()

    def _judged(self, work: CaseAtWork, run: Callable[[], object]) -> Attempt:
        first = self._first(work, run)
        confirm = first.wants_confirmation and not (first.verdict is Verdict.FAIL and self.ground.findings.foresees(work.axes.id))
        if not confirm:
            self._blemished |= first.verdict is Verdict.FAIL
            if not first.put_back:
                self._give_up_world()
            return first
        self._progress("a fail is confirmed in a fresh world", 0.0, work.case.limits.cap)
        try:
            work.case.again(self._fresh())
        except Exception as error:
            return first.unconfirmed(error)
        again = run_once(run, work.case, before=[])
        self._blemished = again.verdict is Verdict.FAIL
        if not again.put_back:
            self._give_up_world()
        return self._shrunk(first.confirmed_by(again), work)

    def _first(self, work: CaseAtWork, run: Callable[[], object]) -> Attempt:
        """A run in the world at hand; once more in a fresh one, where evidence is missing which a fail before it may have spoiled."""
        found = run_once(run, work.case, before=self._done)
        if found.verdict is not Verdict.INCONCLUSIVE or not self._blemished:
            return found
        try:
            work.case.again(self._fresh())
        except Exception as error:
            return found.unconfirmed(error)
        return run_once(run, work.case, before=[])

    def _shrunk(self, attempt: Attempt, work: CaseAtWork) -> Attempt:
        """A generated set that failed, with the smallest that still does. What the tries did is gone with their worlds."""
        failed = [step for step in attempt.steps if step.judgement.verdict is Verdict.FAIL]
        if work.generated is None or attempt.verdict is not Verdict.FAIL or not failed:
            return attempt
        if self._shrinkings >= SHRINKINGS:
            said = f"{SHRINKINGS} other sets were made smaller beside it; repeat this one alone"
            return replace(attempt, counterexample=said)
        self._shrinkings += 1
        self._give_up_world()
        case = Case(work.case.runner, work.case.world, work.axes.id, work.case.limits)
        drawn = replace(work.generated, world=CaseWorld(case, work.world.family))
        found = Shrinking(drawn, self._fresh).shrink(failed[-1])
        self._give_up_world()
        return replace(attempt, counterexample=found)

    # what it needs

    def _fresh(self) -> World:
        self._give_up_world()
        self._blemished = False
        self._world = worlds.make(self._runner, next(self.ground.numbers))
        return self._world

    def _give_up_world(self) -> None:
        if self._world is not None:
            world, self._world = self._world, None
            world.discard()

    def _progress(self, what: str, waited: float, limit: float) -> None:
        self._refuse_when_ended()
        now = time.monotonic()
        if waited >= TELL_EVERY and now - self._told.get(what, 0.0) >= TELL_EVERY:
            self._told[what] = now
            self.ground.tell(Waiting(time.time(), self._case, what, round(waited, 1), limit))

    def _refuse_when_ended(self) -> None:
        if self._ended:
            raise Ended
